"""A typed server that returns what it gets, and an untyped one in the same thread: what calls are timed against."""

import os

from libexo.stub import Interface, operation, serve


class Echo(Interface, label=0x7E):
    """The smallest interface with an argument and a result."""

    @operation(1)
    def echo(self, data: bytes) -> bytes:
        """Return *data*."""


class EchoServer(Echo):
    """Serves `Echo`."""

    def echo(self, data: bytes) -> bytes:
        """Return it."""
        return data


if __name__ == "__main__":
    serve(EchoServer(), name=os.environ["EXO_NAME"])

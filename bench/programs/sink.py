"""A receiver of messages without answers, which tells on request how many came."""

import os

from libexo.stub import Interface, operation, serve


class Sink(Interface, label=0x7B):
    """Counts, and tells."""

    @operation(1)
    def taken(self) -> int:
        """Return how many messages there were since this was last asked."""

    @operation(2, oneway=True)
    def take(self, data: bytes) -> None:
        """Take *data*, without an answer."""


class SinkServer(Sink):
    """Serves `Sink`."""

    count = 0

    def taken(self) -> int:
        """Start again from 0."""
        count, self.count = self.count, 0
        return count

    def take(self, data: bytes) -> None:
        """Count it."""
        self.count += 1


if __name__ == "__main__":
    serve(SinkServer(), name=os.environ["EXO_NAME"])

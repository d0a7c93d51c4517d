"""Takes messages that nobody waits for an answer to, and says, when it is asked, how many."""

import os

from libexo import attach
from libexo.stub import Interface, Server, operation, publish

STREAM = 0x7C
"""The label of such a message."""


class Sink(Interface, label=0x7B):
    """What tells."""

    @operation(1)
    def taken(self) -> int:
        """Return how many there were since this was last asked."""


class SinkServer(Sink):
    """Serves `Sink`."""

    count = 0

    def taken(self) -> int:
        """Start again from none."""
        count, self.count = self.count, 0
        return count


def main() -> None:
    """Serve until the system ends."""
    environment, sink = attach(), SinkServer()
    thread, server = environment.thread, Server(environment, sink)
    publish(environment, os.environ["EXO_NAME"])
    while True:
        sender, message = thread.wait()
        if message.label == STREAM:
            sink.count += 1
        elif (begun := server.begin(sender, message)) is not None:
            call, result = begun
            call.answer(result)


if __name__ == "__main__":
    main()

"""Bytes there and back over multiprocessing.Pipe: a Unix stream socket pair, with a length before each message."""

from multiprocessing import Pipe
from multiprocessing.connection import Connection

from bench.worker import peer, round_trips, work


def serve(end: Connection) -> None:
    """Send back what comes."""
    while True:
        end.send_bytes(end.recv_bytes())


def main() -> None:
    """Measure until stdin ends."""
    ours, theirs = Pipe()

    def call(payload: bytes) -> bytes:
        ours.send_bytes(payload)
        return ours.recv_bytes()

    with peer(lambda: serve(theirs), own_session=True):
        work(round_trips(call))


if __name__ == "__main__":
    main()

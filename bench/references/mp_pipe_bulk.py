"""Bytes one way over multiprocessing.Pipe, in pieces; an empty message asks for an answer, and one comes back."""

from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from bench.worker import Sampler, bulks, peer, pieces, timed, work


def serve(end: Connection) -> None:
    """Take what comes; answer what is empty."""
    while True:
        if not end.recv_bytes():
            end.send_bytes(b"")


def bulk(end: Connection, size: int) -> Sampler:
    """Return a sampler of *size* bytes."""
    piece, count = pieces(size)

    def send() -> None:
        for _ in range(count):
            end.send_bytes(piece)
        end.send_bytes(b"")
        end.recv_bytes()

    return timed(send)


def main() -> None:
    """Measure until stdin ends."""
    ours, theirs = Pipe()
    with peer(lambda: serve(theirs), own_session=True):
        work(bulks({"bulk": partial(bulk, ours)}))


if __name__ == "__main__":
    main()

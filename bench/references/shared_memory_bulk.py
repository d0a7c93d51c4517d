"""Bytes one way by multiprocessing.shared_memory: made, filled; there attached, and every page read."""

from functools import partial
from multiprocessing import Pipe, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory

from bench.worker import Sampler, bulks, peer, pieces, read_pages, timed, work


def serve(end: Connection) -> None:
    """Read what each name stands for; answer."""
    while True:
        memory = SharedMemory(end.recv())
        assert memory.buf is not None
        end.send(read_pages(memory.buf))
        memory.close()


def bulk(end: Connection, size: int) -> Sampler:
    """Return a sampler of *size* bytes."""
    piece, count = pieces(size)
    made: list[SharedMemory] = []

    def send() -> None:
        memory = SharedMemory(create=True, size=size)
        made.append(memory)
        assert memory.buf is not None
        for number in range(count):
            memory.buf[number * len(piece) : (number + 1) * len(piece)] = piece
        end.send(memory.name)
        end.recv()

    def free() -> None:
        memory = made.pop()
        memory.close()
        memory.unlink()

    return timed(send, free)


def main() -> None:
    """Measure until stdin ends."""
    ours, theirs = Pipe()
    resource_tracker.ensure_running()  # one for both sides: each would count what the other unlinks as lost
    with peer(lambda: serve(theirs), own_session=True):
        work(bulks({"bulk": partial(bulk, ours)}))


if __name__ == "__main__":
    main()

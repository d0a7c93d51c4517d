"""64 KiB of memory that can be shared: made, mapped, and each page written once, by other means."""

import mmap
import os
from multiprocessing.shared_memory import SharedMemory

from bench.worker import Sampler, timed, work

PAGE = 4096
SIZE = 16 * PAGE


def shared_memory() -> Sampler:
    """Return a sampler of the standard library's way."""
    made: list[SharedMemory] = []

    def make() -> None:
        memory = SharedMemory(create=True, size=SIZE)
        view = memory.buf
        assert view is not None
        for page in range(0, SIZE, PAGE):
            view[page] = 1
        made.append(memory)

    def free() -> None:
        memory = made.pop()
        memory.close()
        memory.unlink()

    return timed(make, free)


def closed() -> Sampler:
    """Return a sampler of the host's bare calls, the descriptor closed as soon as it is mapped."""
    made: list[mmap.mmap] = []

    def make() -> None:
        number = os.memfd_create("reference")
        os.ftruncate(number, SIZE)
        view = mmap.mmap(number, SIZE)
        for page in range(0, SIZE, PAGE):
            view[page] = 1
        os.close(number)
        made.append(view)

    return timed(make, lambda: made.pop().close())


def memfd() -> Sampler:
    """Return a sampler of the host's bare calls, without permissions."""
    made: list[tuple[int, mmap.mmap]] = []

    def make() -> None:
        number = os.memfd_create("reference")
        os.ftruncate(number, SIZE)
        view = mmap.mmap(number, SIZE)
        for page in range(0, SIZE, PAGE):
            view[page] = 1
        made.append((number, view))

    def free() -> None:
        number, view = made.pop()
        view.close()
        os.close(number)

    return timed(make, free)


if __name__ == "__main__":
    work({"shared_memory": shared_memory, "memfd": memfd, "closed": closed})

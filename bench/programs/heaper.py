"""The measuring side of memory without a server: one's own RAM capability, and the heap on it."""

from collections.abc import Callable
from functools import partial

import libexo
from bench.worker import Sampler, timed, work
from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.environment import Environment
from libexo.extent import Extent
from libexo.heap import Heap
from servers.memory.api import Memory

PAGES = 16
PROMISED = 1024
"""Frames that are promised: more than are in use at any time."""
SIZES = (1 << 10, 4 << 10, 16 << 10, 64 << 10)
"""Bytes of the blocks of a warm heap."""


def main() -> None:
    """Measure what is asked for until stdin ends."""
    environment = libexo.attach()
    heap = Heap(environment)
    warm: dict[str, Callable[[], Sampler]] = {f"warm-{size}": partial(_warm, heap, size) for size in SIZES}
    work({"fresh": lambda: _fresh(environment), **warm})


def _fresh(environment: Environment) -> Sampler:
    memory = Memory.connect(environment)
    ram = memory.ram()
    memory.promise(PROMISED)
    made: list[tuple[Extent, memoryview]] = []

    def make() -> None:
        extent, view = vm.carve(environment, ram, PAGES)
        for page in range(0, PAGES * FRAME_SIZE, FRAME_SIZE):
            view[page] = 1
        made.append((extent, view))

    def free() -> None:
        extent, view = made.pop()
        vm.unmap(environment, view)
        environment.sys.drop(extent.handle)

    return timed(make, free)


def _warm(heap: Heap, size: int) -> Sampler:
    def once() -> None:
        block = heap.allocate(size)
        view = block.view
        for page in range(0, size, FRAME_SIZE):
            view[page] = 1
        heap.free(block)

    once()
    return timed(once)


if __name__ == "__main__":
    main()

"""Passes bytes to BENCH_STORE by its ways, and times them. What is mapped there was written here before."""

import os
from collections.abc import Callable

import libexo
from bench.programs.connecting import connected
from bench.programs.store import Store
from bench.worker import Sampler, bulks, pieces, read_pages, timed, work
from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.environment import Environment
from libexo.extent import Extent
from servers.memory.api import Memory


class Shipper:
    """Makes the samplers of every way and size."""

    def __init__(self, environment: Environment) -> None:
        """Talk to the store and the memory server."""
        self._environment = environment
        self._memory = Memory.connect(environment)
        self._store = connected(Store, environment, os.environ["BENCH_STORE"])
        self._full: dict[int, tuple[Extent, memoryview]] = {}
        """By size: extents, read-only for others, with what is in them."""

    def ends(self, size: int) -> Sampler:
        """Return a sampler of an extent that is mapped, and read at both ends."""
        extent, view = self._filled(size)
        return _checked(lambda: self._store.ends(extent, size), view[0] + view[size - 1])

    def pages(self, size: int) -> Sampler:
        """Return a sampler of an extent that is mapped, and read in every page."""
        extent, view = self._filled(size)
        return _checked(lambda: self._store.pages(extent, size), read_pages(view[:size]))

    def copy(self, size: int) -> Sampler:
        """Return a sampler of copies, one call a piece."""
        piece, count = pieces(size)

        def send() -> int:
            return sum(self._store.copy(piece) for _ in range(count))

        return _checked(send, size)

    def _filled(self, size: int) -> tuple[Extent, memoryview]:
        if size not in self._full:
            extent = self._memory.allocate(-(-size // FRAME_SIZE))
            view = vm.map(self._environment, extent)
            piece, count = pieces(size)
            for number in range(count):
                view[number * len(piece) : (number + 1) * len(piece)] = piece
            self._full[size] = extent.read_only(), view
        return self._full[size]


def _checked(action: Callable[[], int], expected: int) -> Sampler:
    """Return a sampler of *action*, which returns what is *expected*."""
    if (found := action()) != expected:
        raise RuntimeError(f"{found} arrived, not {expected}")
    return timed(action)


def main() -> None:
    """Measure until stdin ends."""
    shipper = Shipper(libexo.attach())
    work(bulks({"ends": shipper.ends, "pages": shipper.pages, "copy": shipper.copy}))


if __name__ == "__main__":
    main()

"""Takes bytes: as an extent, which it maps, or as copies, which it forgets."""

import os

from bench.worker import read_pages
from libexo import vm
from libexo.extent import Extent
from libexo.stub import Interface, operation, serve


class Store(Interface, label=0x7A):
    """Both ways, and what was read."""

    @operation(1)
    def ends(self, extent: Extent, size: int) -> int:
        """Map *extent*; return what its first byte and the last of *size* come to."""

    @operation(2)
    def pages(self, extent: Extent, size: int) -> int:
        """Map *extent*; return what a byte of every page of *size* bytes comes to."""

    @operation(3)
    def copy(self, piece: bytes) -> int:
        """Return how long *piece* is."""


class StoreServer(Store):
    """Serves `Store`."""

    def ends(self, extent: Extent, size: int) -> int:
        """Unmap it after."""
        view = vm.map(self.environment, extent)
        read = int(view[0]) + int(view[size - 1])
        self._give_back(extent, view)
        return read

    def pages(self, extent: Extent, size: int) -> int:
        """Unmap it after."""
        view = vm.map(self.environment, extent)
        read = read_pages(view[:size])
        self._give_back(extent, view)
        return read

    def copy(self, piece: bytes) -> int:
        """It was copied in to get here."""
        return len(piece)

    def _give_back(self, extent: Extent, view: memoryview) -> None:
        vm.unmap(self.environment, view)
        self.environment.sys.drop(extent.handle)


if __name__ == "__main__":
    serve(StoreServer(), name=os.environ["EXO_NAME"])

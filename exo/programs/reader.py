"""A server that reads memory shared with it, and tries to write to it."""

import ctypes

from libexo import Extent, vm
from libexo.stub import Interface, operation


class Reader(Interface, label=0x50, name="tour-reader"):
    """Requests of the tour to another program."""

    @operation(1)
    def read(self, extent: Extent, size: int) -> bytes: ...  # type: ignore[empty-body] # the stub has it

    @operation(2)
    def overwrite(self, extent: Extent) -> None: ...


class ReaderServer(Reader):
    """Serves `Reader`."""

    def read(self, extent: Extent, size: int) -> bytes:
        """Map, and read."""
        return bytes(vm.map(self.environment, extent)[:size])

    def overwrite(self, extent: Extent) -> None:
        """Map, and write past Python's checks: the host's hardware refuses."""
        view = vm.map(self.environment, extent)
        kept = view.obj
        assert isinstance(kept, ctypes.Array)
        ctypes.memset(ctypes.addressof(kept), 0, 1)

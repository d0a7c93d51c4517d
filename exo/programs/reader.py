"""A server that reads memory which was shared with it, and tries to write to it."""

import ctypes

from libexo import Extent, vm
from libexo.stub import Interface, operation


class Reader(Interface, label=0x50, name="tour-reader"):
    """What the tour asks of another program."""

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
        """Map, and write below Python, which would know better: it is the host's hardware that says no."""
        view = vm.map(self.environment, extent)
        kept = view.obj
        assert isinstance(kept, ctypes.Array)
        ctypes.memset(ctypes.addressof(kept), 0, 1)

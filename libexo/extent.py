"""An extent, as programs pass it around: a handle to memory, and its frames."""

from typing import Annotated

import msgspec

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Rights
from libexo.nouns import FrameNumber, Frames


class Extent(msgspec.Struct, array_like=True):
    """A run of frames its holder may map. In a typed call it travels as a Map item: the receiver gets its own."""

    handle: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    """In the table of the environment that holds this object."""
    pages: Frames
    first: FrameNumber
    """Number of the first frame: names the extent between programs, where handles differ."""
    rights: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = int(Rights.READ | Rights.WRITE | Rights.TRANSFER)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.pages * FRAME_SIZE

    @property
    def writable(self) -> bool:
        """Whether it can be mapped for writing."""
        return bool(self.rights & Rights.WRITE)

    def read_only(self) -> "Extent":
        """Return the same extent, to be shared without the right to write."""
        return Extent(self.handle, self.pages, self.first, int(Rights.READ))


class Ram(Extent, array_like=True):
    """Frames from which its holder may carve extents (`libexo.vm.carve`); it cannot be mapped itself."""


class GrantedExtent(Extent, array_like=True):
    """As a result: the extent itself goes to the caller, and the server keeps no capability to it."""

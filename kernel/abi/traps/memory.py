"""Traps on memory: carve frames, map extents."""

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record, Small, Word
from kernel.abi.ids import ANY_FRAME
from kernel.abi.rights import Kind, Rights
from kernel.abi.trap import HANDLE_REFUSALS, Frame, Trap


class Carved(Record):
    """A new extent."""

    extent: int
    first: int


class Carve(Trap, tag=0x50):
    """Make `count` free frames of a RAM range into an extent, at `first` or in the smallest free run with room.

    With `zero` the frames read as zeros; otherwise used frames hold junk. With `maps` the answer
    brings the descriptor too, as MapExtent would, unless the host had no room to send it. The frames count to every
    holder of a capability that `ram` was derived from; beyond the `Limit` of one of them, carving is refused.
    """

    ram: Small
    count: Word
    first: Frame = ANY_FRAME
    zero: bool = True
    maps: bool = False
    result = Carved
    needs = (Kind.RAM, Rights.CONTROL)
    gives_descriptors = "memory, if asked for"
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.BAD_ARGUMENT,
        Refusal.HOST_FULL,
        Refusal.NO_FRAMES,
        Refusal.FRAME_BUSY,
        Refusal.OVER_LIMIT,
        Refusal.TABLE_FULL,
        Refusal.OVER_BUDGET,
        Refusal.TOO_DEEP,
    )


class Mapped(Record):
    """How many pages the capability is to, and whether the descriptor is writable."""

    count: int
    writable: bool
    paged: bool = False
    """It is an object of somebody else's: pages that are not there come only to who opens a `Window`."""
    first: int = 0
    pages: int = 0
    """The descriptor covers so many pages, from that one on: of an extent in pieces not all."""


class MapExtent(Trap, tag=0x51):
    """Hand over the descriptor of an extent, writable if the capability is.

    An extent of which parts were derived (Derive) is in pieces, each with memory of its own: the descriptor is of
    the piece that `page` lies in. The next piece begins where it ends.
    """

    extent: Small
    page: Small = 0
    result = Mapped
    needs = (Kind.EXTENT, Rights.READ)
    gives_descriptors = "memory"
    refusals = (*HANDLE_REFUSALS, Refusal.BAD_ARGUMENT, Refusal.RING_MEMORY, Refusal.HOST_FULL)


class Limit(Trap, tag=0x52):
    """Let the derivatives of a RAM capability carve up to `count` frames in all; return how many they have carved.

    Neither the caller's own carving counts, nor that of derivatives of other capabilities. Frames count until they
    are free again, whoever holds them. A limit below what is carved takes nothing, and allows nothing more until
    enough is free again.
    """

    ram: Small
    count: Word
    result = int
    needs = (Kind.RAM, Rights.CONTROL)
    refusals = HANDLE_REFUSALS

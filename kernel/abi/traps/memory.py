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
    """Make `count` free frames of a RAM range into an extent, at frame `first` or anywhere (first fit).

    With `zero` the frames read as zeros; otherwise frames that were used before hold junk. With `maps` the answer
    brings the descriptor too, as MapExtent would, unless the host had no room to send it. Frames count to whoever
    holds a capability that `ram` was derived from, and what is over the `Limit` of one of them is refused.
    """

    ram: Small
    count: Word
    first: Frame = ANY_FRAME
    zero: bool = True
    maps: bool = False
    result = Carved
    needs = (Kind.RAM, Rights.CONTROL)
    gives_descriptors = "memory, where it is asked for"
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
    """How many frames the descriptor covers, and whether it is writable."""

    count: int
    writable: bool


class MapExtent(Trap, tag=0x51):
    """Hand over the descriptor of an extent, writable as far as the capability goes."""

    extent: Small
    result = Mapped
    needs = (Kind.EXTENT, Rights.READ)
    gives_descriptors = "memory"
    refusals = (*HANDLE_REFUSALS, Refusal.RING_MEMORY, Refusal.HOST_FULL)


class Limit(Trap, tag=0x52):
    """Let what is derived from a RAM capability carve up to `count` frames in all; say how many it has carved.

    The caller's own carving is not counted, nor what was derived from others. Frames count until they are free
    again, whoever holds them meanwhile. A limit below what is carved takes nothing, and gives nothing more until
    enough is free again.
    """

    ram: Small
    count: Word
    result = int
    needs = (Kind.RAM, Rights.CONTROL)
    refusals = HANDLE_REFUSALS

"""The requests of sigma0 and of the older memory protocol, as messages. Pure: words in, plain numbers out.

*sigma0* (L4 X.2 reference manual, rev. 7): label -6 asks for an fpage, a page fault (label -2) for the page it
hit. The answer is one map item whose send base is the address; of the nil fpage where the request was refused.
Label -1001 sets how much is logged, or writes what was handed out to the log.

*The older protocol* is label 0 of the Pistachio fork that was to become an exokernel: operation, size, address in
MR1 to MR3; MR1 of the answer is the address, or 0. Its server answered with an address of its own space, useless
to all others; here a map item brings the memory, to that address in the caller's X.2 space.

Addresses are physical ones, in bytes: frame 0 begins at address 0.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from kernel.abi.ids import ANY_FRAME
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from libexo.ipc.message import FpageItem, Message
from libexo.l4.exo import MEM_ALLOC, MEM_FREE
from libexo.l4.format.fpage import Address, Fpage, FullyAccessible, IsIoFpage, Nilpage, Size
from libexo.l4.format.items import MapItem
from libexo.l4.format.words import WORD_BITS
from servers.memory.lent import Piece
from servers.memory.policy import MemoryRefused

VERBOSITY, DUMP = 1, 2
"""Extended requests."""

_ACCESS = 0b111
"""The bits of a fault's label that tell the kind of access."""
_EXTENDED = 1 << 3
"""The bit of a requested fpage that announces a third word, with the upper bits of its address."""
_ATTRIBUTES = (0, 1)
"""Default, and write-back, which is how the host caches; others are the host's to decide."""
_REQUEST, _HIGH_REQUEST = 2, 3
"""Words of a request for an fpage, without and with upper bits."""
_OLDER_REQUEST = 3
_EXTENDED_REQUEST = 2

EMPTY: Final = Message()


class Malformed(MemoryRefused):
    """The message lacks the words of such a request."""


class Request(NamedTuple):
    """A run of frames; `first` is ANY_FRAME for any run of that length, naturally aligned."""

    first: int
    length: int


def is_fault(label: int, kind: Label) -> bool:
    """Say whether *label* is that of a fault of *kind*, of any access."""
    return label & ~_ACCESS == kind


def page_request(words: Sequence[int], typed: Sequence[int], frames: int) -> Request:
    """Return the frames that a request for an fpage names, of RAM of *frames* frames. Raises MemoryRefused."""
    if typed or len(words) not in (_REQUEST, _HIGH_REQUEST):
        raise Malformed(
            f"{len(words)} untyped, {len(typed)} typed words: a request has two or three, none typed"
        )
    fpage = Fpage.of(words[0])
    if words[1] not in _ATTRIBUTES:
        raise MemoryRefused(f"attribute {words[1]:#x}: the host decides how memory is cached")
    if IsIoFpage(fpage):
        raise MemoryRefused("there are no ports")
    if Size(fpage) < FRAME_SIZE:
        raise MemoryRefused(f"{fpage!r}: the smallest page has {FRAME_SIZE} bytes")
    count = Size(fpage) // FRAME_SIZE
    if Address(fpage) + Size(fpage) == 1 << WORD_BITS:
        return Request(ANY_FRAME, count)  # base all ones, or the whole space, which is refused as too large
    if fpage & _EXTENDED and (len(words) != _HIGH_REQUEST or words[2]):
        raise MemoryRefused(f"{fpage!r}, upper bits {words[2:]}: outside RAM")
    return within(Request(Address(fpage) // FRAME_SIZE, count), frames)


def fault_request(words: Sequence[int], typed: Sequence[int], frames: int) -> Request:
    """Return the frame that a page fault hit, of RAM of *frames* frames. Raises MemoryRefused."""
    if typed or len(words) != _REQUEST:
        raise Malformed(f"{len(words)} untyped, {len(typed)} typed words: a page fault has two, none typed")
    return within(Request(words[0] // FRAME_SIZE, 1), frames)


def within(wanted: Request, frames: int) -> Request:
    """Return *wanted*, if it lies in RAM of *frames* frames. Raises MemoryRefused."""
    if wanted.first + wanted.length > frames:
        address = wanted.first * FRAME_SIZE
        raise MemoryRefused(
            f"{wanted.length} frames from address {address:#x}: outside RAM of {frames} frames"
        )
    return wanted


def extended_request(words: Sequence[int], typed: Sequence[int]) -> tuple[int, int]:
    """Return the kind of the extended request, and its argument. Raises MemoryRefused."""
    if typed or len(words) != _EXTENDED_REQUEST or words[0] not in (VERBOSITY, DUMP):
        raise Malformed(f"extended request {words}: 1 and a level, or 2 and whether to answer")
    return words[0], words[1]


def older_request(words: Sequence[int], typed: Sequence[int]) -> tuple[int, int, int]:
    """Return operation, pages, and address of an older request. Raises MemoryRefused."""
    if typed or len(words) != _OLDER_REQUEST:
        raise Malformed(
            f"{len(words)} untyped, {len(typed)} typed words: operation, size, and address are three"
        )
    operation, size, address = words
    if operation not in (MEM_ALLOC, MEM_FREE):
        raise Malformed(f"operation {operation}: there are {MEM_ALLOC} (alloc) and {MEM_FREE} (free)")
    return operation, -(-size // FRAME_SIZE), address


def covering(pieces: Sequence[Piece]) -> Fpage:
    """Return the smallest fpage that covers *pieces*, which are in order, with all rights."""
    first, last = pieces[0].first, pieces[-1].end - 1
    log2 = (first ^ last).bit_length()
    return Fpage((first >> log2 << log2) * FRAME_SIZE, FRAME_SIZE << log2) + FullyAccessible


def mapped(pieces: Sequence[Piece], rights: int, words: tuple[int, ...] = ()) -> Message:
    """Return the answer that maps *pieces* with *rights* at their own addresses; *words* are its untyped ones."""
    fpage = covering(pieces)
    base = Address(fpage)
    extents = tuple(
        (piece.first * FRAME_SIZE - base, piece.length * FRAME_SIZE, piece.handle, rights) for piece in pieces
    )
    return Message(words=words, items=(FpageItem(extents),), typed=MapItem(fpage, base).words)


def refused() -> Message:
    """Return the answer to a refused request of sigma0's: a map item of the nil fpage."""
    return Message(items=(FpageItem(()),), typed=MapItem(Nilpage, 0).words)

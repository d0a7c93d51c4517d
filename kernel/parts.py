"""Parts of extents: capabilities to some of the pages, by which no others can be mapped.

A program that can map a memory file can map all of it. So the memory of an extent is in *pieces*
(`hwmodel.pieces`), first in one, and a capability is to whole pieces. To derive a part, pieces are split where it
begins and ends: what lies behind gets new memory, which is taken from all who had the old one mapped; they are told
MOVED, and map it again. Nothing waits for them. Pieces are never joined again, before the extent is free.

Frames count as before: a part has none of its own. A piece costs a descriptor, which is counted to who split it.
"""

from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.rights import Rights
from kernel.capability import Capability, derive
from kernel.errors import Refused
from kernel.frames import Extent

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.exposure import Exposure
    from kernel.jobs import Steps

_LEAST = 64
"""Pages of a piece that is made in advance."""


def derive_part(
    exposure: "Exposure", parent: Capability, caller: "Environment", rights: Rights, first: int, count: int
) -> "Steps[int]":
    """Derive *count* pages of *parent*, 0: all from *first* on; return the handle. Raises Refused, Exhausted."""
    extent = parent.resource
    if not isinstance(extent, Extent):
        raise Refused(Refusal.NOT_WHOLE, f"{extent!r} has no parts: {first}+{count}")
    if not parent.rights & Rights.TRANSFER:
        raise Refused(Refusal.MISSING_RIGHT, f"needs {Rights.TRANSFER!r}, has {parent.rights!r}")
    span, first = extent.span(parent), max(first, 0)
    pages = span[first : first + count if count else None]
    if not pages or len(pages) < count:
        raise Refused(Refusal.BAD_ARGUMENT, f"pages {first}+{count} of {len(span)}")
    caller.table.check_room(caller)
    yield from extent.lock()
    try:
        extent.check_no_ring()
        yield from extent.split(pages.stop, _LEAST, caller.budget)
        yield from extent.split(pages.start, len(pages), caller.budget)
        made = derive(exposure, parent, caller, rights)
        made.span = pages
    finally:
        extent.unlock()
    return made.handle

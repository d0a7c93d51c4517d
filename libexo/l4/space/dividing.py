"""Parts of extents that are granted: what an fpage covers of an extent gets frames of its own.

A part that the kernel derives (Derive) is its deriver's to take back, and goes with the rest of the extent: that is
what a map item wants, and no grant. Memory that its space has to itself may be moved without anybody seeing it. So
the covered part gets new memory, with the same contents at the same addresses, and that is granted. The rest of the
extent stays; until all of it is given up, the covered part counts twice. Stores of other threads to the part,
meanwhile, may be lost; a view of it that a program keeps shows the old memory.

A space has an extent to itself if no other capability leads to it but the one that the memory server, as sigma0,
keeps and does not map, and if nothing of it was passed on from here since it was last taken back.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD, thread_number
from kernel.abi.limits import FRAME_SIZE
from libexo.errors import ExoError, TrapRefused
from libexo.l4.errors import Overflow
from libexo.l4.space.regions import Holding, Region

if TYPE_CHECKING:
    from libexo.environment import Environment

_SIGMA0 = "memory"


def divided(environment: "Environment", part: Region, content: memoryview) -> Holding | None:
    """Return memory of its own for *part* of an extent, whose bytes are *content*; None: others have it, too.

    Raises Overflow when there is no memory.
    """
    holding, sigma0 = part.holding, environment.kip.lookup(_SIGMA0)
    if holding.given or holding.leaving or not sigma0 or not _alone(environment, holding.handle, sigma0):
        return None
    own = environment.kip.thread(environment.thread.id)
    if own is None or own.redirector != NIL_THREAD:
        raise Overflow(
            f"part of the extent at {part.base:#x}: who is redirected cannot ask for memory for it"
        )
    try:
        extent = environment.services.memory().try_allocate(len(content) // FRAME_SIZE)
        view = environment.views.map(extent.handle)
    except (ExoError, OSError) as error:
        raise Overflow(f"there is no memory for part of the extent at {part.base:#x}: {error}") from error
    view[:] = content
    made = Holding(extent.handle, len(content), holding.rights)
    made.view, made.accessed = view, holding.accessed
    return made


def _alone(environment: "Environment", handle: int, sigma0: int) -> bool:
    """Say whether the extent of *handle* is this environment's alone; sigma0, which gave it, may keep its own."""
    try:
        found = environment.sys.inspect(handle)
    except TrapRefused:
        return False
    row = environment.kip.extent(found.first)
    keeps = thread_number(found.origin) == thread_number(sigma0) and not found.holders
    return row is not None and not row.paged and row.capabilities <= 1 + keeps

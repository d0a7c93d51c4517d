"""Mapping extents.

    view = vm.map(env, extent)      # a memoryview: writable if the extent is

A mapping lives until it is unmapped, or nothing refers to it: not the view, and nothing that was sliced, cast or
made an array of it. When the extent's memory is taken by force, the next access ends in SIGBUS; when it only moved
(a share was revoked, by whomever), all of them go on where they were. The host itself copies to and from no memory
that was taken: a `write` of a view to a file in that moment fails with EFAULT. A server is not ended by who takes
back what came with a request: it finds zeros there, and its caller the error MemoryTaken instead of a result.
"""

from libexo import timeouts
from libexo.attachment import Attachment
from libexo.extent import Extent, Ram
from libexo.ipc.message import GrantItem, MapItem

LONGEST_GRACE = (1 << 32) - 1
"""Of a revocation, in microseconds."""


def map(environment: Attachment, extent: Extent | MapItem | GrantItem) -> memoryview:  # noqa: A001 - the field's word
    """Map *extent*, or what came in a message; return its bytes, writable if it is. Raises TrapRefused, OSError."""
    return environment.views.map(extent.handle)


def carve(environment: Attachment, ram: Ram, pages: int) -> tuple[Extent, memoryview]:
    """Carve an extent of *pages* frames, all zeros, from *ram*, and map it, in one crossing into the kernel.

    Raises TrapRefused (OVER_LIMIT: whoever gave *ram* is to promise more), OSError.
    """
    return environment.views.carve(ram, pages)


def unmap(environment: Attachment, view: memoryview) -> None:
    """End a mapping; the view, and what was sliced from it, must not be used again.

    Raises BufferError while an array of another library is made of *view* itself.
    """
    environment.views.unmap(view)


def revoke(environment: Attachment, extent: Extent, seconds: float = 0) -> int:
    """Take *extent* back from everybody it was shared with, after *seconds* of grace; return from how many.

    Where the memory had to be replaced, every mapping of one's own goes on with the new, before this returns. What
    other strands, or other holders, write meanwhile may be lost. Raises ValueError: no such grace.
    """
    microseconds = timeouts.nanoseconds(seconds) // 1000
    if microseconds > LONGEST_GRACE:
        raise ValueError(f"seconds = {seconds!r}: the longest grace is {LONGEST_GRACE // 1_000_000} s")
    count, descriptors = environment.sys.revoke(extent.handle, microseconds)
    for descriptor in descriptors:
        environment.views.replaced(extent.handle, descriptor)
    return count

"""Mapping extents.

    view = vm.map(env, extent)      # a memoryview: writable if the extent is
    window = vm.reserve(env, 1000)  # addresses in which extents lie where they are told to (`libexo.vm.window`)

A mapping lives until it is unmapped, or nothing refers to it: neither the view, nor a slice, cast or
array made of it. When the extent's memory is taken by force, the next access ends in SIGBUS; when it only moved
(some holder revoked a share), all mappings go on where they were. The host itself copies to and from no memory
that was taken: a `write` of a view to a file in that moment fails with EFAULT. A caller that takes back the memory
of its request cannot end the server: the server finds zeros there, and the caller gets MemoryTaken for a result.
"""

from libexo import timeouts
from libexo.attachment import Attachment
from libexo.extent import Extent, Ram
from libexo.ipc.message import GrantItem, MapItem
from libexo.vm.tables import Hierarchical, Inverted, Linear, PageTable
from libexo.vm.window import Advice, Window, map_file, reserve, sync

__all__ = [
    "LONGEST_GRACE",
    "Advice",
    "Hierarchical",
    "Inverted",
    "Linear",
    "PageTable",
    "Window",
    "carve",
    "map",
    "map_file",
    "reserve",
    "revoke",
    "sync",
    "touch",
    "unmap",
]

LONGEST_GRACE = (1 << 32) - 1
"""Of a revocation, in microseconds."""


def map(environment: Attachment, extent: Extent | MapItem | GrantItem) -> memoryview:  # noqa: A001 - the field's word
    """Map *extent*, or an item of a message; return its bytes, writable if it is. Raises TrapRefused, OSError."""
    return environment.views.map(extent.handle)


def carve(environment: Attachment, ram: Ram, pages: int) -> tuple[Extent, memoryview]:
    """Carve an extent of *pages* frames, all zeros, from *ram*, and map it, in one crossing into the kernel.

    Raises TrapRefused (OVER_LIMIT: the giver of *ram* must promise more), OSError.
    """
    return environment.views.carve(ram, pages)


def unmap(environment: Attachment, view: memoryview) -> None:
    """End a mapping; the view, and slices of it, must not be used again.

    Raises BufferError while an array of another library refers to *view* itself.
    """
    environment.views.unmap(view)


def touch(
    environment: Attachment, view: memoryview, offset: int = 0, size: int = 0, *, write: bool = False
) -> None:
    """Wait until *size* bytes of *view*, which `map` returned, are there from *offset* on; 0: all the rest.

    For memory that another program pages (`libexo.pager`): before a system call uses it, which would not wait, and
    on the simulated machine before any use.
    """
    environment.host.touch(view, offset, size or len(view) - offset, write=write)


def revoke(environment: Attachment, extent: Extent, seconds: float = 0) -> int:
    """Take *extent* back from all it was shared with, after *seconds* of grace; return from how many.

    If the memory had to be replaced, every mapping of one's own has the new one when this returns.
    Raises ValueError for a bad grace.
    """
    microseconds = timeouts.nanoseconds(seconds) // 1000
    if microseconds > LONGEST_GRACE:
        raise ValueError(f"seconds = {seconds!r}: the longest grace is {LONGEST_GRACE // 1_000_000} s")
    count, descriptors = environment.sys.revoke(extent.handle, microseconds)
    for descriptor in descriptors:
        environment.views.replaced(extent.handle, descriptor)
    if count and not descriptors:  # its memory may be in pieces
        environment.views.moved(extent.handle)
    return count

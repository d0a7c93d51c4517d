"""Mapping extents.

    view = vm.map(env, extent)      # a memoryview: writable if the extent is

A view lives until it is unmapped or nothing refers to it. When the extent's memory is taken by force, the next
access ends in SIGBUS; when it only moved (a share was revoked), the view goes on where it was.
"""

import weakref
from typing import TYPE_CHECKING

from kernel.abi.limits import FRAME_SIZE
from libexo.extent import Extent
from libexo.message import GrantItem, MapItem

if TYPE_CHECKING:
    from libexo.environment import Environment


class Views:
    """The mapped extents of one environment, by handle."""

    def __init__(self, environment: "Environment") -> None:
        """Start with none."""
        self._environment = environment
        self._views: dict[int, tuple[weakref.ref[memoryview], bool]] = {}
        """By handle: the view, and whether it is writable."""

    def map(self, handle: int) -> memoryview:
        """Map the extent of *handle*, whole."""
        mapped, descriptor = self._environment.sys.map_extent(handle)
        view = self._environment.host.map(descriptor, mapped.count * FRAME_SIZE, writable=mapped.writable)
        self._views[handle] = weakref.ref(view), mapped.writable
        return view

    def moved(self, handle: int) -> None:
        """The memory of *handle* was replaced: put the new where the view is."""
        view = self._view(handle)
        if view is not None:
            mapped, descriptor = self._environment.sys.map_extent(handle)
            self._environment.host.remap(view, descriptor, writable=mapped.writable)

    def replaced(self, handle: int, descriptor: object) -> None:
        """The same, with the descriptor that came with the reply."""
        view = self._view(handle)
        if view is None:
            self._environment.host.close_descriptor(descriptor)
        else:
            self._environment.host.remap(view, descriptor, writable=self._views[handle][1])

    def forget(self, handle: int) -> None:
        """The handle is gone."""
        self._views.pop(handle, None)

    def _view(self, handle: int) -> memoryview | None:
        known = self._views.get(handle)
        return known[0]() if known is not None else None


def map(environment: "Environment", extent: Extent | MapItem | GrantItem) -> memoryview:  # noqa: A001 - the field's word
    """Map *extent*, or what came in a message; return its bytes, writable if it is. Raises TrapRefused, OSError."""
    return environment.views.map(extent.handle)


def unmap(environment: "Environment", view: memoryview) -> None:
    """End a mapping; the view, and what was sliced from it, must not be used again."""
    environment.host.unmap(view)


def revoke(environment: "Environment", extent: Extent, seconds: float = 0) -> int:
    """Take *extent* back from everybody it was shared with, after *seconds* of grace; return from how many."""
    count, descriptors = environment.sys.revoke(extent.handle, int(seconds * 1_000_000))
    for descriptor in descriptors:
        environment.views.replaced(extent.handle, descriptor)
    return count

"""The memory of a channel as one side maps it: missing memory is found without harm, moved memory mapped again.

The kernel takes an extent from all when its holder ends, and moves it when one of several holders leaves the
system. Until an environment hears of it, its next access would end it. This mapping is guarded, and not one of
the environment's views: nobody else puts new memory under it, so a side that finds it missing knows that its
knowledge of it is void.
"""

from typing import TYPE_CHECKING

from kernel.abi.limits import FRAME_SIZE
from libexo.errors import TrapRefused
from libexo.host.guard import guard
from libexo.publish.layout import CONTROL, ChannelEnded

if TYPE_CHECKING:
    from libexo.environment import Environment


class Window:
    """One mapping of the extent of a handle."""

    words: memoryview
    """All of it, as words."""
    data: memoryview
    """The ring, as bytes."""

    def __init__(self, environment: "Environment", handle: int) -> None:
        """Map it. Raises TrapRefused, OSError."""
        self._environment = environment
        self._handle = handle
        self._views: tuple[memoryview, ...] = ()
        self._map()

    def reopen(self) -> None:
        """Map the memory's replacement. Raises ChannelEnded when there is none."""
        self.close()
        try:
            self._map()
        except (TrapRefused, ValueError) as refused:
            raise ChannelEnded("the memory of the channel was taken: its publisher ended") from refused

    def _map(self) -> None:
        mapped, descriptor = self._environment.sys.map_extent(self._handle)
        view = self._environment.host.map(descriptor, mapped.count * FRAME_SIZE, writable=mapped.writable)
        guard(view)
        self.writable = mapped.writable
        self.words, self.data = view.cast("Q"), view[CONTROL:]
        self._views = (self.words, self.data, view)

    def close(self) -> None:
        """Unmap it."""
        for view in self._views:
            view.release()
        self._views = ()

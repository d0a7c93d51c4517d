"""Joining a channel by its server's name, and waking by that server."""

from typing import Any

from libexo.extent import Extent
from libexo.publish.publisher import Publisher
from libexo.stub import DEFERRED, Interface, operation


class Publication(Interface, label=0x49, name="publication"):
    """The service of a channel to its readers; records do not come this way."""

    @operation(1)
    def join(self) -> Extent:  # type: ignore[empty-body]  # an operation has no body
        """Return the channel's extent, to be read."""

    @operation(2)
    def after(self, frame: int, position: int) -> bool:  # type: ignore[empty-body]  # likewise
        """Answer once there is a record after *position*; False: the channel is closed, or not at *frame*."""


class PublicationServer(Publication):
    """Serves one channel. Its program publishes between requests: from operations of its own, alarms, sources.

    A reader that asks to be woken while nothing is served goes unheard; it looks for itself from time to time.
    """

    def __init__(self, publisher: Publisher[Any]) -> None:
        """Let others read the channel of *publisher*."""
        self.publisher = publisher

    def join(self) -> Extent:
        """Share the extent."""
        return self.publisher.extent

    def after(self, frame: int, position: int) -> bool:
        """Keep the call, unless there is a record already."""
        publisher = self.publisher
        if publisher.closed or frame != publisher.extent.first:
            return False
        if publisher.is_past(position):
            return True
        publisher.tell_next(self.call)
        later: bool = DEFERRED
        return later

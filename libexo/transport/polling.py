"""Waiting for channels and plain descriptors together."""

import select
from collections.abc import Sequence

from libexo.transport.base import Source
from libexo.transport.stream import StreamChannel


class Poll:
    """Waits for channels and descriptors: as `select.poll`, but it looks into channels."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Wait for *sources*."""
        self._channels = {source.fileno(): source for source in sources if isinstance(source, StreamChannel)}
        poll = select.poll()
        for source in sources:
            poll.register(source.fileno(), select.POLLIN)
        self._wait = poll.poll

    def poll(self, milliseconds: int | None = None) -> Sequence[tuple[int, int]]:
        """Return the plain descriptors that have something, with their events; channels are told themselves."""
        channels = self._channels
        for channel in channels.values():
            if channel.messages:
                milliseconds = 0
        found = self._wait(milliseconds)
        if len(found) == 1 and found[0][0] in channels:
            return ()
        return [each for each in found if each[0] not in channels]

"""Waiting for channels and plain descriptors together."""

import select
from collections.abc import Callable, Sequence

from libexo.transport.base import Source
from libexo.transport.stream import StreamChannel


class Poll:
    """Waits for channels and descriptors: as `select.poll`, but it looks into channels."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Wait for *sources*."""
        self._channels = {source.fileno(): source for source in sources if isinstance(source, StreamChannel)}
        self._numbers = [source.fileno() for source in sources]
        self._wait = _registered(self._numbers)
        self._waits = False
        """In `_wait`, which a signal's handler must not use then."""

    def poll(self, milliseconds: int | None = None) -> Sequence[tuple[int, int]]:
        """Return the plain descriptors that have something, with their events; channels are told themselves."""
        channels = self._channels
        for channel in channels.values():
            if channel.messages:
                milliseconds = 0
        found = self.ask(milliseconds)
        if len(found) == 1 and found[0][0] in channels:
            return ()
        return [each for each in found if each[0] not in channels]

    def ask(self, milliseconds: int | None) -> list[tuple[int, int]]:
        """Wait for all descriptors; return those that have something."""
        if self._waits:
            return _registered(self._numbers)(milliseconds)
        self._waits = True
        try:
            return self._wait(milliseconds)
        finally:
            self._waits = False


def _registered(numbers: Sequence[int]) -> Callable[[int | None], list[tuple[int, int]]]:
    """Return what waits for the descriptors of these *numbers*."""
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    return poll.poll

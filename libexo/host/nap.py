"""Waiting for rings and for everything else at once: look for a while, say that we sleep, sleep.

In the place of a `select.poll`. A ring end is a `libexo.transport.ring.ends.RingEnd`; what brings messages through
a socket of ZeroMQ is asked, because its descriptor tells of changes only.
"""

import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from libexo.host.base import Source
    from libexo.transport.ring.ends import RingEnd
    from libexo.transport.ring.line import Line
    from libexo.transport.zmq import ZmqInbox

ASK_AGAIN = 64
"""Sleeps after which the host is asked again whether we are kept on one processor."""
LINGER = 0.001
"""How long to sleep before the second look (`libexo.transport.ring.line`, *Order*), in seconds."""


class Nap:
    """Waits for one set of sources, of which some are rings."""

    def __init__(self, sources: "Sequence[Source]", now: Callable[[], int]) -> None:
        """Wait for *sources*; *now* is the time in ns."""
        self._now = now
        self._processor = -1
        """The one we are kept on, -1 if there are several, as last asked."""
        self._naps = 0
        self._rings = [cast("RingEnd", source) for source in sources if hasattr(source, "doze")]
        others = [source for source in sources if not hasattr(source, "doze")]
        others += [source for ring in self._rings for source in ring.inner()]
        self._sockets = [cast("ZmqInbox", source) for source in others if hasattr(source, "look")]
        self._plain = {source.fileno() for source in others} - {socket.fileno() for socket in self._sockets}
        self._changes = -1
        self._bells: dict[int, tuple[RingEnd, Line]] = {}
        self._watch = select.epoll()
        for source in others:
            self._watch.register(source.fileno(), select.EPOLLIN)

    def poll(self, milliseconds: int = -1) -> list[tuple[int, int]] | None:
        """Wait that long, or for ever; return the plain descriptors that have something, with their events.

        None: there is something in a ring, and nobody has looked at anything else.
        """
        if milliseconds and self._look():
            return None
        if self._naps % ASK_AGAIN == 0:
            processors = os.sched_getaffinity(0)
            self._processor = processors.pop() if len(processors) == 1 else -1
        self._naps += 1
        began = self._now()
        events: list[tuple[int, int]] | None = None
        try:
            if not any(ring.doze() for ring in self._rings):
                asked = self._ask_sockets()
                events = [] if asked else self._sleep(milliseconds / 1000 if milliseconds >= 0 else None)
        finally:
            ended = self._now()
            for ring in self._rings:
                shares = ring.wake(self._processor)
                ring.patience.slept(began, ended, shares=shares)
        return None if events is None else self._took(events)

    def _look(self) -> bool:
        """Look at the rings for a while, where nobody has just done so."""
        for ring in self._rings:
            if ring.looked:
                ring.looked = False
            elif ring.spin():
                return True
        return False

    def _ask_sockets(self) -> bool:
        """Ask the sockets whether they have a message, and tell those that do."""
        found = False
        for socket in self._sockets:
            if socket.look():
                socket.is_ready = found = True
        for ring in self._rings:
            ring.found_others = found
        return found

    def _sleep(self, seconds: float | None) -> list[tuple[int, int]]:
        """Sleep that long at most; return what the host says."""
        if sum(ring.changes for ring in self._rings) != self._changes:
            self._watch_bells()
        linger = LINGER if seconds is None else min(LINGER, seconds)
        events = self._watch.poll(linger)
        if events or (seconds is not None and seconds <= linger) or any(ring.stirs() for ring in self._rings):
            return events
        return self._watch.poll(seconds if seconds is None else seconds - linger)

    def _watch_bells(self) -> None:
        """Watch the doorbells of all lines there are now."""
        wanted = {number: (ring, line) for ring in self._rings for number, line in ring.bells().items()}
        for number, known in self._bells.items():
            if wanted.get(number) != known:
                with suppress(OSError):  # it was closed, and forgotten with that
                    self._watch.unregister(number)
        for number, line in wanted.items():
            if self._bells.get(number) != line:
                self._watch.register(number, select.EPOLLIN)
        self._bells = wanted
        self._changes = sum(ring.changes for ring in self._rings)

    def _took(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Silence the doorbells that rang; return what else has something."""
        plain = []
        for number, event in events:
            if number in self._bells:
                ring, line = self._bells[number]
                ring.rang(line)
                continue
            if number in self._plain:
                plain.append((number, event))
            for ring in self._rings:
                ring.found_others = True
        return plain

"""Waiting for rings and all other sources at once: spin for a while, say that we sleep, sleep.

It replaces a `select.poll`; an event loop (`libexo.host.loopwatch`) announces its sleep, sleeps by itself, and
wakes. A ring end is a `libexo.transport.ring.ends.RingEnd`. A ZeroMQ socket is asked for messages if it was used
since it was last asked, because its descriptor tells of changes only.

Doorbells are watched for edges: each ring of one wakes us, silenced or not. So they are
silenced only now and then, before they are full, and a wake-up is one host call on either side.
"""

import ctypes
import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

from libexo.host.ring_sources import RingSources

if TYPE_CHECKING:
    from libexo.transport.base import Source
    from libexo.transport.ring.duplex import Duplex
    from libexo.transport.ring.ends import RingEnd
    from libexo.transport.zmq_inbox import ZmqInbox

SILENCE_AFTER = 64
"""Sleeps after which doorbells are silenced, and the host is asked again whether we are kept on one processor."""
LINGER = 0.05
"""How long to sleep before the second look (`libexo.transport.ring.duplex`, *Order*), in seconds: longer than the
host's own tick, for a timer that comes before it costs ten times what all the rest does."""
YIELDS = 2
"""How often to let the other side have the processor both are kept on, before sleeping."""
KEPT_NS = 200_000
"""The longest that handing it over may take, in all."""
KEEP = 64
"""How often we sleep at once after it took longer."""
EVENTS = 16
"""Events taken at a time; a buffer for as many is made each time."""
_core = ctypes.PyDLL(None).sched_getcpu
"""The processor we are on at this moment; -1 where the host does not tell."""
T = TypeVar("T")
_EDGES = select.EPOLLIN | select.EPOLLET
_HUNG_UP = select.EPOLLHUP | select.EPOLLERR


class RingPoll(RingSources):
    """Waits for a set of sources, of which some are rings."""

    def __init__(self, sources: "Sequence[Source]", now: Callable[[], int]) -> None:
        """Wait for *sources*, until told otherwise; *now* is the time in ns."""
        self._now = now
        self._watch = select.epoll()
        self._wait = self._watch.poll
        self._others: dict[int, Source] = {}
        """Sources besides doorbells, by descriptor, because its number alone may be another source's by now."""
        self._bells: dict[int, tuple[RingEnd, Duplex]] = {}
        self.watch(sources)
        self._is_kept = False
        """We are kept on one processor, as last asked."""
        self._sleeps = 0
        self._keeps = 0
        """How often not to hand over our processor."""

    def watch(self, sources: "Sequence[Source]") -> None:
        """Wait for *sources*, and nothing else, from now on."""
        wanted = {source.fileno(): source for source in self.part(sources)}
        self._sockets = {
            number: cast("ZmqInbox", source) for number, source in wanted.items() if hasattr(source, "look")
        }
        self._change(self._others, wanted, select.EPOLLIN)
        self._others = wanted
        self._changes = -1

    def _change(self, known: dict[int, T], wanted: dict[int, T], events: int) -> None:
        """Watch the descriptors of *wanted* for *events*, instead of those of *known*."""
        for number, each in known.items():
            if wanted.get(number) != each:
                with suppress(OSError):  # it was closed, and forgotten with that
                    self._watch.unregister(number)
        for number, each in wanted.items():
            if known.get(number) != each:
                self._watch.register(number, events)

    # ------------------------------------------------------------------------------------------ for an event loop

    def fileno(self) -> int:
        """Return the descriptor that tells a loop of news."""
        return self._watch.fileno()

    def prepare_to_sleep(self) -> bool:
        """Announce our sleep. True: there is something to do instead."""
        if not self._sleeps % SILENCE_AFTER:
            self._silence()
        self._sleeps += 1
        self._watch_bells()
        return any(ring.prepare_to_sleep() for ring in self._rings)

    def wake(self) -> None:
        """Announce that we are awake."""
        if events := self._wait(0, EVENTS):
            self._took(events)
        for ring in self._rings:
            with suppress(ValueError):  # it was closed meanwhile
                ring.wake(-1)

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    # ---------------------------------------------------------------------------------------------- for a strand

    def poll(self, milliseconds: int = -1) -> list[tuple[int, int]] | None:
        """Wait that long, or for ever; return the plain descriptors that have something, with their events.

        None: there is something in a ring, and nothing else was examined.
        """
        rings = self._rings
        if milliseconds:
            for ring in rings:
                if ring.looked:
                    ring.looked = False
                elif ring.spin():
                    return None
                if self._is_kept and ring.spinning.shares and self._hands_over(ring):
                    return None
        if not self._sleeps % SILENCE_AFTER:
            self._is_kept = len(os.sched_getaffinity(0)) == 1
            self._silence()
        self._sleeps += 1
        began = 0
        events: list[tuple[int, int]] | None = None
        for ring in rings:
            if ring.prepare_to_sleep():
                break
            if milliseconds and not began and ring.spinning.learns:
                began = self._now()
        else:
            events = [] if self._sockets and self._ask_sockets() else self._sleep(milliseconds)
        ended, core = self._now() if began else 0, _core()
        for ring in rings:
            if began:
                ring.spinning.slept(began, ended)
            ring.wake(core)
        return self._took(events) if events else events

    def _hands_over(self, ring: "RingEnd") -> bool:
        """Let the other side of *ring* have our processor for a moment; say whether there is something then.

        Neither side need be woken then. If the core was kept long, another program is computing; the host prefers
        sleepers to it: so we sleep at once for a while.
        """
        if self._keeps:
            self._keeps -= 1
            return False
        began = self._now()
        for _ in range(YIELDS):
            os.sched_yield()
            if ring.ready():
                return True
        if self._now() - began > KEPT_NS:
            self._keeps = KEEP
        return False

    def _silence(self) -> None:
        """Silence every doorbell."""
        for ring, line in list(self._bells.values()):
            ring.rung(line)

    def _ask_sockets(self) -> bool:
        """Ask the sockets that were used whether they have a message, and mark those that do."""
        found = False
        for socket in self._sockets.values():
            if not socket.is_quiet and socket.look():
                socket.is_ready = found = True
        for ring in self._rings:
            ring.found_others = found
        return found

    def _sleep(self, milliseconds: int) -> list[tuple[int, int]]:
        """Sleep that long at most; return the host's events."""
        changes = 0
        for ring in self._rings:  # a sum over them would cost as much as all the rest here
            changes += ring.changes
        if changes != self._changes:
            self._watch_bells()
        linger = LINGER if milliseconds else 0
        events = self._wait(linger, EVENTS)
        if events or 0 <= milliseconds <= 1 or any(ring.has_news() for ring in self._rings):
            return events
        return self._wait(milliseconds / 1000 - linger if milliseconds > 0 else None, EVENTS)

    def _watch_bells(self) -> None:
        """Watch the doorbells of all present lines."""
        wanted = {number: (ring, line) for ring in self._rings for number, line in ring.bells().items()}
        self._change(self._bells, wanted, _EDGES)
        self._bells = wanted
        self._changes = sum(ring.changes for ring in self._rings)

    def _took(self, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the events that are no doorbells; drop the doorbells that hung up."""
        if len(events) == 1 and events[0][1] == select.EPOLLIN and events[0][0] in self._bells:
            return []
        plain = []
        for number, event in events:
            if number in self._bells:
                if event & _HUNG_UP:
                    ring, line = self._bells[number]
                    ring.rung(line)
                continue
            if number in self._sockets:
                self._sockets[number].is_quiet = False
            else:
                plain.append((number, event))
            for ring in self._rings:
                ring.found_others = True
        return plain

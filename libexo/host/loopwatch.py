"""The watch of an event loop over a thread: everything its core waits for, rings included, in one descriptor.

It replaces `Host.wait`, which would keep the loop from its other work: the loop waits for a `SourceWatch`, without
spinning. Before the loop sleeps for long there is a second look, a little later: `libexo.transport.ring.duplex`,
*Order*, says why.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from libexo.host.ring_poll import LINGER

if TYPE_CHECKING:
    from libexo.host.base import Host
    from libexo.transport.base import Source

AGAIN = 0.001
"""Seconds until another look, if no event tells when it is worth while."""


class LoopWatch:
    """Has a loop call one function when there is something to do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pump: Callable[[], None], host: "Host") -> None:
        """Have *loop* call *pump*, which begins with `wake` and ends with `prepare_to_sleep`, on *host*."""
        self._loop = loop
        self._pump = pump
        self._now = host.now
        self._watch = host.source_watch()
        self._next: asyncio.Handle | None = None
        """The next look, if no watched descriptor brings it about before."""
        self._is_soon = False
        """The look is as soon as possible; postponed again and again, it would never come."""
        loop.add_reader(self._watch.fileno(), pump)

    def soon(self) -> None:
        """Look as soon as the loop comes round."""
        if not self._is_soon:
            self._plan(self._loop.call_soon(self._pump))
            self._is_soon = True

    def wake(self) -> None:
        """Announce that we are awake to the other ends of rings, and write what waited for room."""
        self._plan(None)
        self._watch.wake()

    def prepare_to_sleep(self, sources: "Sequence[Source]", until: int | None = None) -> None:
        """Watch *sources*, and nothing else, from now on; look at *until*, in ns, in any case."""
        watch = self._watch
        watch.watch(sources)
        left = None if until is None else max(0, until - self._now()) / 1e9
        if watch.prepare_to_sleep():
            self.soon()
        elif watch.has_rings and (left is None or left > LINGER):
            self._plan(self._loop.call_later(LINGER, self._look_again, left))
        elif left is not None:
            self._plan(self._loop.call_later(left, self._pump))

    def close(self) -> None:
        """Stop watching."""
        self.wake()
        self._loop.remove_reader(self._watch.fileno())
        self._watch.close()

    def _plan(self, look: asyncio.Handle | None) -> None:
        """Make *look* the next one, and the only one."""
        if self._next is not None:
            self._next.cancel()
        self._next, self._is_soon = look, False

    def _look_again(self, left: float | None) -> None:
        """Check whether something was written just when we went to sleep, with so much time *left*."""
        if self._watch.rings_have_news():
            self._pump()
        else:
            self._plan(None if left is None else self._loop.call_later(left - LINGER, self._pump))

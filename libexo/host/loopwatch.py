"""What an event loop watches for a thread: everything its core waits for, rings included, in one descriptor.

In the place of `Host.wait`, which would keep the loop from its other work: the same `Nap`, which the loop waits for
and nobody spins in. Before the loop sleeps for good there is a second look, a little later: why, is told in
`libexo.transport.ring.line`, *Order*.
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
        """Have *loop* call *pump*, which begins with `wake` and ends with `doze`, on *host*."""
        self._loop = loop
        self._pump = pump
        self._now = host.now
        self._nap = host.nap()
        self._next: asyncio.Handle | None = None
        """The next look, where nothing that is watched brings it about before."""
        self._is_soon = False
        """It is as soon as can be; put off for a later one again and again, it would never come."""
        loop.add_reader(self._nap.fileno(), pump)

    def soon(self) -> None:
        """Look as soon as the loop comes round."""
        if not self._is_soon:
            self._plan(self._loop.call_soon(self._pump))
            self._is_soon = True

    def wake(self) -> None:
        """Note that nobody sleeps: tell the other ends of rings, and write what waited for room."""
        self._plan(None)
        self._nap.rise()

    def doze(self, sources: "Sequence[Source]", until: int | None = None) -> None:
        """Watch *sources*, and nothing else, from now on; look at *until*, in ns, whatever happens."""
        nap = self._nap
        nap.aim(sources)
        left = None if until is None else max(0, until - self._now()) / 1e9
        if nap.lie_down():
            self.soon()
        elif nap.has_rings and (left is None or left > LINGER):
            self._plan(self._loop.call_later(LINGER, self._look_again, left))
        elif left is not None:
            self._plan(self._loop.call_later(left, self._pump))

    def close(self) -> None:
        """Watch nothing any more."""
        self.wake()
        self._loop.remove_reader(self._nap.fileno())
        self._nap.close()

    def _plan(self, look: asyncio.Handle | None) -> None:
        """Make *look* the next one, and the only one."""
        if self._next is not None:
            self._next.cancel()
        self._next, self._is_soon = look, False

    def _look_again(self, left: float | None) -> None:
        """Look whether something was written just when we went to sleep, when so much time was *left*."""
        if self._nap.stirs():
            self._pump()
        else:
            self._plan(None if left is None else self._loop.call_later(left - LINGER, self._pump))

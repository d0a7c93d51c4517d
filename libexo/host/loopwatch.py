"""The watch of an event loop over a thread: everything its core waits for, rings included.

It replaces `Host.wait`, which would keep the loop from its other work. An end of rings
(`libexo.transport.ring.ends`) is told when the program stops looking into it, so that its doorbells are rung from
then on, and when it looks again. Before the loop sleeps for long there is a second look, a little later:
`libexo.transport.ring.line`, *Order*, says why.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from libexo.host.ring_poll import LINGER

if TYPE_CHECKING:
    from libexo.transport.base import Source
    from libexo.transport.ring.ends import RingEnd
    from libexo.transport.ring.line import Line


AGAIN = 0.001
"""Seconds until another look, if no event tells when it is worth while."""


class LoopWatch:
    """Has a loop call one function when there is something to do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pump: Callable[[], None]) -> None:
        """Have *loop* call *pump*, which ends with `doze`."""
        self._loop = loop
        self._pump = pump
        self._readers: dict[int, object] = {}
        """Watched sources by descriptor, because its number alone may be another source's by now."""
        self._known: tuple[list[RingEnd], int] = ([], 0)
        """The ring ends watched last, and how often their lines had changed by then."""
        self._bells: dict[int, tuple[RingEnd, Line]] = {}
        self._dozing: list[RingEnd] = []
        self._next: asyncio.Handle | None = None
        """The next look, if no descriptor will bring it about."""
        self._is_soon = False
        """The look is as soon as possible; postponed again and again, it would never come."""

    def soon(self) -> None:
        """Look as soon as the loop comes round."""
        if not self._is_soon:
            self._plan(self._loop.call_soon(self._pump))
            self._is_soon = True

    def wake(self) -> None:
        """Note that nobody sleeps: tell the other ends of rings, and write what waited for room."""
        self._plan(None)
        dozing, self._dozing = self._dozing, []
        for end in dozing:
            with suppress(ValueError):  # it was closed meanwhile
                end.wake(-1)

    def doze(self, sources: "Iterable[Source]") -> None:
        """Watch *sources*, and nothing else, from now on."""
        plain: list[Source] = []
        ends: list[RingEnd] = []
        for source in sources:
            if hasattr(source, "doze"):
                end = cast("RingEnd", source)
                ends.append(end)
                plain += end.inner()
            else:
                plain.append(source)
        self._watch(plain, ends)
        self._dozing = ends
        if any(end.doze() for end in ends):
            self.soon()
        elif ends:
            self._plan(self._loop.call_later(LINGER, self._look_again))

    def close(self) -> None:
        """Watch nothing any more."""
        self.wake()
        self._watch([], [])

    def _plan(self, look: asyncio.Handle | None) -> None:
        """Make *look* the next one, and the only one."""
        if self._next is not None:
            self._next.cancel()
        self._next, self._is_soon = look, False

    def _look_again(self) -> None:
        """Check whether something was written just when we went to sleep."""
        self._plan(None)
        with suppress(ValueError):  # a closed one counts as something to do
            if not any(end.stirs() for end in self._dozing):
                return
        self._pump()

    def _watch(self, plain: "list[Source]", ends: "list[RingEnd]") -> None:
        """Have the loop watch the descriptors of these, and no others."""
        known = ends, sum(end.changes for end in ends)
        if known != self._known:
            self._known = known
            self._bells = {number: (end, line) for end in ends for number, line in end.bells().items()}
        wanted: dict[int, object] = {source.fileno(): source for source in plain}
        wanted.update(self._bells)
        for number, watched in list(self._readers.items()):
            if wanted.get(number) != watched:
                self._loop.remove_reader(number)
                del self._readers[number]
        for number in wanted.keys() - self._readers.keys():
            if number in self._bells:
                self._loop.add_reader(number, self._rang, *self._bells[number])
            else:
                self._loop.add_reader(number, self._pump)
        self._readers = wanted

    def _rang(self, end: "RingEnd", line: "Line") -> None:
        """Silence a doorbell that was rung, and pump."""
        end.rang(line)
        self._pump()

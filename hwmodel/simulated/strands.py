"""Strands of the simulated machine: host threads, of which exactly one runs, and only while it has the baton.

A strand is one thread of execution of a body. Its wait and its remaining computation are its own;
the gate, the mappings, the descriptors and the processor are its body's. A strand hands the baton back wherever
its program traps, waits or computes; between two such points nothing else happens in the whole machine.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol


class Killed(BaseException):
    """The host ended this program. Not an Exception: programs do not handle it."""


class Baton(Protocol):
    """The machine, as strands see it."""

    def give_baton(self) -> None:
        """Give the baton back to the loop: its strand hands over, or has ended."""

    def await_baton(self, strand: "Strand") -> None:
        """Wait until *strand* gives it back."""


class Owner(Protocol):
    """A body, as its strands see it."""

    running: "Strand"

    @property
    def ending(self) -> bool:
        """Whether its strands unwind."""

    @property
    def halted(self) -> bool:
        """Whether none of them runs now."""

    def lose(self, strand: "Strand") -> None:
        """Remove *strand*, which ended."""


class Strand:
    """One thread of execution of *body*."""

    def __init__(self, machine: Baton, body: Owner, name: str, life: Callable[[], None]) -> None:
        """Make it; *life*, which raises nothing, is all it does once `start` was called."""
        self.body = body
        self.name = name
        self.ready: Callable[[], bool] | None = None
        """The condition it waits for, while it waits."""
        self.deadline: int | None = None
        """When it goes on without that."""
        self.remaining = 0
        """Nanoseconds it has left to compute."""
        self._machine = machine
        self._life = life
        self._ended = False
        self._turn = threading.Lock()
        self._turn.acquire()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    def __repr__(self) -> str:
        """Show its name, which begins with its body's."""
        return f"<strand {self.name}>"

    def start(self) -> None:
        """Give it a host thread; it runs when it gets the baton."""
        self._thread.start()

    def awake(self, now: int) -> bool:
        """Say whether its wait is over."""
        return self.ready is None or (self.deadline is not None and self.deadline <= now) or self.ready()

    def can_run(self, now: int) -> bool:
        """Say whether it would use the baton."""
        if self.body.ending:
            return True
        return not self.body.halted and not self.remaining and self.awake(now)

    def lend_baton(self) -> None:
        """Let it run until it hands back, or ends."""
        self.body.running = self
        self._turn.release()
        self._machine.await_baton(self)
        if self._ended:
            self._thread.join()

    def hand_back(self) -> None:
        """Give the baton back, from inside; return when it is this strand's turn again."""
        self._machine.give_baton()
        self._turn.acquire()
        self.ready, self.deadline = None, None

    def _live(self) -> None:
        self._turn.acquire()
        self._life()
        self.body.lose(self)
        self._ended = True
        self._machine.give_baton()


def compute(strands: Sequence[Strand], nanoseconds: int) -> int:
    """Let *strands* compute for that long, in equal parts, on one processor; return how much of it they used."""
    used, busy = 0, [strand for strand in strands if strand.remaining]
    while busy and used < nanoseconds:
        part, odd = divmod(nanoseconds - used, len(busy))
        for at, strand in enumerate(busy):
            done = min(strand.remaining, part + (at < odd))
            strand.remaining -= done
            used += done
        busy = [strand for strand in busy if strand.remaining]
    return used


def next_event(strands: Sequence[Strand], now: int) -> int | None:
    """Return when one of *strands*, which share a processor, can run by the passing of time alone, or None."""
    times = [strand.deadline for strand in strands if strand.deadline is not None]
    if busy := [strand.remaining for strand in strands if strand.remaining]:
        times.append(now + min(busy) * len(busy))
    return min(times, default=None)

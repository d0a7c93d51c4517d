"""Turns: things of many parties that wait for one receiver, each party's in its turn.

A *party* is a unit of fairness, by number, as its bindings were admitted. However much one party sends, and
over however many bindings, its things wait behind its own: the next of another comes after one of each party.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Things of parties, each party's in order; of each party one, in a circle."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        """Start with nothing."""
        self._queues: dict[int, deque[T]] = {}
        """By party, the next in turn first. No queue is empty."""

    def __bool__(self) -> bool:
        """Say whether there is anything."""
        return bool(self._queues)

    def __len__(self) -> int:
        """Return the number of things."""
        return sum(map(len, self._queues.values()))

    def add(self, party: int, thing: T) -> None:
        """Put *thing* behind those of *party*; a new party comes last in the circle."""
        queue = self._queues.get(party)
        if queue is None:
            self._queues[party] = deque((thing,))
        else:
            queue.append(thing)

    def next(self) -> tuple[int, T] | None:
        """Take the first thing of the party whose turn it is, which comes last then; or None."""
        queues = self._queues
        if not queues:
            return None
        queue = queues.pop(party := next(iter(queues)))
        thing = queue.popleft()
        if queue:
            queues[party] = queue
        return party, thing

    def again(self, party: int) -> None:
        """Give *party* its turn back, if it has more: the last thing taken of it was nothing."""
        if (queue := self._queues.pop(party, None)) is not None:
            self._queues = {party: queue, **self._queues}

    def drop(self, party: int, goes: Callable[[T], bool]) -> list[T]:
        """Remove the things of *party* for which *goes* is true; return them."""
        queue = self._queues.get(party, ())
        gone = [thing for thing in queue if goes(thing)]
        kept = deque(thing for thing in queue if not goes(thing))
        if kept:
            self._queues[party] = kept
        else:
            self._queues.pop(party, None)
        return gone

    def sort(self, party: int, key: Callable[[T], int]) -> None:
        """Sort the things of *party*."""
        if (queue := self._queues.get(party)) is not None:
            self._queues[party] = deque(sorted(queue, key=key))

    def clear(self) -> None:
        """Forget everything."""
        self._queues.clear()

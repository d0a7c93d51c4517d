"""Turns: things of many parties that wait for one receiver, each party's in its turn.

A *party* is a unit of fairness, by number, as its bindings were admitted. However much one party sends, and
over however many bindings, its things wait behind its own: the next of another comes after one of each party.
"""

from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Turns(dict[int, deque[T]]):
    """Things of parties, each party's in order, whose turn it is first; of each party one, in a circle.

    No queue in it is empty, so it is true where there is anything.
    """

    __slots__ = ()

    def count(self) -> int:
        """Return the number of things."""
        return sum(map(len, self.values()))

    def add(self, party: int, thing: T) -> None:
        """Put *thing* behind those of *party*; a new party comes last in the circle."""
        queue = self.get(party)
        if queue is None:
            self[party] = deque((thing,))
        else:
            queue.append(thing)

    def next(self) -> tuple[int, T] | None:
        """Take the first thing of the party whose turn it is, which comes last then; or None."""
        if not self:
            return None
        queue = self.pop(party := next(iter(self)))
        thing = queue.popleft()
        if queue:
            self[party] = queue
        return party, thing

    def again(self, party: int) -> None:
        """Give *party* its turn back, if it has more: the last thing taken of it was nothing."""
        if (queue := self.pop(party, None)) is not None:
            others = dict(self)
            self.clear()
            self[party] = queue
            self.update(others)

    def drop(self, party: int, goes: Callable[[T], bool]) -> list[T]:
        """Remove the things of *party* for which *goes* is true; return them."""
        queue = self.get(party, ())
        gone = [thing for thing in queue if goes(thing)]
        kept = deque(thing for thing in queue if not goes(thing))
        if kept:
            self[party] = kept
        else:
            self.pop(party, None)
        return gone

    def sort(self, party: int, key: Callable[[T], int]) -> None:
        """Sort the things of *party*."""
        if (queue := self.get(party)) is not None:
            self[party] = deque(sorted(queue, key=key))

"""Which extents go when a program gives too few frames back. Pure: plain numbers in, an order out.

The program said before (`libexo.pressure`) what goes first, in what order, and what is to be spared. The rest
goes from the highest frame down. What it spares stays as far as it fits into what the program may keep: a program
that spares everything wins nothing by it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from libexo.pressure import NOWHERE, Named, RuleSet, Run


class Victim(NamedTuple):
    """An extent that is to go, and the first frame of the extent its contents are saved in, NOWHERE: in none."""

    first: int
    length: int
    place: int = NOWHERE


class Part(NamedTuple):
    """A member of a family that is asked for frames."""

    thread: int
    frames: int
    keeps: int
    """Frames it may keep, by its part of what the family may."""


def snapshot(users: memoryview) -> str:
    """Return the KIP's table of frames as characters of 32 bits, which the C library searches."""
    return bytes(users).decode("utf-32-le", "surrogatepass")


def first_of(users: str, number: int) -> int:
    """Return the first frame that counts to environment *number*; -1: it has none."""
    return users.find(chr(number + 1))


def extents(users: str, frames_at: Callable[[int], int], number: int) -> list[Run]:
    """Return the extents that count to environment *number* in a `snapshot`, in order.

    *frames_at* returns how many frames the extent has that begins at a frame; 0: none does, or does any more.
    """
    found, at = list[Run](), 0
    while (at := users.find(chr(number + 1), at)) >= 0:
        length = frames_at(at)
        if 0 < length <= len(users) - at:
            found.append(Run(at, length))
        at += max(length, 1)
    return found


def shares(parts: Sequence[tuple[int, int]], keeps: int) -> list[Part]:
    """Divide what a family *keeps* among its members (thread, frames), by what each has."""
    together = sum(frames for _, frames in parts)
    made, left = [], keeps
    for thread, frames in parts:
        own = min(frames, keeps * frames // together if together else 0)
        made.append(Part(thread, frames, own))
        left -= own
    for at, part in enumerate(made):
        more = min(left, part.frames - part.keeps)
        made[at] = part._replace(keeps=part.keeps + more)
        left -= more
    return made


def spared_of(have: Sequence[Run], rules: RuleSet, keeps: int) -> dict[int, int]:
    """Return which extents are spared, by first frame, and their lengths: as far as they fit into *keeps*."""
    spared, room = dict[int, int](), keeps
    for run in rules.spared:
        for each in _begin_in(have, run):
            if each.length <= room and each.first not in spared:
                spared[each.first] = each.length
                room -= each.length
    return spared


def chosen(have: Sequence[Run], rules: RuleSet, wanted: int, keeps: int) -> list[Victim]:
    """Return which of the extents a program has go, in order: together at least *wanted* frames, if there are."""
    spared = spared_of(have, rules, keeps)
    victims: dict[int, Victim] = {}
    rest = (Named(each.first, each.length) for each in reversed(have))
    for named in chain(rules.first, rest):
        for each in _begin_in(have, named):
            if wanted <= 0:
                return list(victims.values())
            if each.first not in spared and each.first not in victims:
                place = named.place if each.first == named.first else NOWHERE
                victims[each.first] = Victim(each.first, each.length, place)
                wanted -= each.length
    return list(victims.values())


def _begin_in(have: Sequence[Run], run: Run | Named) -> Iterator[Run]:
    """Yield the extents that begin in *run*."""
    at = bisect_left(have, (run.first,))
    while at < len(have) and have[at].first < run.first + run.length:
        yield have[at]
        at += 1

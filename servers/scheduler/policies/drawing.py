"""Plans made of many single quanta, each for whoever is next: what lotteries and strides share."""

from collections.abc import Callable, Sequence
from itertools import groupby

from libexo.sched import MAX_SLICE_US, Member, Plan

QUANTA = 32
"""Of one plan, after which its policy is asked again: a third of a second, of 10 ms."""


def draw(following: Callable[[], int], quantum: int, awake: Sequence[Member]) -> Plan:
    """Return a plan of QUANTA quanta, in µs, each for whom *following* names; those in a row are one slice.

    Where one is *awake*, it has all until something changes: nobody asks meanwhile.
    """
    if len(awake) == 1:
        return Plan([(awake[0].thread, quantum)])
    most = MAX_SLICE_US // quantum
    slices: list[tuple[int, int]] = []
    for thread, row in groupby(following() for _ in range(QUANTA)):
        count = len(list(row))
        slices += [(thread, quantum * min(most, count - done)) for done in range(0, count, most)]
    return Plan.once(slices)

"""Scheduler: a scheduling policy of one's own, in force for the whole system.

    exo run -d --name older -- sh -c 'while :; do :; done'
    exo run -d --name younger -- sh -c 'while :; do :; done'
    exo sched use examples/scheduler.py:YoungFirst
    exo sched

A policy turns programs, as they are now, into a plan, the vector of slices that the kernel walks. The children of a
program share its slice. This policy favours the young: the last to come gets the longest slice, each one before it
half of the next one's. `exo sched use round-robin` is as it was.
"""

from collections.abc import Sequence

from libexo.sched import Member, Plan


class YoungFirst:
    """The policy: all of it is `plan`. Members come in the order they arrived."""

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return slices (thread, microseconds), the youngest's first."""
        del now
        young_first = reversed(members[-7:])  # a slice is half a millisecond at least
        return Plan([(each.thread, 32_000 >> age) for age, each in enumerate(young_first)])

"""A policy for each processor: what one keeps in `self` is about the members it is asked about."""

from collections.abc import Callable, Sequence

from libexo.sched import Member, Plan, Policy


class Apart:
    """As many of one kind of policy as there are processors, each asked about its own."""

    def __init__(self, make: Callable[[], Policy]) -> None:
        """Make the first of them, and the others when they are needed. Raises what *make* raises."""
        self.first = make()
        self.name = getattr(self.first, "name", type(self.first).__name__)
        self._make = make
        self._each: dict[int, Policy] = {}

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the plan of the policy of their processor."""
        at = members[0].processor if members else 0
        if at not in self._each:
            self._each[at] = self._make() if self._each else self.first
        return self._each[at].plan(members, now)

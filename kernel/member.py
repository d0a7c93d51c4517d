"""Members of a processor: environments under its plan."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kernel.environment import Environment


class Member:
    """An environment under the plan of a processor."""

    __slots__ = ("asleep", "awaits", "carry", "environment", "mark")

    def __init__(self, environment: "Environment") -> None:
        """Start with nothing carried."""
        self.environment = environment
        self.carry = 0
        """CPU time owed to it (positive) or overrun by it (negative), in ns."""
        self.mark = environment.body.consumed()
        """Its CPU time when its slice began, then when it ended, or when the member went to sleep."""
        self.asleep = False
        self.awaits = 0
        """Of a sleeper: the number of the thread for which it says that it waits, as the trace has it."""

    def used(self) -> int:
        """Return the CPU time that it used since then, in ns."""
        return self.environment.body.consumed() - self.mark


class Ended(NamedTuple):
    """A slice that ended, whose owner was not stopped yet: it may have the next."""

    member: Member
    used: int
    """CPU time of its owner in it, in ns."""
    idle: int
    """How long its owner slept in it, in ns."""
    given_up: bool
    alone: bool
    """It had no end, since nobody else wanted the core."""

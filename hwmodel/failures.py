"""A schedule of failures to inject: bodies to kill, starts to fail, gates to cut, host calls to fail.

A machine asks `due` at each point where a failure may happen, and lets it happen if so. A schedule is data: a
test writes it out, or draws it from a seed. `injected` tells afterwards what really happened.
"""

import random
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple, Self


class FailureKind(Enum):
    """The kinds of failures."""

    KILL = "kill"
    """The body is killed when it hands over for the n-th time."""
    FAIL_LAUNCH = "fail launch"
    """The n-th start of the environment fails."""
    DROP_PORT = "drop port"
    """The gate is cut when the body hands over for the n-th time: neither side reaches the other."""


class Failure(NamedTuple):
    """One failure: *kind*, for environment *number*, the *at*-th time (from 1) it could happen."""

    kind: FailureKind
    number: int
    at: int


class HostFailure(NamedTuple):
    """One host call that fails with error number *errno*: the *at*-th (from 1), or the *at*-th of that *name*."""

    at: int
    errno: int
    name: str = ""


class Failures:
    """A schedule of failures, each injected once."""

    def __init__(self, failures: Iterable[Failure] = (), calls: Iterable[HostFailure] = ()) -> None:
        """Plan *failures*, and those of host *calls*."""
        self._planned = set(failures)
        self._calls = {(call.name, call.at): call for call in calls}
        self.failed_calls: list[HostFailure] = []
        """The host calls that failed, in order."""
        self.injected: list[Failure] = []
        """The failures that happened, in order."""

    @classmethod
    def drawn(cls, seed: int, numbers: Sequence[int], count: int, within: int) -> Self:
        """Draw *count* kills among environments *numbers*, each within its first *within* handovers."""
        generator = random.Random(seed)
        failures = [
            Failure(FailureKind.KILL, generator.choice(numbers), generator.randint(1, within))
            for _ in range(count)
        ]
        return cls(failures)

    @property
    def planned(self) -> frozenset[Failure]:
        """The failures that have not happened yet."""
        return frozenset(self._planned)

    def fail_call(self, failure: HostFailure) -> None:
        """Plan one failure more."""
        self._calls[failure.name, failure.at] = failure

    def due_call(self, name: str, at: int, at_of_name: int) -> int:
        """Return the error number with which a host call fails now, 0: it does not."""
        if not self._calls:
            return 0
        found = self._calls.pop(("", at), None) or self._calls.pop((name, at_of_name), None)
        if found is None:
            return 0
        self.failed_calls.append(found)
        return found.errno

    def due(self, kind: FailureKind, number: int, at: int) -> bool:
        """Say whether *kind* is due for *number* at its *at*-th occasion; if so, it is used up."""
        failure = Failure(kind, number, at)
        if failure not in self._planned:
            return False
        self._planned.discard(failure)
        self.injected.append(failure)
        return True

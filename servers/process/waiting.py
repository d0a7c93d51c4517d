"""Callers that wait for programs to end, and the charges for it.

A `wait` that is not answered yet is held here for its caller, and charged to the caller's budget. When the caller
ends it is forgotten. The kernel reports the ends of programs this server started; others, which attached by
themselves, are checked when many wait.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.budget import Item
from kernel.abi.kip import EnvironmentState
from libexo.errors import TrapRefused
from servers.process.policy import TooManyWaits

if TYPE_CHECKING:
    from libexo.environment import Environment
    from servers.process.api import Exit

_MANY = 64
"""Growth of the number of waiters after which those of the dead are searched for."""


class Waiter(NamedTuple):
    """A caller that waits."""

    home: int
    """First thread of its environment; 0: an operator, who is not charged."""
    tell: "Callable[[Exit], None]"


class Waiting:
    """All waiters, by the thread whose end they wait for."""

    def __init__(self, environment: "Environment") -> None:
        """Start with none: callers of a predecessor ask again."""
        self._environment = environment
        self._for: dict[int, list[Waiter]] = {}
        self._of: Counter[int] = Counter()
        self._look_at = _MANY

    def add(self, thread: int, tell: "Callable[[Exit], None]", caller: int = 0) -> None:
        """Call *tell* when *thread*'s environment has ended, for thread *caller*. Raises TooManyWaits."""
        home = self._home(caller) if caller else 0
        if home:
            self._charge(home, 1)
            if self._of.total() >= self._look_at:
                self._look()
        self._for.setdefault(thread, []).append(Waiter(home, tell))

    def ended(self, thread: int, exited: "Exit") -> None:
        """Tell those who waited for *thread*, which ended, and forget its own waits."""
        waiters = self._for.pop(thread, [])
        for home, count in Counter(waiter.home for waiter in waiters if waiter.home).items():
            self._charge(home, -count)
        for waiter in waiters:
            waiter.tell(exited)
        if self._of.pop(thread, 0):
            self._forget({thread})

    def _home(self, caller: int) -> int:
        """Return the first thread of the environment of *caller*; 0: it is gone."""
        row = self._environment.kip.thread(caller)
        found = self._environment.kip.environment(row.environment) if row is not None else None
        return found.thread if found is not None else 0

    def _charge(self, home: int, more: int) -> None:
        """Charge *home* for *more* waits. Raises TooManyWaits."""
        try:
            self._environment.sys.charge(home, Item.WAITS, self._of[home] + more)
        except TrapRefused as refused:
            if more > 0:
                raise TooManyWaits(refused.detail) from refused
        self._of[home] += more

    def _look(self) -> None:
        """Forget waiters whose environments are gone."""
        rows = self._environment.kip.environments()
        living = {row.thread for row in rows if row.state != EnvironmentState.DEAD}
        self._forget(self._of.keys() - living)
        self._look_at = 2 * self._of.total() + _MANY

    def _forget(self, homes: set[int]) -> None:
        for home in homes:
            self._of.pop(home, None)
        for thread, waiters in list(self._for.items()):
            self._for[thread] = [waiter for waiter in waiters if waiter.home not in homes]
            if not self._for[thread]:
                del self._for[thread]


class Exits:
    """The exits of the last programs, for callers that ask late."""

    def __init__(self, most: int) -> None:
        """Remember *most* of them; beyond, the starter with most of them loses its oldest."""
        self.known: dict[int, Exit] = {}
        """By thread, oldest first."""
        self._spawners: dict[int, int] = {}
        self._most = most

    def add(self, thread: int, exited: "Exit", spawner: int) -> None:
        """Remember how *thread*, which *spawner* started, ended."""
        self.known[thread], self._spawners[thread] = exited, spawner
        if len(self.known) > self._most:
            started = Counter(self._spawners.get(each, 0) for each in self.known)
            most = max(started.values())
            oldest = next(each for each in self.known if started[self._spawners.get(each, 0)] == most)
            del self.known[oldest]
            self._spawners.pop(oldest, None)

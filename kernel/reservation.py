"""Reservations: so much CPU time in each period of one processor, whatever its plan says (docs/scheduling.md).

Each is a constant-bandwidth server (Abeni and Buttazzo 1998), a hard one: its budget is full again at the end of
the period in which it was used up, and not before. Those with budget run by the earliest deadline. The whole that
a processor has to reserve is their first giver. What is taken out of a reservation, or comes back to it, is as
far ahead of the clock as that was: to make and drop reservations gains no time.
"""

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_RESERVATIONS, MAX_SLICE_US, MIN_SLICE_US, RESERVABLE_US
from kernel.abi.rights import Kind
from kernel.capability import Capability, Resource
from kernel.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hwmodel.machine import Clock
    from kernel.environment import Environment
    from kernel.member import Member

_US = 1000
_LEAST = MIN_SLICE_US * _US
GRAIN = 100_000
"""The shortest rest of a slice, or budget, worth another alarm: a shorter one is carried."""
FOREVER = 1 << 62


class Turn(NamedTuple):
    """A slice that is to begin."""

    member: "Member"
    microseconds: int
    directed: bool = False
    reservation: "Reservation | None" = None
    lender: "Member | None" = None
    """Whose slice it is, if that is another's, who lends it."""


class Reserved:
    """The reservations of one processor."""

    def __init__(
        self,
        number: int,
        clock: "Clock",
        members: "dict[Environment, Member]",
        review: "Callable[[Reservation], None]",
    ) -> None:
        """Start with none, for processor *number*; *review* is called before one changes."""
        self.number, self.clock, self._members, self.review = number, clock, members, review
        self.whole = Reservation(self, None, RESERVABLE_US, 100 * _US)
        self.bound: dict[Environment, Reservation] = {}
        self.running: Reservation | None = None
        """The one whose slice runs."""

    def _awake(self) -> "Iterator[Reservation]":
        return (r for of, r in self.bound.items() if of in self._members and not self._members[of].asleep)

    def first(self) -> Turn | None:
        """Return the slice of the reservation to run next; None: none is ready, or it runs."""
        now, running = self.clock.now(), self.running
        ready = [each for each in self._awake() if each.ready(now)]
        first = min(ready, key=lambda each: (each.deadline, each is not running), default=None)
        if first is None or first is running or first.environment is None:
            return None
        return Turn(self._members[first.environment], first.budget // _US, reservation=first)

    def wait(self) -> int:
        """Return how long until one that waits for its next period is ready, in ns."""
        now = self.clock.now()
        return min((each.release - now for each in self._awake() if each.release > now), default=FOREVER)

    def arrive(self, environment: "Environment") -> None:
        """Note that *environment* woke."""
        if reservation := self.bound.get(environment):
            reservation.arrive()

    def end(self, used: int) -> bool:
        """Say whether the slice that is over, of which *used* ns count, was a reservation's."""
        running, self.running = self.running, None
        if running is not None:
            running.charge(used)
        return running is not None

    def bind(self, reservation: "Reservation", environment: "Environment | None") -> None:
        """Have *environment* run by *reservation*, and either by or for no other; None: it is for none."""
        before = self.bound.get(environment) if environment is not None else None
        for each in {reservation, before or reservation}:
            self.review(each)
            if each.environment is not None:
                del self.bound[each.environment]
            each.environment = None
        if environment is not None:
            self.bound[environment], reservation.environment = reservation, environment
            reservation.arrive()


class Reservation(Resource):
    """One reservation. Times are in ns."""

    kind = Kind.RESERVATION

    def __init__(self, of: Reserved, giver: "Reservation | None", runtime: int, period: int) -> None:
        """Make one of *runtime* in each *period*, in us, that nobody holds yet."""
        self.of, self.giver, self.period = of, giver, period * _US
        self.rate = Fraction(runtime, period)
        """What it has, less its parts."""
        self.runtime = self.budget = runtime * _US
        self.deadline = self.release = 0
        self.environment: Environment | None = None
        self._parts = self.held = 0
        """How many parts it gave, and how many capabilities to it there are."""

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return runtime, period, processor, and the name of the environment."""
        name = self.environment.name if self.environment is not None else ""
        return self.runtime // _US, self.period // _US, self.of.number, 0, name

    def part(self, runtime: int, period: int) -> "Reservation":
        """Return a part, which is taken out of it when somebody holds that. Raises Refused."""
        wanted = f"{runtime} us in {period} us"
        if not MIN_SLICE_US <= runtime <= period <= MAX_SLICE_US:
            limits = f"from {MIN_SLICE_US} us on, in a period of {MAX_SLICE_US} us at most"
            raise Refused(Refusal.BAD_ARGUMENT, f"{wanted}: a reservation is {limits}")
        rate, where = Fraction(runtime, period), f"processor {self.of.number}"
        if rate > self.rate or self._parts >= MAX_RESERVATIONS:
            left = f"{float(100 * self.rate):.3f} % of {where} left, in {self._parts} parts"
            raise Refused(Refusal.OVER_RESERVED, f"{left}; {wanted} is {float(100 * rate):.3f} %")
        return Reservation(self.of, self, runtime, period)

    def gained(self, capability: Capability) -> None:
        """Take it out of its giver with the first capability to it."""
        self.held += 1
        if self.held == 1 and self.giver is not None:
            self.release = self.giver.ahead()
            self.deadline = self.release + self.period
            self.giver.resize(-self.rate, 1)

    def lost(self, capability: Capability) -> None:
        """Give it back with the last; what it gave away then goes back to its giver."""
        self.held -= 1
        if self.held == 0:
            self.of.bind(self, None)
            giver = self.giver
            while giver is not None and giver.giver is not None and not giver.held:
                giver = giver.giver
            assert giver is not None
            advance = int((self.ahead() - self.of.clock.now()) * self.rate)
            giver.resize(self.rate, -1)
            giver.arrive()
            giver.charge(advance)

    def resize(self, rate: Fraction, parts: int) -> None:
        """Let it have *rate* more, and *parts* more."""
        self.of.review(self)
        before, self.rate, self._parts = self.runtime, self.rate + rate, self._parts + parts
        self.runtime = int(self.rate * self.period)
        self.budget = self.budget * self.runtime // before if before else 0

    def ahead(self) -> int:
        """Return until when it would take to come by what it has used: in advance, or now."""
        until = self.deadline - (int(self.budget / self.rate) if self.rate else 0)
        return max(until, self.of.clock.now())

    def ready(self, now: int) -> bool:
        """Say whether it has budget; what its parts leave may be too little for a slice."""
        return self.release <= now and self.budget > GRAIN and self.runtime >= _LEAST

    def arrive(self) -> None:
        """Begin a period, unless what is left of the last can be used until its deadline."""
        now = self.of.clock.now()
        if self.budget * self.period >= (self.deadline - now) * self.runtime:
            self.budget, self.release, self.deadline = self.runtime, now, now + self.period

    def charge(self, used: int) -> None:
        """Take *used* from the budget; if that is used up, it has another at its deadline."""
        self.budget -= used
        if self.budget > GRAIN or self.runtime < _LEAST:
            return
        now, periods = self.of.clock.now(), (GRAIN - self.budget) // self.runtime + 1
        self.budget += periods * self.runtime
        self.deadline += periods * self.period
        self.release = self.deadline - self.period
        if self.deadline <= now:  # it had to wait for longer than a period: nothing is made up for
            self.budget, self.release, self.deadline = self.runtime, now, now + self.period

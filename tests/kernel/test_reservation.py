"""Reservations by the rules of the constant-bandwidth server, worked by hand; and what is admitted."""

from typing import NamedTuple

import pytest

from hwmodel.simulated.clock import VirtualClock
from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_RESERVATIONS
from kernel.abi.rights import Kind, Rights
from kernel.capability import Capability
from kernel.errors import Refused
from kernel.reservation import Reservation, Reserved
from tests.kernel.passing import passed
from tests.kernel.puppets import MS, Puppet, Theatre, refusal, theatre

US = 1000
ALL = Rights.CONTROL | Rights.TRANSFER


class Desk(NamedTuple):
    """A processor's reservations, and its clock."""

    reserved: Reserved
    clock: VirtualClock

    def take(self, runtime_ms: float, period_ms: float, of: Reservation | None = None) -> Reservation:
        """Take a part of *of*, or of the processor."""
        made = (of or self.reserved.whole).part(round(runtime_ms * US), round(period_ms * US))
        made.gained(Capability(made, Rights.CONTROL, None))
        return made

    def at(self, milliseconds: float) -> None:
        """Move the clock to that time."""
        self.clock.advance(round(milliseconds * MS))


def desk() -> Desk:
    clock = VirtualClock()
    return Desk(Reserved(0, clock, {}, lambda _changing: None), clock)


def drop(reservation: Reservation) -> None:
    """Give up the only capability to it."""
    reservation.lost(Capability(reservation, Rights.CONTROL, None))


def state(reservation: Reservation) -> tuple[float, float, float]:
    """Its budget, when that may be used, its deadline, in milliseconds."""
    return reservation.budget / MS, reservation.release / MS, reservation.deadline / MS


def used(reservation: Reservation, milliseconds: float) -> None:
    reservation.charge(round(milliseconds * MS))


# ------------------------------------------------------------------------------------------------- the server


def test_a_job_arrives() -> None:
    """It has its whole runtime until a period from now."""
    made = desk()
    one = made.take(2, 10)
    made.at(3)
    one.arrive()

    assert state(one) == (2, 3, 13)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (1, (1.5, 0, 10)),  # 1.5 < (10 - 1) * 2/10 = 1.8
        (2, (1.5, 0, 10)),  # 1.5 < 1.6
        (2.5, (2, 2.5, 12.5)),  # 1.5 >= 1.5: until 10 it would have more than its share
        (9, (2, 9, 19)),
        (10, (2, 10, 20)),
        (25, (2, 25, 35)),
    ],
)
def test_it_wakes_with_budget_left(at: float, expected: tuple[float, float, float]) -> None:
    """What is left may be used until the old deadline if that is less than its share; else a period begins."""
    made = desk()
    one = made.take(2, 10)
    one.arrive()
    used(one, 0.5)
    made.at(at)
    one.arrive()

    assert state(one) == expected


def test_the_budget_is_used_up() -> None:
    """It is full again at the deadline, which is then a period later; until then it is not ready."""
    made = desk()
    one = made.take(2, 10)
    one.arrive()
    made.at(4)
    used(one, 2)
    ready = [one.ready(at * MS) for at in (4, 9, 10, 12)]

    assert state(one) == (2, 10, 20)
    assert ready == [False, False, True, True]


def test_it_wakes_while_it_waits() -> None:
    """A job that arrives before its budget is full again waits for that."""
    made = desk()
    one = made.take(2, 10)
    one.arrive()
    used(one, 2)
    made.at(7)
    one.arrive()

    assert state(one) == (2, 10, 20)


@pytest.mark.parametrize(
    ("overrun", "expected"),
    [
        (-0.05, (2.05, 10, 20)),  # a rest too small for a slice is carried
        (0.5, (1.5, 10, 20)),
        (1.95, (2.05, 20, 30)),  # what is left of the second budget is such a rest
        (5, (1, 30, 40)),
    ],
)
def test_what_was_overrun_is_paid(overrun: float, expected: tuple[float, float, float]) -> None:
    """What it used beyond its budget comes off the next ones: an overrun hurts only itself."""
    made = desk()
    one = made.take(2, 10)
    one.arrive()
    made.at(4)
    used(one, 2 + overrun)

    assert state(one) == expected


def test_nothing_is_made_up_for() -> None:
    """Kept from the core by the host for periods, it has one budget, and no past deadlines to catch up with."""
    made = desk()
    one = made.take(2, 10)
    one.arrive()
    made.at(95)
    used(one, 2)

    assert state(one) == (2, 95, 105)


def test_it_is_late_by_less_than_a_period() -> None:
    """Then it has the next budget at once, with the deadline of that."""
    made = desk()
    one = made.take(2, 10)
    one.arrive()
    made.at(13)
    used(one, 2)

    assert state(one) == (2, 10, 20)
    assert one.ready(13 * MS)


# --------------------------------------------------------------------------------------------------- admission


def refused(made: Desk, runtime_us: int, period_us: int, of: Reservation | None = None) -> Refusal | int:
    with pytest.raises(Refused) as why:
        (of or made.reserved.whole).part(runtime_us, period_us)
    return why.value.refusal


def test_ninety_five_in_a_hundred() -> None:
    """So much of a processor can be reserved, to the microsecond, in whatever pieces."""
    made = desk()
    for _ in range(3):
        made.take(19, 60)

    assert refused(made, 500, 10_000_000) == Refusal.OVER_RESERVED
    assert made.reserved.whole.rate == 0


def test_rounding_admits_nothing() -> None:
    """Thirds that would fit if each were rounded down do not."""
    made = desk()
    made.take(950, 3000)
    made.take(950, 3000)

    assert refused(made, 950_001, 3_000_000) == Refusal.OVER_RESERVED
    assert refused(made, 3_166_667, 10_000_000) == Refusal.OVER_RESERVED
    made.take(3166.666, 10_000)
    assert refused(made, 500, 10_000_000) == Refusal.OVER_RESERVED


@pytest.mark.parametrize(
    ("runtime", "period"),
    [
        (0, 0),
        (0, 10_000),
        (-1, 10_000),
        (499, 10_000),
        (1000, 0),
        (1000, 999),
        (1000, 10_000_001),
        (1 << 39, 1 << 63),
    ],
)
def test_no_reservation_at_all(runtime: int, period: int) -> None:
    """It is from 500 us on, no longer than its period, and that is ten seconds at the most."""
    made = desk()

    assert refused(made, runtime, period) == Refusal.BAD_ARGUMENT


def test_what_is_left_is_said() -> None:
    """The refusal has the numbers."""
    made = desk()
    made.take(8, 10)
    with pytest.raises(
        Refused, match=r"15\.000 % of processor 0 left, in 1 parts; 2000 us in 10000 us is 20\.000 %"
    ):
        made.reserved.whole.part(2000, 10_000)


def test_a_part_is_taken_out() -> None:
    """The giver has less in each of its periods, what it has left of this one too; the part has what was taken."""
    made = desk()
    one = made.take(4, 10)
    one.arrive()
    used(one, 1)
    part = made.take(5, 20, one)

    assert one.runtime == 1.5 * MS
    assert one.budget / MS == pytest.approx(3 * 1.5 / 4, abs=1e-3)
    assert refused(made, 2000, 10_000, one) == Refusal.OVER_RESERVED
    drop(part)
    assert one.runtime == 4 * MS


def test_a_part_of_what_is_used_up() -> None:
    """It waits as long as its giver would have."""
    made = desk()
    one = made.take(4, 10)
    one.arrive()
    used(one, 4)
    part = made.take(5, 20, one)

    assert state(part)[1] == 10


def test_to_take_and_drop_gains_nothing() -> None:
    """A part that is used, dropped and taken again, for a second, had its share of the second, and once more."""
    made = desk()
    one, total = made.take(2, 10), 0.0
    for at in range(1000):
        made.at(at)
        part = made.take(2, 10, one)
        if part.ready(at * MS):
            part.arrive()
            used(part, 2)
            total += 2
        drop(part)

    assert total <= 200 + 2


def test_neither_of_the_processor() -> None:
    """What a dropped reservation used in advance, the next one that needs its share waits for."""
    made = desk()
    one = made.take(90, 100)
    one.arrive()
    used(one, 90)
    drop(one)
    again = made.take(90, 100)

    assert state(again)[1] == pytest.approx(90 / 0.95, abs=0.01)


def test_thousands_are_refused() -> None:
    """As many as MAX_RESERVATIONS are there; the sum stays exact however odd the periods."""
    made = desk()
    kept = [made.take(0.5, 9000 + n / 1000) for n in range(MAX_RESERVATIONS)]
    found = {refused(made, 500, 9_000_000 + n) for n in range(5000)}
    for each in kept:
        drop(each)

    assert found == {Refusal.OVER_RESERVED}
    assert made.reserved.whole.runtime == 95 * MS


# ---------------------------------------------------------------------------------------------- as capabilities


def reserving(stage: Theatre) -> tuple[Puppet, int]:
    """A scheduler that has a processor."""
    scheduler = stage.puppet("scheduler", holds=("cpus",))
    scheduler.sys.plan(scheduler.handles[0], [])
    return scheduler, scheduler.handles[0]


def test_it_is_shown() -> None:
    """Inspect says how much it is, of which processor, and who runs by it."""
    with theatre() as stage:
        scheduler, cpu = reserving(stage)
        member = stage.puppet("member", cpu=0)
        made = scheduler.sys.derive(cpu, ALL, 2000, 10_000)
        scheduler.sys.migrate(made, member.thread)
        found = scheduler.sys.inspect(made)

        assert (found.kind, found.first, found.count, found.status) == (Kind.RESERVATION, 2000, 10_000, 0)
        assert found.text == "member"


def test_it_is_handed_on() -> None:
    """Its holder narrows it, and passes a part on; what the giver revokes is gone from all, and free again."""
    with theatre() as stage:
        scheduler, cpu = reserving(stage)
        one, two = stage.puppet("one", cpu=0), stage.puppet("two", cpu=0)
        made = scheduler.sys.derive(cpu, ALL, 90_000, 100_000)
        mine = passed(scheduler, made, one, ALL)
        part = one.sys.derive(mine, ALL, 1000, 5000)
        theirs = passed(one, part, two, Rights.CONTROL)
        two.sys.migrate(theirs, two.thread)
        shown = one.sys.inspect(mine).first, two.sys.inspect(theirs).first

        assert shown == (70_000, 1000)
        assert refusal(scheduler.sys.derive, cpu, ALL, 6000, 100_000) == Refusal.OVER_RESERVED
        scheduler.sys.revoke(made)
        stage.settle()
        assert (one.sys.inventory(), two.sys.inventory()) == ((), ())
        assert scheduler.sys.inspect(made).first == 90_000
        assert stage.kernel.processors[0].reserved.bound == {}


def test_it_falls_with_its_givers() -> None:
    """Whoever gave it ends: all that came of it is gone, and the processor has it all to reserve again."""
    with theatre() as stage:
        scheduler, cpu = reserving(stage)
        one, two = stage.puppet("one", cpu=0), stage.puppet("two", cpu=0)
        mine = passed(scheduler, scheduler.sys.derive(cpu, ALL, 90_000, 100_000), one, ALL, grant=True)
        theirs = passed(one, one.sys.derive(mine, ALL, 10_000, 100_000), two, ALL, grant=True)
        two.sys.migrate(theirs, two.thread)
        whole = stage.kernel.processors[0].reserved.whole
        stage.kill(one)

        assert two.sys.inventory() == ()
        assert whole.runtime == 95 * MS
        stage.kill(scheduler)
        assert whole.runtime == 95 * MS


def test_who_may_run_by_it() -> None:
    """Its holder itself, and no other, but the scheduler says of any member; none that is not under the plan."""
    with theatre() as stage:
        scheduler, cpu = reserving(stage)
        one, two = stage.puppet("one", cpu=0), stage.puppet("two", cpu=0)
        made = scheduler.sys.derive(cpu, ALL, 2000, 10_000)
        mine = passed(scheduler, made, one, ALL)
        bind = one.sys.migrate

        assert refusal(bind, mine, two.thread) == Refusal.MISSING_RIGHT
        assert refusal(bind, mine, scheduler.thread) == Refusal.BAD_SLICE
        bind(mine, one.thread)
        scheduler.sys.migrate(made, two.thread)
        assert one.sys.inspect(mine).text == "two"
        bind(mine, 0)
        assert one.sys.inspect(mine).text == ""


def test_no_more_than_one_has() -> None:
    """Reserving takes the right to control; a reservation is no processor, and neither is anything else."""
    with theatre() as stage:
        scheduler, cpu = reserving(stage)
        weak = scheduler.sys.derive(cpu, Rights.TRANSFER)
        made = scheduler.sys.derive(cpu, ALL, 2000, 10_000)
        other = stage.system.give(scheduler.task, stage.kernel.interrupts.lines[3]).handle
        derive, bind = scheduler.sys.derive, scheduler.sys.migrate

        assert refusal(derive, weak, Rights.TRANSFER, 2000, 10_000) == Refusal.MISSING_RIGHT
        assert refusal(scheduler.sys.plan, made, []) == Refusal.WRONG_KIND
        assert refusal(bind, other, scheduler.thread) == Refusal.WRONG_KIND
        assert refusal(bind, scheduler.sys.derive(made, 0), 0) == Refusal.MISSING_RIGHT

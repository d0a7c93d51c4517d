"""The event ring: the last of what happened, for anybody to read."""

import struct
from signal import SIGSTOP

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.errors import Refusal
from kernel.abi.events import ANYBODY, RECORD, TRACE_SIZE, Event
from kernel.abi.ids import ANY_THREAD
from kernel.abi.kip import Counter, Page, Wait, awaited
from kernel.abi.limits import FRAME_SIZE, TRACE_RECORDS
from kernel.abi.rights import ALL_RIGHTS, Kind
from kernel.abi.traps import TRAPS, Bind, Inventory, Protection, Slice
from tests.kernel.pagers import Paging
from tests.kernel.passing import passed
from tests.kernel.puppets import MS, Theatre, refusal, theatre
from tests.kernel.test_processor import cast_of, compute, plan

NUMBER = {trap: number for number, trap in TRAPS.items()}


def records(stage: Theatre) -> list[tuple[int, ...]]:
    """Read the ring as a reader would: count, then the records of the last round, oldest first."""
    ring = stage.machine.published["trace"].buffer
    written = int.from_bytes(ring[:8], "little")
    numbers = range(max(0, written - TRACE_RECORDS), written)
    return [RECORD.unpack_from(ring, FRAME_SIZE + n % TRACE_RECORDS * RECORD.size) for n in numbers]


def test_record_layout() -> None:
    """A record is 32 bytes: time, event, spare, environment, and two words; the ring has whole pages."""
    packed = RECORD.pack(1, Event.BOUND, 0, 3, 4, 5)

    assert packed.hex() == "0100000000000000060000000300000004000000000000000500000000000000"
    assert (RECORD.size, TRACE_SIZE) == (32, FRAME_SIZE + 32 * TRACE_RECORDS)


def test_a_life() -> None:
    """Creation, start, traps with their refusals, and the end are recorded in order."""
    with theatre() as stage:
        a = stage.puppet()
        a.sys.inventory()
        refusal(a.sys.bind, 0)
        stage.kill(a)

        assert [(r[1], r[4], r[5]) for r in records(stage)] == [
            (Event.CREATED, a.thread, 0),
            (Event.STARTED, a.body.pid, 0),
            (Event.TRAP, NUMBER[Inventory], 0),
            (Event.TRAP, NUMBER[Bind], Refusal.NO_SUCH_THREAD),
            (Event.ENDED, 256 - 9, 0),
            (Event.NAME, *struct.unpack("<QQ", a.name.encode().ljust(16, b"\0"))),
        ]


def test_paging() -> None:
    """A page fault, what the pager supplies, and what it evicts are recorded: page, count, the object's frame."""
    with theatre() as stage:
        paging = Paging(stage)
        program, pager = paging.program(), paging.pager.environment.number
        before, user, frame = len(records(stage)), program.puppet.environment.number, paging.object.first
        program.touch(2, write=True)
        paging.supply(2, count=2)
        paging.pager.sys.protect(paging.handle, 2, 2, Protection.GUARD)
        paging.pager.sys.evict(paging.handle, 2, 2)

        found = [(r[1], *r[3:]) for r in records(stage)[before:] if r[1] != Event.TRAP]
        assert found == [
            (Event.PAGE_FAULT, user, 2 | 1 << 32, frame),
            (Event.SUPPLIED, pager, 2 | 2 << 32, frame),
            (Event.EVICTED, pager, 2 | 2 << 32, frame),
        ]


def test_the_ring_wraps() -> None:
    """After a full round the oldest are gone, and the newest are all there."""
    with theatre() as stage:
        for n in range(TRACE_RECORDS + 10):
            stage.kernel.exposure.trace.record(Event.SWITCHED, 0, n)

        assert [r[4] for r in records(stage)] == list(range(10, TRACE_RECORDS + 10))


def test_times_never_go_back() -> None:
    """Records carry the machine's time, in order."""
    with theatre() as stage:
        a = stage.puppet()
        for _ in range(3):
            stage.pass_time(1)
            a.sys.inventory()
        times = [r[0] for r in records(stage)]

        assert times == sorted(times)
        assert times[-1] == stage.machine.clock.now()


# ------------------------------------------------------------------------------------------------ processors


def told(stage: Theatre, names: dict[int, str], *kinds: Event) -> list[tuple[str, ...]]:
    """Return the events of *kinds* of those with names: kind, name, a, the microseconds in b, and detail."""
    return [
        (Event(r[1]).name, names[r[3]], f"{r[4]} {r[5] >> 32} {r[2]}")
        for r in records(stage)
        if r[1] in kinds and r[3] in names
    ]


def naps(body: SimulatedBody) -> None:
    """Compute for a millisecond, and sleep for a long time."""
    while True:
        body.burn(MS)
        body.wait(lambda: False, body._machine.virtual.now() + 200 * MS)


def test_plans() -> None:
    """Of a plan the record has its length and author, and of each member how its slices differ from before."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        names = {puppet.environment.number: name for name, puppet in members.items()}
        names[scheduler.environment.number] = "scheduler"
        plan(scheduler, cpu, members, a=3, b=2)
        plan(scheduler, cpu, members, a=3, b=2)
        scheduler.sys.plan(cpu, [Slice(members[name].thread, 3000) for name in "aab"])

        assert told(stage, names, Event.PLANNED, Event.PART) == [
            ("PLANNED", "scheduler", "0 0 0"),
            ("PLANNED", "scheduler", "5000 0 0"),
            ("PART", "a", "3000 0 1"),
            ("PART", "b", "2000 0 1"),
            ("PLANNED", "scheduler", "5000 0 0"),
            ("PLANNED", "scheduler", "9000 0 0"),
            ("PART", "a", "3000 0 1"),
            ("PART", "b", "3000 0 1"),
            ("PART", "b", f"2000 0 {0xFFFF}"),
        ]


def test_sleep() -> None:
    """A member that falls asleep is recorded with what it used of its slice, and for whom it says that it waits."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=naps)
        names = {puppet.environment.number: name for name, puppet in members.items()}
        row = members["b"].env.page
        row[Page.WAITS + Wait.FOR] = scheduler.thread
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(150)
        row[Page.WAITS + Wait.FOR] = ANY_THREAD
        members["a"].body.signal(SIGSTOP)
        stage.pass_time(250)

        found = told(stage, names, Event.READY, Event.BLOCKED, Event.STOPPED)
        assert [each[:2] for each in found[:5]] == [
            ("READY", "a"), ("READY", "b"), ("BLOCKED", "b"), ("READY", "b"), ("STOPPED", "a"),
        ]  # fmt: skip
        used, slept, whom = map(int, found[2][2].split())
        assert (used // MS, whom) == (1, scheduler.thread >> 32)
        assert 0 < slept < 2100
        assert awaited(row, 0) == ANYBODY


def test_what_is_left_of_a_slice() -> None:
    """A slice begins with what the one before used too much taken off; alone, no slice has an end."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        names = {puppet.environment.number: name for name, puppet in members.items()}
        members["a"].env.page[Page.CRITICAL] = 1
        plan(scheduler, cpu, members, a=3, b=2)
        stage.pass_time(9)
        assert told(stage, names, Event.SWITCHED, Event.PREEMPTED)[:5] == [
            ("SWITCHED", "a", "3000 3000 0"),
            ("PREEMPTED", "a", "4000000 0 0"),
            ("SWITCHED", "b", "2000 2000 0"),
            ("PREEMPTED", "b", "2000000 0 0"),
            ("SWITCHED", "a", "3000 2000 0"),
        ]

    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=naps)
        names = {members["a"].environment.number: "a"}
        plan(scheduler, cpu, members, a=3, b=3)
        stage.pass_time(250)
        alone = next(each for each in told(stage, names, Event.PREEMPTED) if each[2].endswith(" 0 2"))
        assert 190 * MS < int(alone[2].split()[0]) < 210 * MS


def test_the_ring_lasts() -> None:
    """A slice takes two records, and a plan that is installed again one: the ring holds the last 8,000 slices."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute, c=compute)
        plan(scheduler, cpu, members, a=10, b=10, c=10)
        stage.pass_time(35)
        before, switches = len(records(stage)), stage.kernel.kip.counter(Counter.SWITCHES)
        stage.pass_time(1000)
        slices = stage.kernel.kip.counter(Counter.SWITCHES) - switches
        assert slices == 100
        assert len(records(stage)) - before == 2 * slices

        plan(scheduler, cpu, members, a=10, b=10, c=10)
        assert [r[1] for r in records(stage)[before + 2 * slices :]] == [Event.PLANNED, Event.TRAP]


def test_what_was_taken() -> None:
    """Of what is taken by force the record has the loser, its handle and the kind."""
    with theatre() as stage:
        a, b = stage.pair()
        taken = passed(a, a.handles[0], b, ALL_RIGHTS)
        a.sys.revoke(a.handles[0])

        assert [(r[3], r[4], r[5]) for r in records(stage) if r[1] == Event.LOST] == [
            (b.environment.number, taken, Kind.RAM)
        ]

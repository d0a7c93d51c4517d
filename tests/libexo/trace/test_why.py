"""Why a program did not run: a planted cause of each kind is named, by the real kernel on the simulated machine."""

from signal import SIGCONT, SIGSTOP

import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.events import Event, name_words
from kernel.abi.ids import ANY_THREAD, KERNEL_CPUS, KERNEL_PREDICATES, thread_id
from kernel.abi.kip import Page, Wait
from kernel.abi.limits import TRACE_RECORDS
from kernel.abi.predicates import Operator, Source, Term
from kernel.abi.rights import ALL_RIGHTS, Rights
from libexo.errors import NotFound
from libexo.trace import Cause, History, Present, Record, State, explain
from tests.kernel.pagers import Paging, Program
from tests.kernel.passing import passed
from tests.kernel.puppets import MS, Puppet, Theatre, theatre
from tests.kernel.test_processor import cast_of, compute, plan, sleepy
from tests.kernel.test_reserved_walk import reserve
from tests.libexo.trace.planting import history, hog, spent, whom, why


def near(**milliseconds: float) -> dict[Cause, object]:
    """Return what is spent, within three milliseconds."""
    return {Cause[name]: pytest.approx(ms, abs=3) for name, ms in milliseconds.items()}


def test_the_turn_of_others() -> None:
    """By a plan of 30 and 10 of 40 ms, b waits three quarters of the time, and a has the processor."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=30, b=10)
        stage.pass_time(900)
        found = why(stage, "b", 800)

        assert spent(found) == near(RAN=200, TURN=600)
        assert found.got == pytest.approx(0.25, abs=0.01)
        assert found.planned == pytest.approx(0.25)
        assert found.plan_us == (10_000, 40_000)
        assert whom(found, Cause.TURN) == ["a"]
        assert found.held["a"] / MS == pytest.approx(600, abs=3)
        assert found.longest / MS == pytest.approx(30, abs=1)
        assert 19 <= found.slices <= 21


def test_no_slice_in_the_plan() -> None:
    """A program that the plan leaves out for a while is told how long."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(200)
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(300)
        found = why(stage, "b", 400)

        assert spent(found) == near(RAN=50, TURN=50, UNPLANNED=300)
        assert found.planned == pytest.approx(0.125, abs=0.02)
        assert found.plan_us == (0, 10_000)


@pytest.mark.parametrize(
    ("awaits", "cause", "names"),
    [
        ("c", "PARTNER", ["c"]),
        ("any", "PARTNER", ["any sender"]),
        ("kernel", "PARTNER", ["the kernel"]),
        ("itself", "SLEPT", []),
        ("nobody", "SLEPT", []),
    ],
)
@pytest.mark.parametrize("word", [Wait.FOR, Wait.SENDS, Wait.ANSWER])
def test_sleep(word: Wait, awaits: str, cause: str, names: list[str]) -> None:
    """A program that sleeps is told for whom it says that it waits, or sends to, if it says so of another."""
    with theatre() as stage:
        c = stage.puppet("c")
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(10 * MS, 1000 * MS))
        threads = {"c": c.thread, "any": ANY_THREAD, "kernel": KERNEL_CPUS, "itself": members["b"].thread}
        for each in Wait.FOR, Wait.SENDS, Wait.ANSWER:
            members["b"].env.page[Page.WAITS + each] = threads.get(awaits, 0) if each is word else 0
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(500)
        found = why(stage, "b", 400)

        assert spent(found) == near(**{cause: 400})
        assert whom(found, Cause[cause]) == names
        assert found.state is State.ASLEEP


def is_told(body: SimulatedBody) -> None:
    """Compute, sleep until the kernel sends a message, and compute again."""
    body.burn(10 * MS)
    body.wait(lambda: bool(body.pipe.to_program), None)
    compute(body)


@pytest.mark.parametrize("awaits", [thread_id(KERNEL_PREDICATES, 9), ANY_THREAD])
def test_a_predicate(awaits: int) -> None:
    """Who sleeps for a predicate is told so, and which clause came true; one that takes any message, afterwards."""
    with theatre() as stage:
        writer = stage.puppet("writer", holds=("ram",))
        memory = writer.sys.carve(writer.handles[0], 1).extent
        view = writer.env.views.map(memory).cast("Q")
        scheduler, cpu, members = cast_of(stage, a=compute, b=is_told)
        lent = passed(writer, memory, members["b"], Rights.READ)
        members["b"].upcalls()
        members["b"].env.page[Page.WAITS + Wait.FOR] = awaits
        never = Term(Source.CONSTANT, 0, Operator.EQUAL, 1)
        members["b"].sys.wake_when(9, ((never,), (Term(lent, 3, Operator.EQUAL, 5),)))
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(300)
        meanwhile = why(stage, "b", 200)
        view[3] = 5
        stage.pass_time(100)
        found = why(stage, "b", 300)
        known = awaits != ANY_THREAD

        assert spent(meanwhile) == near(**{"PREDICATE" if known else "PARTNER": 200})
        assert whom(meanwhile, Cause.PREDICATE) == (["none so far"] if known else [])
        assert spent(found).keys() == {Cause.PREDICATE, Cause.RAN, Cause.TURN}
        assert found.spent[Cause.PREDICATE] / MS == pytest.approx(200, abs=3)
        assert whom(found, Cause.PREDICATE) == ["clause 1"]


@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
def test_it_says_so_later(tells: bool) -> None:  # noqa: FBT001 - a case
    """Who fell asleep before it could say for whom, and says so in a moment that does not count, is believed."""
    with theatre() as stage:
        stage.machine.switches(0).tells = tells
        c = stage.puppet("c")
        scheduler, cpu, members = cast_of(stage, a=compute)

        def late(body: SimulatedBody) -> None:
            body.burn(10 * MS)
            body.wait(lambda: False, body.now() + 50 * MS)
            pages[0][Page.WAITS + Wait.FOR] = c.thread
            body.burn(MS // 10)
            body.wait(lambda: False, None)

        members["late"] = stage.puppet("late", cpu=0, work=late)
        pages = [members["late"].env.page]
        pages[0][Page.WAITS + Wait.FOR] = 0
        plan(scheduler, cpu, members, a=10, late=10)
        stage.pass_time(500)

        assert spent(why(stage, "late", 400)) == near(PARTNER=400)
        assert whom(why(stage, "late", 400), Cause.PARTNER) == ["c"]


def test_naps_in_a_slice() -> None:
    """Sleep that the plan waits for, because it is short, is sleep of its own, and no doing of the host."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(MS, 3 * MS))
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(1000)
        found = why(stage, "b", 800)

        assert found.spent[Cause.SLEPT] > 10 * found.spent[Cause.HOST]
        assert found.spent[Cause.SLEPT] > 150 * MS


def test_stopped() -> None:
    """A program that a signal or a debugger stops is told so, until it has run again."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(100)
        members["b"].body.signal(SIGSTOP)
        stage.pass_time(300)
        assert why(stage, "b", 200).spent[Cause.STOPPED] == 200 * MS

        members["b"].body.signal(SIGCONT)
        stage.pass_time(100)
        assert why(stage, "b", 50).spent[Cause.STOPPED] == 0


def paged(stage: Theatre, name: str) -> tuple[Paging, Program, Puppet]:
    """A program under the plan with a window onto paged memory, beside one that computes."""
    paging = Paging(stage)
    over: list[bool] = []

    def faults(body: SimulatedBody) -> None:
        body.burn(5 * MS)
        body.wait(lambda: bool(over), None)
        body.burn(10**15)

    scheduler, cpu, members = cast_of(stage, a=compute, **{name: faults})
    program = Program(paging, members[name], ALL_RIGHTS, paging.handle)
    plan(scheduler, cpu, members, **{"a": 10, name: 10})
    stage.pass_time(100)
    program.touch(2)
    program.over = over.append  # type: ignore[attr-defined]
    return paging, program, members[name]


def test_a_page_that_is_awaited() -> None:
    """Who waits for a page is told whose, and no longer than until it came."""
    with theatre() as stage:
        paging, program, _ = paged(stage, "b")
        stage.pass_time(200)
        found = why(stage, "b", 150)
        assert (spent(found), whom(found, Cause.PAGER)) == (near(PAGER=150), ["pager"])

        paging.supply(2)
        program.over(True)  # type: ignore[attr-defined]
        stage.pass_time(200)
        assert spent(why(stage, "b", 160)) == near(RAN=80, TURN=80)


def test_the_watchdog() -> None:
    """While nobody plans, the kernel's round robin gives others their turns, and is named for it."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(100)
        stage.kill(scheduler)
        stage.pass_time(300)
        found = why(stage, "b", 200)

        assert spent(found) == near(RAN=100, WATCHDOG=100)
        assert whom(found, Cause.WATCHDOG) == ["a"]

        after = stage.puppet("heir", holds=("cpus",))
        plan(after, after.handles[0], members, a=10, b=10)
        stage.pass_time(300)
        assert spent(why(stage, "b", 200)) == near(RAN=100, TURN=100)


def test_overruns_are_paid_back() -> None:
    """What a critical section took too much comes off the slices after, and is named."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        members["a"].env.page[Page.CRITICAL] = 1
        plan(scheduler, cpu, members, a=5, b=5)
        stage.pass_time(500)
        found = why(stage, "a", 400)

        assert spent(found) == near(RAN=200, TURN=160, CARRY=40)
        assert found.whom[Cause.TURN]["b"] / MS == pytest.approx(160, abs=3)


def test_the_host_had_the_core() -> None:
    """Two loops get half of what the plan promises: the host ran something else in their slices, for as long."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        for each in members.values():
            hog(each)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(1000)
        found = why(stage, "a", 800)

        assert spent(found) == {
            Cause.RAN: pytest.approx(200, abs=12),
            Cause.HOST: pytest.approx(200, abs=12),
            Cause.TURN: pytest.approx(400, abs=12),
        }
        assert found.planned == pytest.approx(0.5)
        assert found.got == pytest.approx(0.25, abs=0.02)


def test_directed_slices() -> None:
    """Slices that the scheduler gives others outside the plan are no turns."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(5)
        scheduler.sys.thread_switch(cpu, members["b"].thread, 40_000)
        stage.pass_time(30)
        found = why(stage, "a", 20)

        assert (spent(found), whom(found, Cause.DIRECTED)) == (near(DIRECTED=20), ["b"])


def test_something_was_taken() -> None:
    """A sleep that begins when a right was taken by force is put down to that, unless it waits for somebody."""
    with theatre() as stage:
        giver = stage.puppet("giver", holds=("ram",))
        scheduler, cpu, members = cast_of(stage, a=compute, b=sleepy(10 * MS, 1000 * MS))
        passed(giver, giver.handles[0], members["b"], ALL_RIGHTS)
        members["b"].env.page[Page.WAITS + Wait.FOR] = 0
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(25)
        giver.sys.revoke(giver.handles[0])
        stage.pass_time(300)

        assert spent(why(stage, "b", 200)) == near(REVOCATION=200)


def test_nobody_else_wants_it() -> None:
    """A program that sleeps while it has the processor to itself is not looked at, and that is said."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=sleepy(MS, 50 * MS))
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(500)
        found = why(stage, "a", 300)

        assert spent(found) == near(ALONE=300)
        assert [cause for cause, _ in found.causes()] == [Cause.ALONE]


def test_before_and_after() -> None:
    """Time before it came, and since it ended, is neither run nor stopped; its name and its end stay."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute)
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(100)
        members["b"] = stage.puppet("b-with-a-name-of-thirty-bytes-", cpu=0, work=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(100)
        stage.kill(members["b"])
        stage.pass_time(100)
        found = why(stage, "b-with-a-name-of-thirty-bytes-", 300)

        assert spent(found) == near(ABSENT=200, RAN=40, TURN=60)
        assert found.ended == "it ended by signal 9"
        assert found.got == pytest.approx(0.4, abs=0.02)
        assert found.planned == pytest.approx(0.5, abs=0.05)
        assert found.longest / MS <= 21


def test_two_loops_beside_a_reservation() -> None:
    """Two loops get half of what the plan promises: a third had reserved the time, and nobody else is blamed."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute, third=compute)
        reserve(scheduler, cpu, members["third"], 10, 20)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(900)
        found = why(stage, "a", 800)

        assert spent(found) == near(RAN=200, TURN=200, RESERVATION=400)
        assert whom(found, Cause.RESERVATION) == ["third"]
        assert whom(found, Cause.TURN) == ["b"]
        assert found.planned == pytest.approx(0.5)
        assert found.got == pytest.approx(0.25, abs=0.01)


def test_a_number_that_is_used_again() -> None:
    """Who has the number of one that ended is not taken for it."""
    (words,) = ((a, b) for _, a, b in name_words("old"))
    kinds = [
        (Event.CREATED, 100 << 32, 0), (Event.READY, 0, 0), (Event.SWITCHED, 10_000, 10_000 << 32),
        (Event.ENDED, 256, 0), (Event.NAME, *words),
        (Event.CREATED, 101 << 32, 0), (Event.READY, 0, 0), (Event.SWITCHED, 10_000, 10_000 << 32),
        (Event.PREEMPTED, 10 * MS, 0),
    ]  # fmt: skip
    records = [Record(at, at * 10 * MS, event, 5, a, b) for at, (event, a, b) in enumerate(kinds)]
    past = History(records, Present({5: "new"}, {101: 5}, {5: (2, 0)}, [[(5, 10_000)]]), 90 * MS)

    assert spent(explain(past, "old", 0, 90 * MS)) == near(ABSENT=70, SWITCHING=10, RAN=10)
    assert spent(explain(past, "new", 0, 90 * MS)) == near(ABSENT=60, SWITCHING=20, RAN=10)
    assert [past.of_thread(number) for number in (100, 101, 102)] == ["old", "new", "thread 102"]


def test_a_window_longer_than_the_ring() -> None:
    """What was before the oldest event is missing, and no cause is made up for it."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute, b=compute)
        plan(scheduler, cpu, members, a=10, b=10)
        stage.pass_time(200)
        for _ in range(TRACE_RECORDS - 20):
            stage.kernel.exposure.trace.record(99, 0)  # type: ignore[arg-type]
        stage.pass_time(100)
        found = why(stage, "b", 300)

        assert found.known + found.missing == 300 * MS
        assert found.missing > 150 * MS
        assert found.spent[Cause.RAN] / MS == pytest.approx(50, abs=12)


def test_nothing_is_known() -> None:
    """A server is under no plan: nothing is said of it. A name that nobody has, or had, is refused."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, a=compute)
        plan(scheduler, cpu, members, a=10)
        stage.pass_time(100)
        found = why(stage, "scheduler", 50)
        assert (found.processor, found.spent[Cause.RAN], found.known) == (-1, 0, 0)

        with pytest.raises(NotFound, match="no environment is called 'nobody'"):
            why(stage, "nobody", 50)


def test_every_moment_has_one_cause(seed: int) -> None:
    """Of members that compute, nap and sleep, causes add up to the window, and CPU time to the host's account."""
    with theatre(seed=seed) as stage:
        scheduler, cpu, members = cast_of(
            stage, a=compute, b=sleepy(3 * MS, 9 * MS), c=sleepy(MS // 3, MS // 3), d=sleepy(40 * MS, 90 * MS)
        )
        plan(scheduler, cpu, members, a=7, b=3, c=5, d=4)
        stage.pass_time(30)
        before = {name: each.body.consumed() for name, each in members.items()}
        begin = stage.machine.clock.now()
        stage.pass_time(1500)
        lasted = (stage.machine.clock.now() - begin) / MS
        for name, member in members.items():
            found = why(stage, name, lasted)
            ran = member.body.consumed() - before[name]

            assert sum(found.spent.values()) == found.end - found.begin
            assert found.spent[Cause.UNKNOWN] == 0
            assert found.spent[Cause.RAN] == pytest.approx(ran, abs=12 * MS)
        assert sum(span.end - span.begin for span in history(stage).on(0)) > 1_400 * MS

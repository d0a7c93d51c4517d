"""Several strands in one body: whose turn it is, what they share, and how they and their body end."""

import signal
import threading
from collections.abc import Callable

import pytest

from hwmodel.failures import Failure, FailureKind, Failures
from hwmodel.machine import do
from hwmodel.simulated.bodies import STEP_NS, SimulatedBody
from hwmodel.simulated.machine import Outcome, SimulatedMachine
from hwmodel.simulated.strands import Killed
from kernel.abi.program import Activity
from tests.hwmodel.simulated.rig import MS, Rig, call, rig

Work = Callable[[SimulatedBody], object]


def with_strands(*works: Work, main: Work) -> Work:
    """Return a program that starts a strand for each of *works*, and does *main* itself."""

    def program(body: SimulatedBody) -> object:
        for number, work in enumerate(works, 1):
            body.start_strand(lambda work=work: work(body), f"s{number}")  # type: ignore[misc]
        return main(body)

    return program


def forever(body: SimulatedBody) -> None:
    """Wait for what never comes."""
    body.wait(lambda: False, None)


def host_threads(body: SimulatedBody) -> list[str]:
    """The host threads of *body* that are left."""
    return [t.name for t in threading.enumerate() if t.name.startswith(body.holder)]


# ------------------------------------------------------------------------------------------------------ turns


def order_of(seed: int) -> str:
    """The order in which three strands of one body take five turns each."""
    order: list[str] = []

    def turns(name: str) -> Work:
        def work(body: SimulatedBody) -> None:
            for _ in range(5):
                order.append(name)
                body.wait(lambda: True, None)

        return work

    with rig(seed=seed) as r:

        def main(body: SimulatedBody) -> None:
            turns("a")(body)
            body.wait(lambda: len(order) == 15, None)

        body = r.launch(with_strands(turns("b"), turns("c"), main=main))
        r.run()
        assert body.status == 0
    return "".join(order)


def test_strands_take_turns_by_the_seed() -> None:
    """At each handover the seed picks among the strands that can run: one seed one order, others other orders."""
    assert order_of(1) == order_of(1)
    assert len({order_of(seed) for seed in range(8)}) == 8
    assert all(sorted(order_of(seed)) == sorted("abc" * 5) for seed in range(3))


def test_a_new_strand_runs_at_the_next_handover() -> None:
    """Starting a strand is no handover: its starter goes on first."""
    order: list[str] = []
    with rig() as r:

        def main(body: SimulatedBody) -> None:
            order.append("main")
            body.wait(lambda: len(order) == 2, None)

        body = r.launch(with_strands(lambda _: order.append("strand"), main=main))
        r.run()
        assert (order, body.status) == (["main", "strand"], 0)


def test_each_strand_waits_for_itself() -> None:
    """Two strands of a body sleep until deadlines of their own, and a third for what one of them does."""
    woke: list[tuple[str, int]] = []

    def sleep(name: str, until: int) -> Work:
        def work(body: SimulatedBody) -> None:
            body.wait(lambda: False, until)
            woke.append((name, body.now() // MS))

        return work

    def main(body: SimulatedBody) -> None:
        body.wait(lambda: len(woke) == 2, None)

    with rig() as r:
        body = r.launch(with_strands(sleep("late", 30 * MS), sleep("early", 10 * MS), main=main))
        assert r.run() is Outcome.IDLE
        assert (woke, body.status) == ([("early", 10), ("late", 30)], 0)


def test_handovers_are_the_body_s() -> None:
    """A failure planned for the body's k-th handover happens there, whichever strand makes it."""

    def steps(body: SimulatedBody) -> None:
        for _ in range(10):
            body.wait(lambda: True, None)

    for seed in range(5):
        with rig(seed=seed, failures=Failures([Failure(FailureKind.KILL, 1, 7)])) as r:
            body = r.launch(with_strands(steps, main=steps))
            r.run()
            assert (body.handovers, body.status) == (7, -9)


# ----------------------------------------------------------------------------------------------- the processor


def computing(*spans: int) -> tuple[Rig, SimulatedBody, dict[int, int]]:
    """Run a body whose strands compute for *spans* milliseconds; return when each was through, in ms."""
    through: dict[int, int] = {}

    def burn(span: int) -> Work:
        def work(body: SimulatedBody) -> None:
            body.burn(span * MS)
            through[span] = body.now() // MS

        return work

    with rig() as r:
        main = lambda body: body.wait(lambda: len(through) == len(spans), None)  # noqa: E731
        body = r.launch(with_strands(*map(burn, spans), main=main))
        r.run()
        assert body.status == 0
        return r, body, through


def test_strands_share_one_processor() -> None:
    """Two strands that compute get half of it each; alone, one gets all: 1 ms beside 9 ms is through after 2."""
    r, body, through = computing(9, 1)
    assert through == {1: 2, 9: 10}
    assert 10 * MS <= body.consumed() < 11 * MS
    assert 10 * MS <= r.machine.clock.now() < 11 * MS


def test_no_time_is_lost_in_the_sharing() -> None:
    """Of three strands on one processor not a nanosecond is used twice, or by nobody."""
    r, body, _ = computing(5, 3, 7)
    steps = body.handovers * STEP_NS
    assert body.consumed() - steps == pytest.approx(15 * MS, abs=5_000)
    assert 0 <= r.machine.clock.now() - body.consumed() < 5_000


def test_a_plan_takes_the_processor_from_all_strands() -> None:
    """Under a plan no strand computes or runs while the body is paused; afterwards all go on where they were."""
    ran: list[str] = []
    with rig() as r:

        def main(body: SimulatedBody) -> None:
            body.burn(10 * MS)
            ran.append("main")

        def other(body: SimulatedBody) -> None:
            body.burn(2 * MS)
            ran.append("other")

        body = r.launch(with_strands(other, main=main), cpu=0)
        assert r.run() is Outcome.IDLE
        assert body.consumed() == 0
        body.resume()
        assert r.run(limit=3 * MS) is Outcome.LIMIT
        body.pause()
        r.machine.clock.alarm(50 * MS, body.resume)
        r.run(limit=49 * MS)
        assert (ran, body.consumed(), body.activity() is Activity.WAITS) == ([], 3 * MS, False)
        r.run()
        assert (ran, body.status) == (["other", "main"], 0)
        assert 59 * MS <= r.machine.clock.now() < 60 * MS


def test_a_stop_signal_stops_all_strands() -> None:
    """SIGSTOP keeps strands from running whose deadline has passed, and SIGCONT lets them."""
    ran: list[int] = []

    def work(body: SimulatedBody) -> None:
        body.wait(lambda: False, MS)
        ran.append(body.now() // MS)

    def main(body: SimulatedBody) -> None:
        work(body)
        body.wait(lambda: len(ran) == 2, None)

    with rig() as r:
        body = r.launch(with_strands(work, main=main))
        r.run(until=lambda: body.handovers == 2)
        body.signal(signal.SIGSTOP)
        r.machine.clock.alarm(5 * MS, lambda: body.signal(signal.SIGCONT))
        r.run()
        assert (ran, body.status) == ([5, 5], 0)


def test_asleep_is_when_all_wait() -> None:
    """One strand that computes, or could go on, keeps its body awake."""
    go: list[bool] = []

    def work(body: SimulatedBody) -> None:
        body.burn(MS)
        body.wait(lambda: bool(go), None)

    with rig() as r:
        body = r.launch(with_strands(work, main=forever))
        r.run(limit=MS // 2)
        assert body.activity() is not Activity.WAITS
        r.run()
        assert body.activity() is Activity.WAITS
        go.append(True)
        assert body.activity() is not Activity.WAITS


# ------------------------------------------------------------------------------------------------------- ends


def unwinding(log: list[str], name: str) -> Work:
    """Wait for ever; when that is cut, try to use the host again, and write down what happened."""

    def work(body: SimulatedBody) -> None:
        try:
            forever(body)
        except Killed:
            for attempt in (body.now, lambda: body.start_strand(lambda: None, "more")):
                with pytest.raises(Killed):
                    attempt()
            log.append(name)
            raise

    return work


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_unwinds_every_strand(seed: int) -> None:
    """A killed body ends when each of its strands has unwound, none of which can use the host any more."""
    log: list[str] = []
    with rig(seed=seed) as r:
        body = r.launch(with_strands(*(unwinding(log, n) for n in "bc"), main=unwinding(log, "a")))
        r.run()
        body.kill()
        r.run()
        assert sorted(log) == ["a", "b", "c"]
        assert (body.status, r.recorder.said[-1], body.strand_errors) == (-9, ("ended", -9), [])


@pytest.mark.parametrize(
    ("main", "status"),
    [
        pytest.param(lambda body: "result", 0, id="returns"),
        pytest.param(lambda body: 1 // 0, 1, id="raises"),
        pytest.param(lambda body: (_ for _ in ()).throw(SystemExit(3)), 3, id="exits"),
    ],
)
def test_the_end_of_the_main_strand_ends_the_body(main: Work, status: int) -> None:
    """The others unwind as from a kill, one that never ran too; the status is the main strand's."""
    log: list[str] = []
    with rig() as r:

        def wait_and_end(body: SimulatedBody) -> object:
            body.wait(lambda: False, MS)
            body.start_strand(lambda: log.append("never"), "late")
            return main(body)

        body = r.launch(with_strands(unwinding(log, "b"), unwinding(log, "c"), main=wait_and_end))
        r.run()
        assert sorted(log) == ["b", "c"]
        assert (body.status, r.recorder.said[-1]) == (status, ("ended", status))
        assert body.result == ("result" if status == 0 else None)


def test_a_kill_after_the_main_strand_ended_changes_nothing() -> None:
    """The status is decided when the main strand ends, though others are still to unwind."""
    with rig() as r:
        body = r.launch(with_strands(forever, main=lambda body: body.wait(lambda: False, MS)))
        r.run(until=lambda: body.ending)
        left = len(body.strands)
        body.kill()
        r.run()
        assert (left, body.status, body.killer) == (1, 0, 0)


def test_what_a_strand_raises_ends_that_strand_only() -> None:
    """The error and its traceback are kept, with the strand's name; the other strands go on."""
    with rig() as r:
        body = r.launch(with_strands(lambda _: 1 // 0, main=lambda body: body.wait(lambda: False, MS)))
        r.run()
        assert (body.status, body.error) == (0, None)
        assert [type(error) for error in body.strand_errors] == [ZeroDivisionError]
        assert "ZeroDivisionError" in r.machine.log[0]
        assert f"in strand {body.holder}/s1 of" in r.machine.log[0]


def test_a_strand_that_exits_ends_alone() -> None:
    """SystemExit ends the strand that raises it, and is no error, as in a thread of a process."""

    def leave(_: SimulatedBody) -> None:
        raise SystemExit(3)

    with rig() as r:
        body = r.launch(with_strands(leave, main=lambda body: body.wait(lambda: False, MS)))
        r.run()
        assert (body.status, body.strand_errors, r.machine.log) == (0, [], [])


def test_a_bus_error_in_a_strand_ends_the_body() -> None:
    """Memory that was taken kills the program whichever strand touches it, as SIGBUS kills a process."""
    closed: list[bool] = []
    with rig() as r:
        backing = r.machine.memory.carve(0, 1, zero=True)

        def touch(body: SimulatedBody) -> None:
            view = body.map(backing.descriptor(writable=True), 4096, writable=True)
            body.wait(lambda: False, MS)
            view[0] = 2

        body = r.launch(with_strands(touch, main=forever))
        body.dying.append(lambda: closed.append(True))
        r.machine.clock.alarm(MS // 2, lambda: do(backing.release()))
        r.run()
        assert (body.status, closed, body.strand_errors) == (-signal.SIGBUS, [True], [])
        assert isinstance(body.error, ValueError)


def keep(body: SimulatedBody) -> None:
    """Hold a descriptor and a mapping, and wait."""
    machine = body._machine
    assert isinstance(machine, SimulatedMachine)
    page = machine.page("page", 4096)
    page.descriptor(writable=True).owner = body.holder
    body.map(page.descriptor(writable=True), 4096, writable=True)
    forever(body)


def doze(body: SimulatedBody) -> None:
    """Wait a little."""
    body.wait(lambda: False, MS)


def fail(body: SimulatedBody) -> None:
    """Wait a little, and raise."""
    doze(body)
    raise ValueError("on purpose")


def stop_and_kill(body: SimulatedBody) -> None:
    body.pause()
    body.kill()


ENDS: dict[str, tuple[Work, Callable[[SimulatedBody], None], int]] = {
    "the main strand returns": (doze, lambda body: None, 0),
    "the main strand raises": (fail, lambda body: None, 1),
    "killed while strands wait": (forever, SimulatedBody.kill, -9),
    "killed while strands compute": (lambda body: body.burn(10**15), SimulatedBody.kill, -9),
    "killed while stopped": (forever, stop_and_kill, -9),
}


@pytest.mark.parametrize("how", ENDS)
def test_nothing_is_left_of_a_body(how: str) -> None:
    """However a body with several strands ends, its descriptors, its mappings and its host threads are gone."""
    main, end, status = ENDS[how]
    with rig() as r:
        body = r.launch(with_strands(keep, lambda _: None, keep, main=main))
        r.run(limit=MS // 2)
        assert len(r.machine.open_descriptors()) == 2
        assert len(host_threads(body)) == 3
        end(body)
        r.run()
        assert (body.status, body.strands) == (status, [])
        assert (r.machine.open_descriptors(), host_threads(body)) == ([], [])


def test_strands_that_end_first_are_collected_at_once() -> None:
    """A body that starts strands again and again has only those that live."""
    left: list[int] = []
    with rig() as r:

        def program(body: SimulatedBody) -> None:
            ended: list[int] = []
            for number in range(50):
                body.start_strand(lambda: ended.append(1), f"{number}")
                body.wait(lambda: len(ended) > number, None)  # noqa: B023 - it is asked in this round only
            left.append(len(host_threads(body)))

        r.launch(program)
        r.run()
        assert left == [1]


def test_a_closed_machine_ends_all_strands() -> None:
    """Closing the machine unwinds strands in the middle of whatever they do."""
    log: list[str] = []
    with rig() as r:
        body = r.launch(with_strands(unwinding(log, "b"), call_for_ever, main=unwinding(log, "a")))
        r.run(until=lambda: r.machine.clock.now() > MS)
    assert (sorted(log), host_threads(body)) == (["a", "b"], [])


def call_for_ever(body: SimulatedBody) -> None:
    """Trap again and again."""
    while True:
        call(body, b"x")

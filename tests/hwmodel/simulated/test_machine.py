"""The simulated machine: one order a seed, virtual time, side by side; what it lends is in a ledger."""

from hwmodel.failures import Failures
from hwmodel.simulated.bodies import STEP_NS, SimulatedBody
from hwmodel.simulated.machine import Outcome, SimulatedMachine
from kernel.abi.program import Activity
from kernel.abi.topology import MachineConfig, Topology
from tests.hwmodel.simulated.rig import MS, Recorder, call, rig, step


def chatter(seed: int) -> list[tuple[int, str, int]]:
    """The trace of three programs that trap ten times each."""
    with rig(seed=seed) as r:
        for _ in range(3):
            r.launch(lambda body: [call(body, b"%d" % n) for n in range(10)])
        assert r.run() is Outcome.IDLE
        return list(r.machine.trace)


def test_one_seed_one_trace() -> None:
    """Two runs of one seed hand over in the same order at the same times; another seed in another."""
    assert chatter(1) == chatter(1)
    assert chatter(1) != chatter(2)


def test_life_of_a_program() -> None:
    """A program is started, traps are answered, its return is its end with status 0."""
    with rig() as r:
        body = r.launch(lambda body: call(body, b"hello"))
        assert r.run() is Outcome.IDLE
        assert r.recorder.said == [("started", True), ("trap", b"hello"), ("ended", 0)]
        assert body.result == b"hello"


def test_time_jumps_to_the_next_deadline() -> None:
    """When everybody waits, an hour passes at once."""
    with rig() as r:

        def program(body: SimulatedBody) -> int:
            body.wait(lambda: False, 3600 * 1000 * MS)
            return body.now()

        body = r.launch(program)
        r.run()
        assert isinstance(body.result, int)
        assert 3600 * 1000 * MS <= body.result < 3600 * 1000 * MS + MS
        assert body.consumed() < MS


def test_alarms_go_off_in_order_and_can_be_cancelled() -> None:
    """Alarms of the clock run at their times; a cancelled one does not."""
    with rig() as r:
        got: list[int] = []
        clock = r.machine.clock
        for at in (30, 10, 20):
            clock.alarm(at, lambda: got.append(clock.now()))
        clock.alarm(15, lambda: got.append(-1)).cancel()
        r.run()
        assert got == [10, 20, 30]


def test_programs_compute_side_by_side() -> None:
    """Outside plans every program has a processor: two that compute 10 ms each take 10 ms."""
    with rig() as r:
        bodies = [r.launch(lambda body: body.burn(10 * MS)) for _ in range(2)]
        r.run()
        assert all(10 * MS <= body.consumed() < 11 * MS for body in bodies)
        assert 10 * MS <= r.machine.clock.now() < 11 * MS


def test_paused_body_does_not_run_and_consumes_nothing() -> None:
    """Under a plan a program runs only while it is resumed, and a pause cuts a computation anywhere."""
    with rig() as r:
        body = r.launch(lambda body: body.burn(10 * MS), cpu=0)
        assert r.run() is Outcome.IDLE
        assert body.consumed() == 0
        body.resume()
        assert r.run(limit=3 * MS) is Outcome.LIMIT
        body.pause()
        r.machine.clock.alarm(50 * MS, body.resume)
        r.run(limit=49 * MS)
        assert (body.consumed(), body.activity() is Activity.WAITS) == (3 * MS, False)
        r.run()
        assert (body.status, body.consumed()) == (0, 10 * MS + STEP_NS)
        assert 57 * MS <= r.machine.clock.now() < 58 * MS


def test_spinning_on_the_clock_lets_others_run() -> None:
    """A program that only reads the clock comes to an end, and others run meanwhile."""
    with rig() as r:
        order: list[str] = []

        def spin(body: SimulatedBody) -> None:
            while body.now() < MS:
                pass
            order.append("spinner")

        r.launch(spin)

        def other(body: SimulatedBody) -> None:
            body.wait(lambda: True, None)
            order.append("other")

        r.launch(other)
        r.run()
        assert order == ["other", "spinner"]


def test_every_step_costs() -> None:
    """Each handover is accounted, so that no loop of traps is free."""
    with rig() as r:
        body = r.launch(step)
        r.run()
        assert body.consumed() == 10 * STEP_NS


def test_timer_line() -> None:
    """With a tick, line 0 is raised on a grid of virtual time."""
    machine = SimulatedMachine(Topology(MachineConfig(memory="1 MiB", tick_ms=10)))
    got: list[int] = []
    machine.interrupts.connect(lambda line: got.append(machine.clock.now() + line))
    machine.interrupts.unmask(0)
    assert machine.drive(Recorder(), limit=35 * MS) is Outcome.LIMIT
    assert got == [10 * MS, 20 * MS, 30 * MS]


def test_run_stops() -> None:
    """`stop` ends `run`, which can go on later."""
    with rig() as r:
        r.machine.clock.alarm(10, r.machine.stop)
        body = r.launch(lambda body: body.wait(lambda: False, MS))
        r.machine.run(r.recorder)
        assert body.status is None
        r.machine.run(r.recorder)
        assert body.status == 0


def test_tokens_come_from_the_seed() -> None:
    """Tokens are 16 bytes, never begin with zero, differ, and repeat with the seed."""
    first, again = SimulatedMachine(seed=5), SimulatedMachine(seed=5)
    tokens = [first.token() for _ in range(300)]
    assert tokens == [again.token() for _ in range(300)]
    assert len(set(tokens)) == 300
    assert all(len(token) == 16 and token[0] for token in tokens)


def test_endpoints() -> None:
    """An end point takes one connection, announced later; the transport is told when it goes untaken."""
    machine = SimulatedMachine()
    gone: list[str] = []
    told: list[str] = []
    machine.endpoint_removed = gone.append
    taken, closed = (
        machine.endpoint(lambda: told.append("taken")),
        machine.endpoint(lambda: told.append("closed")),
    )
    connected = [machine.connect(name) for name in (taken.name, taken.name, closed.name, "nobody")]
    before = list(told)
    closed.close()
    closed.close()
    machine.virtual.ring()
    descriptor = taken.take()
    taken.close()
    descriptor.close()
    assert (connected, before, told) == ([True, False, True, False], [], ["taken"])
    assert (gone, machine.endpoints, machine.open_descriptors()) == ([closed.name], {}, [])


def test_schedules_of_kills_come_from_the_seed() -> None:
    """A drawn schedule is the same for the same seed, and inside its bounds."""
    drawn = Failures.drawn(3, [1, 2], 5, 100)
    assert drawn.planned == Failures.drawn(3, [1, 2], 5, 100).planned
    assert all(f.number in (1, 2) and 1 <= f.at <= 100 for f in drawn.planned)

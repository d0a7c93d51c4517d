"""ThreadSwitch, and Schedule's own helpers, on the simulated machine with its scheduler server."""

from collections.abc import Callable

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.kip import Page
from libexo import l4
from libexo.environment import Environment
from libexo.l4.format import registers as virtual
from libexo.testing import System, burn, simulated
from tests.servers.rig import ask, servers
from tests.servers.scheduler.commanding import MS, command, compute, start, two_processors, uses

Switch = Callable[[], object]


def spender(work_ms: float, switch: Switch) -> Callable[[Environment], None]:
    """Compute for that long, and then give up the processor by *switch*, again and again."""

    def live(_: Environment) -> None:
        while True:
            burn(int(work_ms * MS))
            switch()

    return live


def divided(system: System, **programs: Callable[[Environment], None]) -> dict[str, float]:
    """Use of 600 ms by programs that share a processor."""
    return uses(system, start(system, **programs), 600)


def test_yield() -> None:
    """A program that yields after 2 ms of each slice of 10 has 2 of 12 beside a loop: the rest is not carried."""
    with servers() as system:
        found = divided(system, a=spender(2, l4.Yield), b=compute)

        assert found["a"] == pytest.approx(100, abs=5)
        assert found["b"] == pytest.approx(500, abs=5)


def test_everybody_yields() -> None:
    """A program that yields is followed by the next of the plan, in turn."""
    with servers() as system:
        found = divided(system, a=spender(2, l4.Yield), b=spender(1, l4.Yield), c=spender(3, l4.Yield))

        assert sum(found.values()) == pytest.approx(600, abs=1)
        assert list(found.values()) == pytest.approx([200, 100, 300], rel=0.05)


def test_nobody_to_yield_to() -> None:
    """Alone on its processor, a program that yields goes on at once."""
    with servers() as system:
        assert divided(system, a=spender(2, l4.Yield))["a"] > 590


def test_donation() -> None:
    """A switch to a thread after 2 of 10 ms gives it the other 8: beside its own 10 it has 18 of each 30."""
    with servers() as system:
        tasks = start(system, b=compute, c=compute)
        giver = spender(2, lambda: l4.ThreadSwitch(tasks["b"].thread))
        tasks |= start(system, a=giver)
        found = uses(system, tasks, 600)

        assert [found[name] for name in "abc"] == pytest.approx([40, 360, 200], abs=10.5)


def test_donation_to_a_lower_level() -> None:
    """A gift of time ignores the priority: it is all that the lower level gets."""
    with servers() as system:
        tasks = start(system, b=compute)
        tasks |= start(system, a=spender(2, lambda: l4.ThreadSwitch(tasks["b"].thread)), c=compute)
        command(system, tasks, lambda: l4.Set_Priority(tasks["b"].thread, 50))
        found = uses(system, tasks, 600)

        assert [found[name] for name in "abc"] == pytest.approx([60, 240, 300], abs=10.5)


@pytest.mark.parametrize(
    "dest",
    [
        lambda system: start(system, s=lambda env: env.thread.sleep(1000))["s"].thread,
        lambda system: system.spawn(compute, "outside").thread,
        lambda _: thread_id(3999),
        lambda _: thread_id(5),
        lambda _: 1 << 6,
        lambda _: (1 << 64) - 1,
    ],
    ids=["asleep", "outside all plans", "dead", "an interrupt", "a local id of nobody", "any"],
)
def test_whoever_cannot_take_it(dest: Callable[[System], int]) -> None:
    """To a thread that cannot run on the same processor it is a yield."""
    with servers() as system:
        thread = dest(system)
        found = divided(system, a=spender(2, lambda: l4.ThreadSwitch(thread)), b=compute)

        assert found["a"] == pytest.approx(100, abs=6)
        assert found["b"] == pytest.approx(500, abs=8)


def test_another_processor() -> None:
    """To a thread on another processor it is a yield, and that thread has no more than before."""
    with two_processors() as system:
        other = system.spawn(compute, "other", cpu=1)
        beside = system.spawn(compute, "beside", cpu=1)
        found = divided(system, a=spender(2, lambda: l4.ThreadSwitch(other.thread)), b=compute)
        shares = uses(system, {"other": other, "beside": beside}, 200)

        assert found["a"] == pytest.approx(100, abs=5)
        assert list(shares.values()) == pytest.approx([100, 100], abs=10.1)


def test_who_has_used_up_its_quantum() -> None:
    """A thread that may not run any more cannot be given time either."""
    with servers() as system:
        tasks = start(system, b=compute)
        command(
            system, tasks, lambda: l4.Set_Timeslice(tasks["b"].thread, l4.TimePeriod(10_000), l4.ZeroTime)
        )
        tasks |= start(system, a=spender(2, lambda: l4.ThreadSwitch(tasks["b"].thread)), c=compute)

        assert uses(system, tasks, 300)["b"] == 0


def test_oneself() -> None:
    """To oneself nothing happens: by the global id, by the local one, under a plan or not."""

    def to_itself(_: Environment) -> None:
        while True:
            burn(2 * MS)
            l4.ThreadSwitch(l4.MyGlobalId())
            l4.ThreadSwitch(l4.MyLocalId())

    with servers() as system:
        found = divided(system, a=to_itself, b=compute)

        assert list(found.values()) == pytest.approx([300, 300], abs=10.5)


def test_under_no_plan() -> None:
    """A program that the host schedules gives up nothing, and asks no server."""

    def program(env: Environment) -> float:
        before = env.host.now()
        l4.Yield()
        return (env.host.now() - before) / MS

    with servers() as system:
        assert ask(system, program) == pytest.approx(0, abs=0.01)


def test_without_a_scheduler_server() -> None:
    """Where there is none, to yield is nothing, and Schedule fails with error 4."""

    def program(env: Environment) -> object:
        l4.Yield()
        return l4.Set_Priority(env.thread.id, 1), l4.ErrorCode(), l4.sched_get_server()

    with simulated() as system:
        task = system.spawn(program, cpu=0)
        system.run(task)

        assert task.result == (0, l4.ErrInvalidScheduler, l4.nilthread)


def test_a_pending_preemption_is_forgotten() -> None:
    """A thread that gives up the processor has done what flag I asks for."""

    def program(env: Environment) -> bool:
        registers = virtual.current()
        registers.preempt_flags = 1 << 7
        env.page[Page.OVERDUE] = 1
        l4.Yield()
        return l4.PreemptionPending()

    with servers() as system:
        assert ask(system, program) is False


# -------------------------------------------------------------------------------------------------- helpers


def test_the_message_registers_stay() -> None:
    """Neither call uses the message registers, as they are no IPC of the program's."""

    def program(env: Environment) -> bool:
        l4.LoadMRs(0, range(64))
        l4.Schedule(env.thread.id, *[(1 << 64) - 1] * 4)
        l4.Yield()
        return l4.StoreMRs(0, 64) == tuple(range(64))

    with servers() as system:
        task = system.spawn(program, cpu=0)
        system.run(task)

        assert task.result is True


def test_names() -> None:
    """Every name of the convenience interface for scheduling is in `l4`, and the older protocol's."""
    names = """ThreadSwitch Yield Schedule Set_Priority Set_ProcessorNo Set_Timeslice Timeslice Set_PreemptionDelay
        sched_set_server sched_get_server sched_send_request sched_wait_request sched_switch"""

    assert [name for name in names.split() if not hasattr(l4, name)] == []


def test_sched_switch() -> None:
    """The older protocol's switch is a ThreadSwitch."""
    with servers() as system:
        tasks = start(system, b=compute)
        tasks |= start(system, a=spender(2, lambda: l4.sched_switch(tasks["b"].thread)))
        found = uses(system, tasks, 400)

        assert [found[name] for name in "ab"] == pytest.approx([40, 360], abs=10.5)


def test_set_priority_masks() -> None:
    """A priority is cut to eight bits: 256 + 50 is 50, which the caller may give."""
    with servers() as system:
        tasks = start(system, a=compute, b=compute)
        state = command(system, tasks, lambda: l4.Set_Priority(tasks["b"].thread, 256 + 50))

        assert state == l4.SCHEDRESULT_RUNNING
        assert uses(system, tasks, 100)["b"] == 0


def test_set_preemption_delay() -> None:
    """A delay is taken; a sensitive priority above the caller's own is error 5."""
    with servers() as system:
        tasks = start(system, a=compute)
        thread = tasks["a"].thread
        orders = command(
            system,
            tasks,
            lambda: (
                l4.Set_PreemptionDelay(thread, 100, 500),
                l4.Set_PreemptionDelay(thread, 101, 500),
                l4.ErrorCode(),
            ),
        )

        assert orders == (l4.SCHEDRESULT_RUNNING, 0, l4.ErrInvalidParam)


def test_a_server_of_the_older_protocol() -> None:
    """The server that was set gets requests word for word, and may answer what it likes."""

    def server(_: Environment) -> object:
        request, sender, tag = l4.sched_wait_request()
        l4.LoadMRs(0, (l4.MsgTag.of(label=0x1234, u=1), 42))
        l4.Reply(sender)
        return request, tag.label, tag.u

    def client(env: Environment) -> int:
        l4.sched_set_server(env.lookup("other", 1))
        l4.sched_send_request(l4.SchedRequest(7, 1, 2, 3, 4))
        return l4.StoreMR(1)

    with simulated() as system:
        other, asking = system.spawn(server, "other"), system.spawn(client, "client")
        system.run()

        assert other.result == (l4.SchedRequest(7, 1, 2, 3, 4), 0x1234, 5)
        assert asking.result == 42


def test_what_is_no_request() -> None:
    """Of a message of another label, or length, the server sees that it is none."""

    def server(_: Environment) -> object:
        return [l4.sched_wait_request()[0] for _ in range(2)]

    def client(env: Environment) -> None:
        to = env.lookup("other", 1)
        for label, count in ((0x1235, 5), (0x1234, 4)):
            l4.LoadMRs(0, (l4.MsgTag.of(label=label, u=count), *range(1, 6)))
            l4.Send(to)

    with simulated() as system:
        other = system.spawn(server, "other")
        system.spawn(client, "client")
        system.run()

        assert other.result == [l4.SchedRequest(l4.nilthread)] * 2

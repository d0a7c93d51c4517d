"""The calls made of Ipc: their receivers, their senders, and their times."""

from collections.abc import Callable

import pytest

from kernel.abi.messages import Phase
from kernel.abi.topology import MachineConfig, Topology
from libexo import l4
from libexo.testing import simulated
from tests.libexo.l4.stage import (
    LONG,
    SEEDS,
    TIMED_OUT,
    WAITS,
    Cast,
    Said,
    heard,
    now,
    play,
    put,
    said,
    sleep,
)

conforms = pytest.mark.conforms
TIME = l4.TimePeriod(LONG)
Script = Callable[[int], l4.MsgTag]

NOBODY_READY: list[tuple[str, Script, object]] = [
    ("Call", l4.Call, WAITS),
    ("Call_Timeouts", lambda to: l4.Call_Timeouts(to, TIME, l4.Never), TIMED_OUT[Phase.SEND]),
    ("Send", l4.Send, WAITS),
    ("Send_Timeout", lambda to: l4.Send_Timeout(to, TIME), TIMED_OUT[Phase.SEND]),
    ("Reply", l4.Reply, TIMED_OUT[Phase.SEND]),
    ("Receive", l4.Receive, WAITS),
    ("Receive_Timeout", lambda to: l4.Receive_Timeout(to, TIME), TIMED_OUT[Phase.RECEIVE]),
    ("Wait", lambda _: l4.Wait()[1], WAITS),
    ("Wait_Timeout", lambda _: l4.Wait_Timeout(TIME)[1], TIMED_OUT[Phase.RECEIVE]),
    ("ReplyWait", lambda to: l4.ReplyWait(to)[1], TIMED_OUT[Phase.SEND]),
    ("ReplyWait_Timeout", lambda to: l4.ReplyWait_Timeout(to, TIME)[1], TIMED_OUT[Phase.SEND]),
    ("Lcall", l4.Lcall, WAITS),
    ("LreplyWait", lambda to: l4.LreplyWait(to)[1], TIMED_OUT[Phase.SEND]),
]
"""What each does with a partner that is there, and neither sends nor receives."""


@conforms("IPC: convenience calls")
@pytest.mark.parametrize(
    ("script", "outcome"), [case[1:] for case in NOBODY_READY], ids=[case[0] for case in NOBODY_READY]
)
def test_with_nobody_ready(script: Script, outcome: object) -> None:
    """Each call waits for ever, or not at all, or as long as it is told, in the phase it has."""

    def part(cast: Cast) -> object:
        put(1)
        return said(script(cast.deaf))

    assert play(deaf=lambda _: l4.Sleep(l4.Never), part=part)["part"] == outcome


WITH_ANSWER: list[tuple[str, Script, bool]] = [
    ("Call", l4.Call, True),
    ("Call_Timeouts", lambda to: l4.Call_Timeouts(to, TIME, TIME), True),
    ("Send", l4.Send, False),
    ("Send_Timeout", lambda to: l4.Send_Timeout(to, TIME), False),
    ("Reply", l4.Reply, False),
    ("ReplyWait", lambda to: l4.ReplyWait(to)[1], True),
    ("ReplyWait_Timeout", lambda to: l4.ReplyWait_Timeout(to, TIME)[1], True),
    ("Lcall", l4.Lcall, True),
]


@conforms("IPC: convenience calls")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("script", "receives"), [case[1:] for case in WITH_ANSWER], ids=[case[0] for case in WITH_ANSWER]
)
def test_with_a_partner(seed: int, script: Script, receives: bool) -> None:  # noqa: FBT001 - a case
    """Each sends to `to`; those with a receive phase take the answer, the others leave it to a later one."""

    def partner(cast: Cast) -> object:
        sender, tag = l4.Wait()
        message = said(tag)
        put(2)
        return message, said(l4.Send_Timeout(sender, TIME))

    def part(cast: Cast) -> object:
        sleep()
        put(1)
        result = said(script(cast.partner))
        return result if receives else (result, said(l4.Receive(cast.partner)))

    results = play(seed=seed, partner=partner, part=part)

    assert results["partner"] == (Said((1,)), Said(()))
    assert results["part"] == (Said((2,)) if receives else (Said(()), Said((2,))))


@conforms("IPC: convenience calls")
@pytest.mark.parametrize("wait", ["ReplyWait", "LreplyWait"])
def test_whom_the_servers_loops_wait_for(wait: str) -> None:
    """After its answer ReplyWait takes anybody's message, LreplyWait that of a thread of its own space."""

    def server(cast: Cast) -> object:
        cast.beside("inner", lambda cast: (sleep(LONG), put(5), l4.Send(cast.server).E)[2])
        sender, _ = l4.Wait()
        put(2)
        return heard(getattr(l4, wait)(sender))[1]

    def client(cast: Cast) -> object:
        sleep()
        put(1)
        return said(l4.Call(cast.server))

    def other(cast: Cast) -> object:
        sleep(LONG // 2)
        put(4)
        return said(l4.Send_Timeout(cast.server, l4.TimePeriod(2 * LONG)))

    results = play(server=server, client=client, other=other)

    assert results["server"] == Said((4,) if wait == "ReplyWait" else (5,))
    assert results["client"] == Said((2,))


@conforms("IPC: time-outs")
def test_the_time_outs_of_the_convenience_calls() -> None:
    """The times of Call_Timeouts are for its send and its receive phase, in this order."""

    def server(cast: Cast) -> object:
        sleep(LONG)
        l4.Wait()
        return sleep(10 * LONG)

    def client(cast: Cast) -> object:
        put(1)
        start = now()
        result = said(l4.Call_Timeouts(cast.server, l4.TimePeriod(2 * LONG), l4.TimePeriod(LONG // 2)))
        return result, LONG < now() - start < 2 * LONG

    assert play(server=server, client=client)["client"] == (TIMED_OUT[Phase.RECEIVE], True)


@conforms("SystemClock")
def test_the_system_clock() -> None:
    """The clock counts microseconds since boot, the same in every space, and never goes back."""

    def part(cast: Cast) -> object:
        readings = [l4.SystemClock() for _ in range(100)]
        sleep(LONG)
        return readings == sorted(readings), LONG - 1000 <= l4.SystemClock() - readings[-1] <= LONG + 1000

    def other(cast: Cast) -> object:
        sender, _ = l4.Wait()
        put(l4.SystemClock())
        return said(l4.Reply(sender))

    def asker(cast: Cast) -> object:
        before = l4.SystemClock()
        put()
        l4.Call(cast.other)
        return before <= l4.StoreMR(1) <= l4.SystemClock()

    results = play(part=part, other=other, asker=asker)

    assert (results["part"], results["asker"]) == ((True, True), True)


@conforms("ProcessorControl")
def test_processor_control() -> None:
    """A privileged thread's frequencies are shown in the kernel interface page; no such processor is error 5."""

    def boss(cast: Cast) -> object:
        done = l4.ProcessorControl(0, 3_000_000, 100_000, 0)
        page = l4.GetKernelInterface()
        described = l4.ProcDesc(page, 0)
        assert described is not None
        shown = l4.ProcDescInternalFreq(described), l4.ProcDescExternalFreq(described)
        return done, shown, l4.ProcessorControl(63, 1, 1, 0), l4.ErrorCode()

    assert play(boss=boss)["boss"] == (1, (3_000_000, 100_000), 0, l4.ErrInvalidParam)


def test_the_processor_one_runs_on() -> None:
    """ProcessorNo is that of the plan one is under, also after one was moved there; outside all plans it is 0."""
    two = Topology(MachineConfig(memory="1 MiB", cpus=(0, 1)))
    with simulated(two) as system:
        tasks = [system.spawn(lambda _: l4.ProcessorNo(), f"on-{cpu}", cpu=cpu) for cpu in (-1, 0, 1)]
        system.run(*tasks)
        assert [task.result for task in tasks] == [0, 0, 1]

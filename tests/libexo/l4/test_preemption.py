"""Preempt flags of X.2: what the kernel puts off, and what the exception handler is told."""

from collections.abc import Callable

import pytest

from kernel.abi.kip import Page
from kernel.abi.messages import Label
from libexo import l4
from libexo.environment import Environment
from libexo.l4.format import registers as virtual
from libexo.l4.format.tcrs import DELAY_PREEMPTION
from libexo.testing import System, burn
from tests.servers.rig import servers
from tests.servers.scheduler.commanding import MS, compute, start

Program = Callable[[Environment], object]
Heard = list[tuple[str, int, int, tuple[int, ...], int]]


def handler(answers: bool, heard: Heard) -> Program:  # noqa: FBT001 - what sort of handler it is
    """An exception handler that notes its messages: sender, label, typed words, words, and time."""

    def serve(env: Environment) -> None:
        while True:
            sender, tag = l4.Wait()
            row = env.kip.environment_of(sender)
            name = row.name if row is not None else ""
            heard.append((name, tag.label, tag.t, l4.StoreMRs(1, tag.u), l4.SystemClock()))
            if answers:
                l4.LoadMR(0, l4.Niltag)
                l4.Reply(sender)

    return serve


def beside_a_loop(system: System, program: Program, *, answers: bool = False) -> tuple[object, Heard]:
    """Run *program* under a plan beside a loop, and return its result, and what its exception handler heard."""
    heard: Heard = []
    system.spawn(handler(answers, heard), "handler")

    def handled(env: Environment) -> object:
        l4.Set_ExceptionHandler(env.lookup("handler", 1))
        return program(env)

    start(system, loop=compute)
    task = system.spawn(handled, "thread", cpu=0)
    system.run(task)
    return task.result, heard


def enter_ipc() -> None:
    """Do an IPC that takes next to no time."""
    l4.Sleep(l4.ZeroTime)


def test_a_message_of_preemptions() -> None:
    """With flag s set, the next IPC tells the handler: label -3, the clock in MR1, 0 in MR2; not the scheduler."""

    def program(_: Environment) -> bool:
        was = l4.EnablePreemptionFaultException()
        burn(25 * MS)
        enter_ipc()
        enter_ipc()
        return was

    with servers() as system:
        result, heard = beside_a_loop(system, program)

        assert result is False
        [(name, label, typed, words, now)] = heard
        assert (name, label, typed, words[1:]) == ("thread", Label.PREEMPTION, 0, (0,))
        assert 0 <= now - words[0] < 500


def test_nobody_asked() -> None:
    """Without the flag nothing is told, nor of preemptions from before it was set, nor after it was cleared."""

    def program(_: Environment) -> None:
        burn(25 * MS)
        enter_ipc()
        l4.EnablePreemptionFaultException()
        enter_ipc()
        l4.DisablePreemptionFaultException()
        burn(25 * MS)
        enter_ipc()

    with servers() as system:
        assert beside_a_loop(system, program)[1] == []


def test_sleeping_is_no_preemption() -> None:
    """A thread that gives up its processor by itself, to wait or to yield, was not preempted."""

    def program(env: Environment) -> None:
        l4.EnablePreemptionFaultException()
        for _ in range(5):
            burn(MS)
            l4.Yield()
            l4.Sleep(l4.TimePeriod(30_000))

    with servers() as system:
        assert beside_a_loop(system, program)[1] == []


def test_the_registers_stay() -> None:
    """The message is none of the thread's own: what it was about to send is as it was."""

    def program(env: Environment) -> object:
        l4.EnablePreemptionFaultException()
        l4.LoadBR(0, 1)
        burn(25 * MS)
        l4.LoadMRs(0, (l4.MsgTag.of(label=9, u=2), 11, 12))
        l4.Send(env.lookup("handler"))
        return l4.StoreMRs(1, 2), l4.StoreBR(0)

    with servers() as system:
        result, heard = beside_a_loop(system, program)

        assert result == ((11, 12), 1)
        assert [(label, words) for _, label, _, words, _ in heard][1:] == [(9, (11, 12))]
        assert heard[0][1] == Label.PREEMPTION


@pytest.mark.parametrize("gone", [l4.nilthread, 0xFFF_00000001])
def test_no_handler(gone: int) -> None:
    """Without a handler, or with one that is not there, the thread goes on untold, its error code unchanged."""

    def program(_: Environment) -> int:
        l4.Set_ExceptionHandler(gone)
        l4.EnablePreemptionFaultException()
        virtual.current().error_code = 77
        burn(25 * MS)
        l4.Ipc(l4.nilthread, l4.nilthread, 0)
        return l4.ErrorCode()

    with servers() as system:
        assert beside_a_loop(system, program) == (77, [])


def test_a_delayed_preemption_is_pending() -> None:
    """Flag d delays the end of a slice, which flag I shows once; a thread that then yields is not told."""

    def program(env: Environment) -> object:
        l4.Yield()  # the slice begins here
        l4.DisablePreemption()
        at = env.page[Page.PREEMPTIONS]
        burn(10 * MS + 100_000)
        found = l4.PreemptionPending(), l4.PreemptionPending(), env.page[Page.PREEMPTIONS] - at
        l4.EnablePreemption()
        l4.Yield()
        enter_ipc()
        return found

    with servers() as system:
        assert beside_a_loop(system, program) == ((True, False, 0), [])


def test_a_delay_that_is_overrun() -> None:
    """A delay of over a millisecond ends in preemption, clears d and I, and waits for the handler: label -4."""

    def program(env: Environment) -> object:
        l4.DisablePreemption()
        burn(25 * MS)
        before = env.page[Page.CRITICAL]
        enter_ipc()
        return before, virtual.current().preempt_flags, env.page[Page.CRITICAL], l4.PreemptionPending()

    with servers() as system:
        result, heard = beside_a_loop(system, program, answers=True)

        assert result == (1, 0, 0, False)
        [(name, label, typed, words, now)] = heard
        assert (name, label, typed, words[1:]) == ("thread", Label.SYSTEM_EXCEPTION, 0, (0,))
        assert 0 <= now - words[0] < 500


def test_the_exception_is_answered() -> None:
    """Until its handler answers, the thread stays in the IPC."""

    def program(env: Environment) -> None:
        l4.Set_ExceptionHandler(env.lookup("handler", 1))
        l4.DisablePreemption()
        burn(25 * MS)
        enter_ipc()

    with servers() as system:
        heard: Heard = []
        system.spawn(handler(answers=False, heard=heard), "handler")
        start(system, loop=compute)
        task = system.spawn(program, "thread", cpu=0)
        system.pass_time(1)

        assert [label for _, label, *_ in heard] == [Label.SYSTEM_EXCEPTION]
        assert not task.ended


def test_delayed_and_signalled() -> None:
    """With both flags a delay that is overrun is an exception, and no message; the next preemption is one again."""

    def program(_: Environment) -> int:
        l4.EnablePreemptionFaultException()
        l4.DisablePreemption()
        burn(25 * MS)
        enter_ipc()
        burn(25 * MS)
        enter_ipc()
        return virtual.current().preempt_flags & DELAY_PREEMPTION

    with servers() as system:
        result, heard = beside_a_loop(system, program, answers=True)

        assert result == 0
        assert [label for _, label, *_ in heard] == [Label.SYSTEM_EXCEPTION, Label.PREEMPTION]

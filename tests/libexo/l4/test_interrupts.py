"""Interrupts as messages: associated with a thread, received, acknowledged by the answer, taken away again."""

import pytest

from kernel.abi.ids import SYSTEM_BASE, thread_id
from kernel.abi.messages import IpcCode, Label, Phase
from libexo import l4
from libexo.testing import System
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    NEVER,
    NO_PARTNER,
    SEEDS,
    Cast,
    Failed,
    Said,
    heard,
    put,
    said,
    sleep,
    stage,
)

conforms = pytest.mark.conforms
LINE = 5
IRQ = thread_id(LINE)
TICK = Said((), Label.INTERRUPT)
NONE = l4.nilthread, Failed(IpcCode.TIMEOUT, Phase.RECEIVE)
SOON = l4.TimePeriod(MOMENT)


def at(system: System, *seconds: float) -> None:
    """Have the device raise its line at those times."""
    start = system.machine.clock.now()
    for second in seconds:
        when = start + int(second * 1e9)
        system.machine.clock.alarm(when, lambda: system.machine.interrupts.trigger(LINE))


@conforms("Interrupt: message")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("specifier", [IRQ, l4.anythread])
def test_an_interrupt_is_a_message(seed: int, specifier: int) -> None:
    """Label -1, no words, from the interrupt's thread: for an open receive and for one from that thread only."""

    def driver(cast: Cast) -> object:
        assert l4.AssociateInterrupt(IRQ, l4.Myself())
        return heard(l4.Ipc(l4.nilthread, specifier, NEVER))

    with stage(seed=seed) as cast:
        task = cast.add("driver", driver)
        at(cast.system, 0.1)
        cast.system.run()

        assert task.result == (IRQ, TICK)


@conforms("Interrupt: acknowledge")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_answer_unmasks(seed: int) -> None:
    """One message a line is outstanding: until the answer nothing comes, then what was raised meanwhile, once."""

    def driver(cast: Cast) -> object:
        l4.AssociateInterrupt(IRQ, l4.Myself())
        first = heard(l4.Wait())
        quiet = heard(l4.Wait_Timeout(l4.TimePeriod(LONG)))
        put()
        second = heard(l4.ReplyWait(IRQ))
        put()
        acknowledged = said(l4.Reply(IRQ))
        return first, quiet, second, acknowledged, heard(l4.Wait_Timeout(SOON))

    with stage(seed=seed) as cast:
        task = cast.add("driver", driver)
        at(cast.system, 0.1, 0.2, 0.3)
        cast.system.run()

        assert task.result == ((IRQ, TICK), NONE, (IRQ, TICK), Said(()), NONE)


@conforms("Interrupt: acknowledge")
def test_answering_nothing() -> None:
    """An answer to an interrupt not outstanding, or to another's, finds no partner; no line 63.3 exists."""

    def driver(cast: Cast) -> object:
        l4.AssociateInterrupt(IRQ, l4.Myself())
        put()
        wrong = [said(l4.Send(to)) for to in (IRQ, thread_id(LINE + 1), thread_id(LINE, 3), thread_id(63, 3))]
        return wrong, said(l4.Receive(thread_id(LINE, 3)))

    with stage() as cast:
        task = cast.add("driver", driver)
        cast.system.run()

        assert task.result == ([NO_PARTNER[Phase.SEND]] * 4, NO_PARTNER[Phase.RECEIVE])


@conforms("Interrupt: associate")
def test_taken_away() -> None:
    """A line whose handler is the interrupt's own thread is nobody's: it is masked, and what it raises waits."""

    def driver(cast: Cast) -> object:
        assert l4.AssociateInterrupt(IRQ, l4.Myself())
        assert l4.DeassociateInterrupt(IRQ)
        before = heard(l4.Wait_Timeout(l4.TimePeriod(LONG)))
        assert l4.AssociateInterrupt(IRQ, l4.Myself())
        return before, heard(l4.Wait_Timeout(SOON))

    with stage() as cast:
        task = cast.add("driver", driver)
        at(cast.system, 0.2)
        cast.system.run()

        assert task.result == (NONE, (IRQ, TICK))


@conforms("Interrupt: associate")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_second_thread(seed: int) -> None:
    """The handler may be any thread: the message is for it alone, while another of its environment waits, too."""

    def space(cast: Cast) -> object:
        cast.beside("driver", driver)
        return heard(l4.Wait_Timeout(l4.TimePeriod(LONG)))

    def driver(cast: Cast) -> object:
        l4.AssociateInterrupt(IRQ, l4.Myself())
        first = heard(l4.Wait())
        put()
        return first, heard(l4.ReplyWait(IRQ))

    with stage(seed=seed) as cast:
        cast.add("space", space)
        at(cast.system, 0.1, 0.2)
        cast.system.run()

        assert cast.result("space") == NONE
        assert cast.result("driver") == ((IRQ, TICK), (IRQ, TICK))


@conforms("Interrupt: message")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_busy_handler(seed: int) -> None:
    """While its handler is busy the interrupt waits as an ordinary sender, in order with the others."""

    def driver(cast: Cast) -> object:
        l4.AssociateInterrupt(IRQ, l4.Myself())
        sleep(LONG)
        return heard(l4.Wait()), heard(l4.Wait())[1], heard(l4.Wait_Timeout(SOON))

    def sender(cast: Cast) -> object:
        sleep(LONG // 2)
        put(4)
        return said(l4.Send(cast.driver))

    with stage(seed=seed) as cast:
        task = cast.add("driver", driver)
        cast.add("sender", sender)
        at(cast.system, 0.1)
        cast.system.run()

        assert task.result == ((IRQ, TICK), Said((4,)), NONE)


@conforms("Interrupt: associate")
def test_what_cannot_be_associated() -> None:
    """No such line, an unknown handler, a line that another environment has: error 2."""

    def holder(cast: Cast) -> object:
        assert l4.AssociateInterrupt(IRQ, l4.Myself())
        return sleep(LONG)

    def driver(cast: Cast) -> object:
        sleep()
        me = l4.Myself()
        wrong = [
            (IRQ, me), (thread_id(LINE + 1), thread_id(3000)), (thread_id(LINE + 1, 3), me),
            (thread_id(SYSTEM_BASE), me),
        ]  # fmt: skip
        return [(l4.AssociateInterrupt(*each), l4.ErrorCode()) for each in wrong]

    with stage() as cast:
        cast.add("holder", holder)
        task = cast.add("driver", driver)
        cast.system.run()

        assert task.result == [(0, l4.ErrInvalidThread)] * 4

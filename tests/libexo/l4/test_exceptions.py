"""Exceptions: what the handler of a thread is sent, what its answer does, and what happens without one."""

import signal

import pytest

from kernel.abi.ids import thread_number
from kernel.abi.messages import Label
from libexo import l4
from tests.libexo.l4.stage import LONG, WAITS, Cast, Said, entry_of, play, put, said, sleep, stage

conforms = pytest.mark.conforms
APPLY = 1 << 8


def fails(cast: Cast, error: Exception, handler: str = "handler") -> None:
    """Raise *error* with *handler* told."""
    l4.Set_ExceptionHandler(cast.ids[handler] if handler else l4.nilthread)
    raise error


@conforms("Exception: message")
@pytest.mark.parametrize(
    ("error", "number"),
    [
        (ZeroDivisionError(), signal.SIGFPE),
        (IndexError(), signal.SIGSEGV),
        (MemoryError(), signal.SIGSEGV),
        (ValueError("words"), signal.SIGABRT),
    ],
)
def test_the_message(error: Exception, number: int) -> None:
    """Label -5; IP, SP, FLAGS, exception number, error code, local id: a call of the thread to its handler."""

    def space(cast: Cast) -> object:
        thread = cast.waiting("other")
        ip = entry_of("fails", lambda sp: fails(cast, error))
        l4.ExchangeRegisters(thread, 1 << 5, flags=5)
        cast.start(thread, ip, 9)
        sleep()
        state = l4.ExchangeRegisters(thread, 0).control
        return ip, l4.LocalIdOf(thread), l4.ThreadWasReceiving(state)

    def handler(cast: Cast) -> object:
        sender, tag = l4.Wait()
        return sender == cast.other, said(tag)

    results = play(space=space, handler=lambda cast: (handler(cast), sleep(LONG))[0])
    ip, local, waits = results["space"]

    assert results["handler"] == (True, Said((ip, 9, 5, number, 0, local), Label.EXCEPTION))
    assert waits


@conforms("Exception: reply")
def test_the_answer_reloads_the_registers() -> None:
    """The answer brings IP, SP and FLAGS, with which the thread goes on."""

    def space(cast: Cast) -> object:
        seen: list[tuple[int, int]] = []
        cast.ids["there"] = entry_of(
            "there", lambda sp: seen.append((sp, l4.ExchangeRegisters(cast.other, 1 << 9).flags))
        )
        cast.beside("other", lambda cast: fails(cast, ValueError()))
        sleep(LONG)
        return seen

    def handler(cast: Cast) -> object:
        sender, _ = l4.Wait()
        l4.LoadMRs(0, (int(l4.MsgTag.of(Label.EXCEPTION, u=6)), cast.there, 21, 22, *l4.StoreMRs(4, 3)))
        return said(l4.Reply(sender)) is not None

    results = play(space=space, handler=handler)

    assert (results["space"], results["handler"]) == ([(21, 22)], True)


@conforms("Exception: reply")
def test_an_answer_of_another_layout() -> None:
    """An answer that brings no registers leaves the thread halted, until it is sent somewhere."""

    def space(cast: Cast) -> object:
        seen: list[int] = []
        thread = cast.beside("other", lambda cast: fails(cast, ValueError()))
        sleep(LONG)
        state = l4.ExchangeRegisters(thread, 0).control
        l4.Start_SpIp(thread, 4, entry_of("again", seen.append))
        sleep()
        return l4.ThreadWasHalted(state), seen

    def handler(cast: Cast) -> object:
        sender, _ = l4.Wait()
        put()
        return said(l4.Reply(sender))

    results = play(space=space, handler=handler)

    assert (results["space"], results["handler"]) == ((True, [4]), Said(()))


@conforms("Exception: no handler")
@pytest.mark.parametrize("handler", ["", "gone"])
def test_without_a_handler(handler: str) -> None:
    """Without a handler, or one that is there, the thread is halted; others may send it elsewhere."""

    def space(cast: Cast) -> object:
        seen: list[int] = []
        sleep()
        thread = cast.beside("other", lambda cast: fails(cast, ValueError(), handler))
        sleep()
        state = l4.ExchangeRegisters(thread, 0).control
        l4.Start_SpIp(thread, 4, entry_of("again", seen.append))
        sleep()
        return l4.ThreadWasHalted(state), seen

    results = play(space=space, gone=lambda cast: None)

    assert (results["space"], results["other"]) == ((True, [4]), WAITS)


@conforms("Exception: message")
def test_a_thread_sent_where_nothing_is() -> None:
    """An instruction pointer that is no entry is an exception, too: an illegal instruction."""

    def space(cast: Cast) -> None:
        thread = cast.waiting("other")
        cast.start(thread, entry_of("sets", lambda sp: l4.Set_ExceptionHandler(cast.handler)))
        sleep()
        l4.Start_SpIp(thread, 2, 0xBAD)
        sleep()

    def handler(cast: Cast) -> object:
        _, tag = l4.Wait()
        return tag.label, l4.StoreMRs(1, 4)

    results = play(space=space, handler=handler)

    assert results["handler"] == (Label.EXCEPTION, (0xBAD, 2, 0, signal.SIGILL))


@conforms("Exception: death of a program")
@pytest.mark.parametrize("killed", [True, False])
def test_the_end_of_an_environment(killed: bool) -> None:  # noqa: FBT001 - a case
    """An environment that dies by a signal tells the handler its program named, in its first thread's name."""

    def victim(cast: Cast) -> None:
        l4.Set_ExceptionHandler(cast.handler)
        put()
        l4.Send(cast.handler)
        if killed:
            l4.Sleep(l4.Never)

    def handler(cast: Cast) -> object:
        assert not l4.Receive(cast.victim).E
        sender, tag = l4.Wait_Timeout(l4.TimePeriod(LONG))
        return thread_number(sender) == thread_number(cast.victim), tag.label, tag.u, l4.StoreMR(4)

    with stage(seed=1) as cast:
        task = cast.add("handler", handler)
        cast.add("victim", victim)
        cast.system.pass_time(0.05)
        if killed:
            cast.tasks["victim"].kill()
        cast.system.run(task)
        is_victim, label, words, number = cast.result("handler")

    if killed:
        assert (is_victim, label, words, number) == (True, Label.EXCEPTION, 6, signal.SIGKILL)
    else:
        assert not is_victim

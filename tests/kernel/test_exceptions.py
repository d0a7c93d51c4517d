"""Exceptions by death: a thread that an environment names is told, as of an exception, how it came to its end."""

import pytest

from kernel.abi.errors import Fault
from kernel.abi.ids import thread_id
from kernel.abi.kip import Page
from kernel.abi.messages import Label
from kernel.abi.space import UTCB_AREA
from tests.kernel.controls import NEW, control, launched, root, thread_in
from tests.kernel.puppets import Puppet, Theatre, theatre


def exceptions(puppet: Puppet) -> list[tuple[int, tuple[int, ...], int]]:
    """Return sender, words and receiving thread of each exception message since the last time."""
    return [(u.sender, u.words, u.thread) for u in puppet.upcalls() if u.label == Label.EXCEPTION]


def named(stage: Theatre, handler: int, **options: object) -> Puppet:
    """A puppet that names a handler in its page."""
    puppet = stage.puppet("victim", **options)  # type: ignore[arg-type]
    puppet.environment.page[Page.EXCEPTION_HANDLER] = handler
    return puppet


def test_killed_by_a_signal() -> None:
    """The message comes from the first thread of the one that ended, with the signal and its local id."""
    with theatre() as stage:
        handler = stage.puppet("handler")
        victim = named(stage, handler.thread)
        victim.body.signal(11)
        stage.settle()

        words = (0, 0, 0, 11, 0, UTCB_AREA.start)
        assert exceptions(handler) == [(victim.thread, words, handler.thread)]


def test_ended_for_a_fault() -> None:
    """One that broke the contract is reported with its fault."""
    with theatre() as stage:
        handler = stage.puppet("handler")
        victim = named(stage, handler.thread)
        victim.raw(b"\xff")
        stage.settle()
        [(_, words, _)] = exceptions(handler)

        assert words[3:5] == (9, Fault.MALFORMED_TRAP)


def test_a_thread_beside_the_first() -> None:
    """Any active thread can be named."""
    with theatre() as stage:
        boss, handler = root(stage), stage.puppet("handler")
        thread_in(boss, handler)
        stage.kill(named(stage, NEW))

        assert [thread for _, _, thread in exceptions(handler)] == [NEW]


def test_an_end_in_peace() -> None:
    """One that ends by itself raises no exception."""
    with theatre() as stage:
        handler, over = stage.puppet("handler"), [False]
        victim = named(stage, handler.thread, work=lambda body: body.wait(lambda: over[0], None))
        over[0] = True
        stage.settle()

        assert (victim.alive, victim.body.status, exceptions(handler)) == (False, 0, [])


@pytest.mark.conforms("Exception: death of a program")
@pytest.mark.parametrize("fresh", [True, False])
def test_a_deletion(*, fresh: bool) -> None:
    """The deletion of its first thread is no exception of an environment: its handler gets no message."""
    with theatre() as stage:
        boss, handler = root(stage), stage.puppet("handler")
        victim = launched(stage, boss) if fresh else stage.puppet("victim")
        victim.environment.page[Page.EXCEPTION_HANDLER] = handler.thread
        control(boss, victim.thread, 0)
        stage.settle()

        assert (victim.alive, victim.body.status, exceptions(handler)) == (False, -9, [])


@pytest.mark.parametrize("value", [0, 1, thread_id(64), thread_id(5), thread_id(1000), (1 << 64) - 1])
def test_nobody_is_named(value: int) -> None:
    """Any other value than an active thread's id means nobody."""
    with theatre() as stage:
        boss, handler = root(stage), stage.puppet("handler")
        control(boss, NEW, handler.thread, scheduler=boss.thread)
        victim = named(stage, value)
        stage.kill(victim)

        assert (exceptions(handler), victim.alive) == ([], False)


def test_whom_it_may_not_call() -> None:
    """A thread that the environment could not send to is not told, nor one past its redirector, nor itself."""
    with theatre() as stage:
        boss, handler = root(stage), stage.puppet("handler")
        stage.kill(named(stage, handler.thread, may_bind=[boss.thread >> 32]))
        redirected = named(stage, handler.thread)
        boss.sys.space_control(redirected.thread, 0, 0, 0, boss.thread)
        stage.kill(redirected)
        itself = named(stage, 0)
        itself.environment.page[Page.EXCEPTION_HANDLER] = itself.thread
        stage.kill(itself)

        assert exceptions(handler) == exceptions(boss) == []

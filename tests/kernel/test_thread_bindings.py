"""Bindings and end points of environments with several threads."""

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_id, thread_number
from kernel.abi.messages import Label
from tests.kernel.controls import (
    NEW,
    OTHER,
    control,
    root,
    row,
    thread_in,
)
from tests.kernel.puppets import KILLED, refusal, theatre
from tests.kernel.test_bindings import arrive, bind, take


def test_threads_bind_for_themselves() -> None:
    """A binding is of one thread to one other: only the receiving one can ask, and learns which one sent."""
    with theatre() as stage:
        boss, a, b = root(stage), stage.puppet("a"), stage.puppet("b")
        thread_in(boss, a)
        thread_in(boss, b, OTHER)
        token = bind(a, OTHER, NEW).token
        who = b.sys.identify(token, OTHER)

        assert (who.thread, who.environment, who.redirected) == (NEW, a.environment.number, False)
        assert refusal(b.sys.identify, token) == Refusal.UNKNOWN_TOKEN
        assert refusal(b.sys.identify, token, NEW) == Refusal.UNKNOWN_TOKEN


@pytest.mark.parametrize("sender", [thread_id(999), OTHER])
def test_senders_are_the_callers_own(sender: int) -> None:
    """Nobody binds, listens or answers for a thread that does not exist, or is another's."""
    with theatre() as stage:
        a, b = stage.pair()
        thread_in(root(stage), b, OTHER)

        assert refusal(a.sys.bind, b.thread, sender) == Refusal.NO_SUCH_THREAD
        assert refusal(a.sys.incoming, sender) == Refusal.NO_SUCH_THREAD


def test_each_thread_is_told_of_its_own() -> None:
    """Senders bound to one thread of an environment are handed to that one, and their messages go with them."""
    with theatre() as stage:
        boss, a, b = root(stage), stage.puppet("a"), stage.puppet("b")
        thread_in(boss, a)
        arrive(stage, bind(b, a.thread), bind(b, NEW))
        first, _ = take(a)
        told = [(upcall.label, upcall.thread) for upcall in a.upcalls() if upcall.label == Label.BOUND]
        control(boss, NEW, 0)

        assert [each.who.thread for each in first] == [b.thread]
        assert told == [(Label.BOUND, a.thread), (Label.BOUND, NEW)]
        assert refusal(a.sys.incoming, NEW) == Refusal.STALE_THREAD
        assert not stage.machine.endpoints


def test_bound_to_its_own_threads() -> None:
    """The threads of an environment may always call each other, despite its list."""
    with theatre() as stage:
        boss, friend = root(stage), stage.puppet("friend")
        a = stage.puppet("a", may_bind=[thread_number(friend.thread)])
        thread_in(boss, a)

        assert bind(a, NEW).thread == NEW
        assert bind(a, a.thread, NEW).thread == a.thread
        assert refusal(a.sys.bind, boss.thread, NEW) == Refusal.MAY_NOT_BIND


def test_the_list_is_of_environments() -> None:
    """An environment that may call one thread of another may call its other threads too."""
    with theatre() as stage:
        boss, friend = root(stage), stage.puppet("friend")
        a = stage.puppet("a", may_bind=[thread_number(friend.thread)])
        thread_in(boss, friend)

        assert bind(a, NEW).thread == NEW


def test_partners_are_told_by_thread() -> None:
    """When a thread is deleted, each thread that was bound to it is told once, and its environment goes on."""
    with theatre() as stage:
        boss, a, b = root(stage), stage.puppet("a"), stage.puppet("b")
        thread_in(boss, a, OTHER)
        thread_in(boss, b)
        for sender in (0, OTHER, OTHER):
            bind(a, NEW, sender)
        bind(b, a.thread, NEW)
        a.upcalls()
        control(boss, NEW, 0)

        gone = [(u.label, u.words, u.thread) for u in a.upcalls()]
        assert gone == [(Label.PARTNER_GONE, (NEW,), a.thread), (Label.PARTNER_GONE, (NEW,), OTHER)]
        assert (a.environment.outgoing, b.environment.outgoing, b.alive) == ({}, {}, True)


def test_a_thread_ends_with_its_environment() -> None:
    """When an environment ends, all its threads are gone, their rows and numbers too."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        thread_in(boss, a)
        bind(boss, NEW)
        stage.kill(a)

        assert boss.told() == [(Label.PARTNER_GONE, (NEW, *KILLED))]
        assert row(stage, NEW) == (0,) * 6
        assert refusal(boss.sys.bind, NEW) == Refusal.STALE_THREAD

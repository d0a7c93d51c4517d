"""Redirection: what a space may send, and the kernel sees to it."""

from kernel.abi.errors import Refusal
from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from tests.kernel.controls import NEW, OTHER, control, root, row, thread_in
from tests.kernel.puppets import KILLED, Puppet, Theatre, refusal, theatre
from tests.kernel.test_bindings import bind


def redirect(boss: Puppet, whom: Puppet, to: int) -> None:
    boss.sys.space_control(whom.thread, 0, 0, 0, to)


def cast(stage: Theatre) -> tuple[Puppet, Puppet, Puppet, Puppet]:
    """A privileged puppet, one whose messages are redirected, the redirector, and somebody else."""
    boss, a, chief, other = root(stage), stage.puppet("a"), stage.puppet("chief"), stage.puppet("other")
    redirect(boss, a, chief.thread)
    return boss, a, chief, other


def test_whoever_is_asked_for_it_is_the_redirector() -> None:
    """A binding to an outsider leads to the redirector, which learns so; no other thread knows it."""
    with theatre() as stage:
        _, a, chief, other = cast(stage)
        bound = bind(a, other.thread)
        who = chief.sys.identify(bound.token)

        assert bound.thread == chief.thread
        assert (who.thread, who.redirected) == (a.thread, True)
        assert refusal(other.sys.identify, bound.token) == Refusal.UNKNOWN_TOKEN


def test_what_is_not_redirected() -> None:
    """Threads of the same space, the redirector and the other threads of its space are reached directly."""
    with theatre() as stage:
        boss, a, chief, _ = cast(stage)
        thread_in(boss, a)
        thread_in(boss, chief, OTHER)
        direct = [bind(a, thread, NEW) for thread in (a.thread, NEW, chief.thread, OTHER)]

        assert [bound.thread for bound in direct] == [a.thread, NEW, chief.thread, OTHER]
        assert not chief.sys.identify(direct[2].token).redirected


def test_the_limits_of_the_caller_stay() -> None:
    """An environment with a list is refused whom it may not call, redirector or not."""
    with theatre() as stage:
        boss, friend, other, chief = (
            root(stage),
            *(stage.puppet(name) for name in ("friend", "other", "chief")),
        )
        a = stage.puppet("a", may_bind=[friend.thread >> 32])
        redirect(boss, a, chief.thread)

        assert bind(a, friend.thread).thread == chief.thread
        assert refusal(a.sys.bind, other.thread) == Refusal.MAY_NOT_BIND


def test_setting_it_ends_what_goes_past_it() -> None:
    """Bindings that would now lead elsewhere fall, and their threads are told; the others stay."""
    with theatre() as stage:
        boss, a, chief, other = root(stage), stage.puppet("a"), stage.puppet("chief"), stage.puppet("other")
        thread_in(boss, a)
        past = [bind(a, other.thread, sender).token for sender in (0, 0, NEW)]
        kept = [bind(a, thread).token for thread in (chief.thread, a.thread)]
        a.upcalls()
        redirect(boss, a, chief.thread)

        told = [(u.label, u.words, u.thread) for u in a.upcalls()]
        assert told == [(Label.PARTNER_GONE, (other.thread,), thread) for thread in (a.thread, NEW)]
        assert {refusal(other.sys.identify, token) for token in past} == {Refusal.UNKNOWN_TOKEN}
        assert list(a.environment.outgoing) == kept


def test_changing_and_removing_it() -> None:
    """With another redirector, or none, redirected bindings fall, and new ones lead where they should."""
    with theatre() as stage:
        boss, a, chief, other = cast(stage)
        bind(a, other.thread)
        redirect(boss, a, boss.thread)
        second = bind(a, other.thread).thread
        redirect(boss, a, 0)
        same = a.told()
        redirect(boss, a, ANY_THREAD)

        assert (same, second) == ([(Label.PARTNER_GONE, (chief.thread,))], boss.thread)
        assert a.told() == [(Label.PARTNER_GONE, (boss.thread,))]
        assert bind(a, other.thread).thread == other.thread


def test_a_redirector_that_is_gone() -> None:
    """When the redirector ends nothing leaves the space, until another is set or it is removed."""
    with theatre() as stage:
        boss, a, chief, other = cast(stage)
        bind(a, other.thread)
        stage.kill(chief)
        told, refused = a.told(), refusal(a.sys.bind, other.thread)
        shown = row(stage, a.thread)[5]
        inside = bind(a, a.thread).thread
        redirect(boss, a, ANY_THREAD)

        assert (told, refused) == ([(Label.PARTNER_GONE, (chief.thread, *KILLED))], Refusal.NO_REDIRECTOR)
        assert (shown, inside) == (chief.thread, a.thread)
        assert bind(a, other.thread).thread == other.thread


def test_a_redirector_that_moves() -> None:
    """When the redirector is moved, bindings to the space it left, which went past it, fall."""
    with theatre() as stage:
        boss, a, chief, other = root(stage), stage.puppet("a"), stage.puppet("chief"), stage.puppet("other")
        thread_in(boss, chief)
        redirect(boss, a, NEW)
        bind(a, chief.thread)
        control(boss, NEW, other.thread)

        assert a.told() == [(Label.PARTNER_GONE, (chief.thread,))]
        assert bind(a, chief.thread).thread == NEW
        assert bind(a, other.thread).thread == other.thread


def test_a_partner_that_moves_in() -> None:
    """When a thread is moved to a space that reached it through its redirector, it is reached directly."""
    with theatre() as stage:
        boss, a, chief, other = cast(stage)
        thread_in(boss, other)
        bind(a, NEW)
        control(boss, NEW, a.thread)

        assert (Label.PARTNER_GONE, (chief.thread,)) in a.told()
        assert bind(a, NEW).thread == NEW


def test_redirectors_in_a_chain() -> None:
    """A redirector whose own space has a redirector passes on to that one."""
    with theatre() as stage:
        boss, a, chief, other = cast(stage)
        redirect(boss, chief, boss.thread)

        assert bind(a, other.thread).thread == chief.thread
        assert bind(chief, other.thread).thread == boss.thread


def test_capabilities_go_no_other_way() -> None:
    """A redirected space offers capabilities where it could send, and to its callers."""
    with theatre() as stage:
        boss, a, chief, other = cast(stage)
        handle = stage.system.give(a.task, other.environment).handle
        refused = refusal(a.sys.transfer, handle, other.thread, Rights.READ)
        bind(other, a.thread)

        assert refused == Refusal.MAY_NOT_BIND
        assert a.sys.transfer(handle, chief.thread, Rights.READ)
        assert a.sys.transfer(handle, other.thread, Rights.READ)
        assert refusal(a.sys.transfer, handle, boss.thread, Rights.READ) == Refusal.MAY_NOT_BIND


def test_a_successor_is_redirected_too() -> None:
    """A restart does not change where an environment may send."""
    with theatre() as stage:
        boss, chief, a = root(stage), stage.puppet("chief"), stage.puppet("a", keeps=True)
        stage.system.give(boss.task, a.environment)
        redirect(boss, a, chief.thread)
        stage.kill(a)

        assert bind(stage.heir(a), boss.thread).thread == chief.thread

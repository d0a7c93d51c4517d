"""Pages that age: which of them were used since their pager asked last."""

import pytest

from hwmodel.failures import HostFailure
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.traps import Protection
from libexo.errors import TrapRefused
from tests.kernel.pagers import GUARDED, IDLE, PAGES, STORE, SUPPLIED, WRITTEN, Paging, Program
from tests.kernel.puppets import Theatre, theatre


def there(stage: Theatre, count: int = 3) -> tuple[Paging, Program]:
    """Return a pager, and a program that sees so many pages of its."""
    p = Paging(stage)
    a = p.program()
    for page in range(count):
        a.touch(page)
        p.supply(page)
        assert a.touch(page)
    p.told()
    return p, a


def age(p: Paging, count: int = 3, *, sees: bool = False) -> list[int]:
    """Have pages age; the pager sees none itself, unless it *sees* them."""
    if not sees:
        p.pager.host.unsee(p.view, 0, count * FRAME_SIZE)
    return list(p.pager.sys.protect(p.handle, 0, count, Protection.AGE))


def test_what_is_touched_is_not_idle() -> None:
    """A page that was aged is idle until it is touched, which the pager is not asked about; so it is every time."""
    with theatre() as stage:
        p, a = there(stage)
        assert age(p) == [SUPPLIED] * 3
        assert p.states()[:4] == [SUPPLIED | IDLE] * 3 + [0]
        assert not a.touch(1)
        assert a.touch(1)
        assert (a.byte(1), p.told()) == (7, [])
        assert age(p) == [SUPPLIED | IDLE, SUPPLIED, SUPPLIED | IDLE]
        assert age(p) == [SUPPLIED | IDLE] * 3


def test_writes_are_noticed_as_before() -> None:
    """What was written stays so when it ages; what was clean or guarded is, when it is touched again."""
    with theatre() as stage:
        p, a = there(stage)
        for page in (0, 2):
            a.touch(page, write=True)
        p.pager.sys.protect(p.handle, 2, 1, Protection.GUARD)
        assert age(p) == [SUPPLIED | WRITTEN, SUPPLIED, SUPPLIED | WRITTEN | GUARDED]
        assert not a.touch(1)
        assert p.states()[1] == SUPPLIED
        a.touch(1, write=True)
        assert p.states()[:3] == [3 | IDLE, 3, 7 | IDLE]
        assert p.told() == []
        assert not a.touch(2, write=True)
        assert p.told() == [(STORE, a.thread, 2)]
        p.supply(2)
        assert a.touch(2, write=True)
        assert p.states()[2] == SUPPLIED | WRITTEN


def test_what_two_see_counts_as_used() -> None:
    """A page that another program sees, or its pager, cannot be taken from view: it is not called idle."""
    with theatre() as stage:
        p, a = there(stage)
        b = p.program(name="b")
        b.touch(1)
        assert age(p, sees=True) == [SUPPLIED] * 3
        assert p.states()[:3] == [SUPPLIED] * 3
        age(p)
        assert p.states()[:3] == [SUPPLIED | IDLE, SUPPLIED, SUPPLIED | IDLE]
        assert a.touch(1)
        assert b.touch(1)
        b.puppet.env.sys.window(b.handle, b.address)
        age(p)
        assert p.states()[1] == SUPPLIED | IDLE


def test_what_comes_anew_is_not_idle() -> None:
    """A page that is supplied, evicted or not in between, was not aged."""
    with theatre() as stage:
        p, _ = there(stage)
        age(p)
        p.pager.sys.evict(p.handle, 1)
        p.supply(0, count=2)
        assert p.states() == [SUPPLIED, SUPPLIED, SUPPLIED | IDLE] + [0] * (PAGES - 3)


def test_a_host_that_pages_nothing_out() -> None:
    """Where the host does not do it, that is refused; no page is idle, and nothing else has changed."""
    with theatre() as stage:
        p, a = there(stage)
        a.touch(1, write=True)
        stage.machine.failures.fail_call(HostFailure(stage.machine.calls.count + 1, 1))
        with pytest.raises(TrapRefused) as failed:
            age(p)
        assert failed.value.refusal == Refusal.HOST_FULL
        assert p.states()[:3] == [SUPPLIED, SUPPLIED | WRITTEN, SUPPLIED]
        assert a.touch(0)

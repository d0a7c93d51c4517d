"""Paged objects: pages that appear when they are touched, from another environment, and who waits for whom."""

import signal
from itertools import pairwise

import pytest

from hwmodel.failures import HostFailure
from kernel.abi import traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.ids import thread_id
from kernel.abi.kip import Counter
from kernel.abi.limits import FRAME_SIZE, MAX_PAGERS, MAX_WINDOWS
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.abi.traps import Protection
from libexo.errors import TrapRefused
from tests.kernel.pagers import FRAMES, LOAD, PAGES, STORE, SUPPLIED, WRITTEN, Paging, mapped
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, theatre


def test_a_page_comes_when_it_is_touched() -> None:
    """The pager is told once who touched what; when it has supplied the page, that is there, and no other."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        assert not a.touch(2)
        assert p.told() == [(LOAD, a.thread, 2)]
        p.supply(2)
        assert a.touch(2)
        assert (a.byte(2), p.states()) == (7, [0, 0, SUPPLIED, 0, 0, 0, 0, 0])
        assert not a.touch(3)


def test_a_quiet_supply_is_not_answered() -> None:
    """The page is shown as by any; one that is refused is counted, and the next trap has its own answer."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        assert not a.touch(2)
        p.told()
        p.store(2, 7)
        p.pager.sys.supply(p.handle, 2, quiet=True)
        assert p.states()[2] == SUPPLIED
        assert a.touch(2)
        refused = stage.kernel.kip.counter(Counter.REFUSALS)
        p.pager.sys.supply(p.handle, PAGES, quiet=True)
        p.pager.sys.supply(p.handle, 0, FRAMES + 1, quiet=True)
        assert p.states() == [0, 0, SUPPLIED, 0, 0, 0, 0, 0]
        assert stage.kernel.kip.counter(Counter.REFUSALS) == refused + 2


def test_one_page_for_all() -> None:
    """Many wait for one page, and its pager is told once; what is there already asks nobody."""
    with theatre() as stage:
        p = Paging(stage)
        a, b, c = p.program(name="a"), p.program(Rights.READ, "b"), p.program(name="c")
        assert not a.touch(1)
        assert not b.touch(1)
        assert p.told() == [(LOAD, a.thread, 1)]
        p.supply(1)
        assert a.touch(1)
        assert b.touch(1)
        assert not c.touch(1)
        assert c.touch(1)
        assert p.told() == []
        a.touch(1, write=True)
        assert a.touch(1, write=True)
        a.view[FRAME_SIZE] = 9
        assert (b.byte(1), c.byte(1), p.view[FRAME_SIZE]) == (9, 9, 9)


def test_the_first_write_is_noticed() -> None:
    """A page is WRITTEN from its first store on, and again after it was said to be clean."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(0)
        p.supply(0)
        assert a.touch(0)
        assert p.states()[0] == SUPPLIED
        a.touch(0, write=True)
        assert p.states()[0] == SUPPLIED | WRITTEN
        assert p.pager.sys.protect(p.handle, 0, 1, Protection.CLEAN) == bytes([SUPPLIED | WRITTEN])
        assert p.states()[0] == SUPPLIED
        assert not a.touch(0, write=True)
        assert a.touch(0, write=True)
        assert p.states()[0] == SUPPLIED | WRITTEN
        a.touch(5, write=True)
        p.supply(5)
        assert p.states()[5] == SUPPLIED | WRITTEN
        assert p.told() == [(LOAD, a.thread, 0), (STORE, a.thread, 5)]


def test_a_guarded_write_is_the_pagers() -> None:
    """A write to a guarded page waits for its pager; loads go on, and a supply ends the guard."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(0, write=True)
        p.supply(0)
        assert a.touch(0, write=True)
        p.pager.sys.protect(p.handle, 0, 1, Protection.GUARD)
        p.told()
        assert not a.touch(0, write=True)
        assert a.touch(0)
        assert p.told() == [(STORE, a.thread, 0)]
        p.pager.sys.supply(p.handle, 0)
        assert a.touch(0, write=True)
        assert p.states()[0] == SUPPLIED | WRITTEN


def test_a_run_is_shown_at_once() -> None:
    """With the page that was touched comes the run its pager supplied; pages nobody asked about are no faults."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(2, write=True)
        p.supply(1, 5, count=4)
        assert [a.touch(page) for page in range(1, 5)] == [True] * 4
        assert a.touch(2, write=True)
        assert not a.touch(3, write=True)
        assert [p.states()[page] for page in range(1, 5)] == [1, 3, 3, 1]
        assert len(p.told()) == 1


def test_what_a_stranger_puts_there_is_not_believed() -> None:
    """Zeros of a mapper that told nobody are in no window before the pager supplied the page."""
    with theatre() as stage:
        p = Paging(stage)
        a, stranger = p.program(), stage.puppet("stranger")
        seen = mapped(stranger, passed(p.pager, p.handle, stranger, Rights.READ | Rights.WRITE))
        stranger.host.touch(seen, 0, 1, write=True)
        seen[0] = 66
        assert not a.touch(0)
        assert p.told() == [(LOAD, a.thread, 0)]
        p.supply(0)
        assert a.touch(0)
        assert a.byte(0) == 7


def test_supply_without_a_store() -> None:
    """To touch a page that was supplied and never stored to is a bus error, and the page is no other for that."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(0)
        p.told()
        p.pager.sys.supply(p.handle, 0)
        assert a.fails(0)
        assert (p.states()[0], p.object.resident) == (SUPPLIED, 1)
        p.store(0, 7)
        b = p.program(name="b")
        b.touch(0)
        assert b.touch(0)


def test_a_window_onto_something_else() -> None:
    """Who has other memory where it says that the object is changes nothing for anybody: its own access fails."""
    with theatre() as stage:
        p = Paging(stage)
        a, liar = p.program(), stage.puppet("liar", holds=("ram",))
        handle = passed(p.pager, p.handle, liar, Rights.READ)
        view = mapped(liar, liar.sys.carve(liar.handles[0], PAGES).extent)
        liar.sys.window(handle, liar.host.address(view), 0, PAGES)
        p.supply(0, count=2)
        a.touch(0, write=True)
        assert a.touch(0, write=True)
        assert liar.body.touch(view, 0, write=False) is not None
        stage.settle()
        with pytest.raises(ValueError, match="poisoned"):
            liar.body.touch(view, 0, write=False)
        assert p.states()[:3] == [SUPPLIED | WRITTEN, SUPPLIED, 0]
        assert a.touch(0)


def test_no_more_pages_than_frames() -> None:
    """More pages than the object has frames are refused until one is evicted."""
    with theatre() as stage:
        p = Paging(stage)
        p.supply(0, count=FRAMES)
        with pytest.raises(TrapRefused, match="evict some") as refused:
            p.supply(FRAMES)
        assert refused.value.refusal is Refusal.NO_FRAMES
        assert p.pager.sys.evict(p.handle, 1, 2) == 2
        p.supply(FRAMES)
        assert p.states() == [1, 0, 0, 1, 1, 0, 0, 0]


def test_evicted_pages_fault_again() -> None:
    """Who had an evicted page finds it absent, never what was in it; a written one stays unless guarded."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(0)
        a.touch(1, write=True)
        p.supply(0, 3, count=2)
        assert p.pager.sys.evict(p.handle, 0, PAGES) == 1
        assert p.states()[:2] == [0, SUPPLIED | WRITTEN]
        p.told()
        assert not a.touch(0)
        assert p.told() == [(LOAD, a.thread, 0)]
        assert p.view[0] == 0
        p.pager.sys.protect(p.handle, 1, 1, Protection.GUARD)
        assert not a.touch(1, write=True)
        assert p.told() == [(STORE, a.thread, 1)]
        assert p.pager.sys.evict(p.handle, 1) == 1
        assert p.told() == [(STORE, a.thread, 1)]  # of page 0 it was told, and that waits still
        p.supply(1, 4)
        assert a.touch(1, write=True)
        assert a.byte(1) == 4


def test_a_pager_that_is_late() -> None:
    """After its patience the access is a bus error, and the record of who dies of it names the pager."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(6)
        stage.pass_time(999)
        assert p.object in stage.kernel.faults._pending
        stage.pass_time(2)
        assert stage.kernel.faults._pending == {}
        assert a.fails(6)
        a.puppet.body._end(signal.SIGBUS)
        stage.settle()
        assert a.puppet.environment.fault == Fault.NO_PAGE
        assert "pager" in a.puppet.environment.detail
        assert "page 6" in a.puppet.environment.detail


def test_a_guarded_write_that_nobody_answers() -> None:
    """A page that is there cannot be made a bus error: who wrote to it ends, with a record."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(0)
        p.supply(0)
        p.pager.sys.protect(p.handle, 0, 1, Protection.GUARD)
        a.touch(0, write=True)
        stage.pass_time(1001)
        assert not a.puppet.alive
        assert a.puppet.environment.fault == Fault.NO_PAGE


def test_a_pager_that_comes_back() -> None:
    """The successor of a pager is told of what waits, and supplies it."""
    with theatre() as stage:
        p = Paging(stage, keeps=True)
        a = p.program()
        stage.system.give(a.puppet.task, p.pager.environment)  # who watches it keeps what it had
        a.touch(0)
        stage.kill(p.pager)
        p.pager = stage.heir(p.pager)
        assert p.told() == [(LOAD, a.thread, 0)]
        p.view = p.pager.env.views.map(p.handle)
        p.supply(0, 8)
        assert a.touch(0)
        assert a.byte(0) == 8


def test_no_circle_of_pagers() -> None:
    """Who pages itself, or pages who pages it, is refused; so is one more behind another than may be."""
    with theatre() as stage:
        row = [Paging(stage, f"pager{at}") for at in range(MAX_PAGERS + 1)]

        def behind(user: Puppet, p: Paging) -> None:
            user.env.views.map(passed(p.pager, p.handle, user, Rights.READ))

        def refused(user: Puppet, p: Paging) -> Refusal:
            with pytest.raises(TrapRefused) as failed:
                behind(user, p)
            return Refusal(failed.value.refusal)

        own = row[0].pager.host.address(row[0].view)
        with pytest.raises(TrapRefused, match="pager0 by pager0"):
            row[0].pager.sys.window(row[0].handle, own, 0, PAGES)
        for one, other in pairwise(row):
            behind(one.pager, other)
        assert refused(row[-1].pager, row[0]) is Refusal.PAGER_CIRCLE
        assert refused(stage.puppet("top"), row[0]) is Refusal.PAGER_CIRCLE
        behind(stage.puppet("middle"), row[1])


def test_windows_are_refused() -> None:
    """What is no object, no mapping, no address, not inside, or one window too many."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        sys, plain = a.puppet.sys, p.pager.sys.carve(p.pager.handles[0], 1).extent

        def refusal(*arguments: int) -> Refusal:
            with pytest.raises(TrapRefused) as refused:
                sys.window(*arguments)
            return Refusal(refused.value.refusal)

        assert refusal(a.handle, a.address + 1, 0, 1) is Refusal.BAD_ARGUMENT
        assert refusal(a.handle, a.address, 1, PAGES) is Refusal.BAD_ARGUMENT
        assert refusal(a.handle, 1 << 47, 0, 1) is Refusal.BAD_ARGUMENT
        assert refusal(a.handle, 1 << 40, 0, 1) is Refusal.BAD_ARGUMENT
        with pytest.raises(TrapRefused, match="ObjectCreate"):
            p.pager.sys.window(plain, a.address, 0, 1)
        views = [mapped(a.puppet, a.handle) for _ in range(MAX_WINDOWS)]
        for view in views[1:]:
            sys.window(a.handle, a.puppet.host.address(view), 0, 1)
        assert refusal(a.handle, a.puppet.host.address(views[0]), 0, 1) is Refusal.TOO_MANY_WINDOWS
        sys.window(a.handle, a.address, 0, 1)


def test_who_may_supply() -> None:
    """Without CONTROL nobody supplies, evicts or protects; nor is more than an object has."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        for call in (a.puppet.sys.supply, a.puppet.sys.evict, a.puppet.sys.protect):
            with pytest.raises(TrapRefused) as refused:
                call(a.handle, 0)
            assert refused.value.refusal is Refusal.MISSING_RIGHT
        with pytest.raises(TrapRefused, match=r"pages 1\+8 of 8"):
            p.pager.sys.supply(p.handle, 1, PAGES)
        with pytest.raises(TrapRefused, match="256 a frame"):
            p.pager.sys.object_create(traps.ObjectCreate(p.pager.handles[0], 1, 257))


def test_the_host_refuses_a_page() -> None:
    """Where the host would not show a supplied page, it is shown a moment later."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.touch(0)
        p.store(0, 7)
        stage.machine.failures.fail_call(HostFailure(stage.machine.calls.count + 1, 12))
        p.pager.sys.supply(p.handle, 0)
        assert p.object in stage.kernel.faults._pending
        stage.pass_time(10)
        assert a.touch(0)
        assert p.states()[0] == SUPPLIED


def test_a_grant_makes_another_the_pager() -> None:
    """Who is granted the object is its pager from then on, and is told of what waits."""
    with theatre() as stage:
        p = Paging(stage)
        heir = stage.puppet("heir")
        p.pager.env.views.unmap(p.view)
        next(c for c in p.pager.caps if c.handle == p.handle).mapped = False
        a = p.program()
        a.touch(0)
        offer = p.pager.sys.transfer(p.handle, heir.thread, int(ALL_RIGHTS & ~Rights.EXECUTE), grant=True)
        taken = heir.sys.accept(p.pager.thread, offer)
        p.pager, p.handle = heir, taken.handle
        p.view = heir.env.views.map(p.handle)
        assert (LOAD, a.thread, 0) in p.told()
        p.supply(0)
        assert a.touch(0)


def test_a_pager_thread() -> None:
    """The pager may name one of its threads, and no other's."""
    with theatre() as stage:
        pager = stage.puppet(holds=("ram",))
        with pytest.raises(TrapRefused):
            pager.sys.object_create(traps.ObjectCreate(pager.handles[0], 1, 1, thread=thread_id(3000)))


def test_memory_that_cannot_be_paged() -> None:
    """Whose memory the machine cannot page has no window."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        a.puppet.body.space = None
        with pytest.raises(TrapRefused) as refused:
            a.puppet.sys.window(a.handle, a.address, 0, 1)
        assert refused.value.refusal is Refusal.NOT_PAGED

"""Page faults where something is full, or much: nothing waits for ever, and nobody makes the kernel work long."""

import pytest

from hwmodel.machine import Deed
from kernel import faults
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from kernel.abi.traps import Protection
from kernel.jobs import QUANTUM
from libexo.errors import TrapRefused
from tests.kernel.pagers import LOAD, PAGES, SUPPLIED, WRITTEN, Paging, mapped
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, theatre


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test reaches."""
    monkeypatch.setattr(faults, "MAX_FAULTS", 4)
    monkeypatch.setattr(faults, "MAX_VIEWS", 4)


def test_a_fault_that_was_dropped_is_told_again() -> None:
    """A pager whose gate was full when a page was touched hears of it as soon as there is room."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        while stage.kernel.exposure.tell(p.pager.environment, Label.REVOKED, (0,)):
            pass
        a.touch(0)
        while not (told := p.told()):
            stage.pass_time(6)

        assert told == [(LOAD, a.thread, 0)]
        p.supply(0)
        assert a.touch(0)
        assert p.told() == []


@pytest.mark.usefixtures("few")
def test_pages_that_one_program_waits_for() -> None:
    """An access beyond as many as may wait fails at once; what waits goes on waiting."""
    with theatre() as stage:
        p = Paging(stage)
        a, b = p.program(), p.program(name="b")
        for page in range(4):
            a.touch(page)
        assert not a.fails(3)
        a.touch(4)
        assert a.fails(4)
        b.touch(4)
        p.supply(4)
        assert b.touch(4)
        p.supply(3)
        assert a.touch(3)


@pytest.mark.usefixtures("few")
def test_windows_onto_one_object() -> None:
    """One more than may be is refused; when one has ended, there is room."""
    with theatre() as stage:
        p = Paging(stage)
        programs = [p.program(name=f"program{at}") for at in range(4)]
        with pytest.raises(TrapRefused) as refused:
            p.program(name="last")
        assert refused.value.refusal is Refusal.TOO_MANY_WINDOWS
        stage.kill(programs[0].puppet)
        p.program(name="later")


def test_a_crowd_behind_a_pager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pager with more windows onto its objects than are looked at may not be paged itself; its users may."""
    monkeypatch.setattr(faults, "_LOOKS", 4)
    with theatre() as stage:
        crowded, other = Paging(stage, "crowded"), Paging(stage, "other")

        def map_other(user: Puppet) -> None:
            user.env.views.map(passed(other.pager, other.handle, user, Rights.READ))

        users = [crowded.program(name=f"user{at}") for at in range(4)]
        map_other(users[0].puppet)
        crowded.program(name="last")
        with pytest.raises(TrapRefused) as refused:
            map_other(crowded.pager)
        assert refused.value.refusal is Refusal.PAGER_CIRCLE
        stage.kill(users[0].puppet)
        map_other(crowded.pager)


def test_protecting_goes_in_steps() -> None:
    """A write that comes between two steps of CLEAN is noted; all windows are protected at the end."""
    with theatre() as stage:
        p = Paging(stage)
        programs = [p.program(name=f"program{at}") for at in range(QUANTUM + 2)]
        for each in programs:
            each.touch(0, write=True)
        p.supply(0)
        for each in programs:
            assert each.touch(0, write=True)
        assert p.pager.sys.protect(p.handle, 0, 1, Protection.CLEAN) == bytes([SUPPLIED | WRITTEN])
        assert p.states()[0] == SUPPLIED
        assert not programs[-1].touch(0, write=True)
        assert p.states()[0] == SUPPLIED | WRITTEN


def test_a_store_while_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is written while pages before it are punched stays, with what was stored."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        for page in range(3):
            a.touch(page, write=page == 1)
        p.supply(0, count=3)
        body, punch = a.puppet.body, p.object._backing.punch

        def punched(first: int, count: int) -> Deed:
            yield from punch(first, count)
            body.touch(a.view, 2 * FRAME_SIZE, write=True)
            stage.supervisor.faulted(body, body.table.faults.popleft())

        monkeypatch.setattr(type(p.object._backing), "punch", lambda _, first, count: punched(first, count))
        assert p.pager.sys.evict(p.handle, 0, 3) == 1
        assert a.touch(2, write=True)
        assert p.states()[:3] == [0, SUPPLIED | WRITTEN, SUPPLIED | WRITTEN]


def test_who_comes_while_others_fail() -> None:
    """Whoever touches a page while those that waited too long for it fail has all its time to wait."""
    with theatre() as stage:
        p = Paging(stage)
        programs = [p.program(name=f"program{at}") for at in range(2 * QUANTUM)]
        for each in programs:
            each.touch(0)
        late = p.program(name="late")
        stage.pass_time(999)
        late.touch(1)
        stage.pass_time(2)
        assert all(each.fails(0) for each in programs)
        assert not late.touch(1)
        p.supply(1)
        assert late.touch(1)


def test_a_stranger_s_zeros_are_not_counted() -> None:
    """Pages that somebody makes unasked are no pages of the object: they are not among those its frames bound."""
    with theatre() as stage:
        p = Paging(stage)
        stranger = stage.puppet("stranger")
        seen = mapped(stranger, passed(p.pager, p.handle, stranger, Rights.READ | Rights.WRITE))
        for page in range(PAGES):
            stranger.host.touch(seen, page * FRAME_SIZE, 1, write=True)
        assert (p.object.resident, p.states()) == (0, [0] * PAGES)

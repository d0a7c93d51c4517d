"""What strangers to the paging tried: addresses used again, rights given up early, pagers that race themselves."""

import errno
from collections.abc import Iterable

import pytest

from hwmodel.failures import HostFailure
from kernel import faults
from kernel.abi.budget import Item
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.jobs import QUANTUM
from kernel.objects import Window
from tests.kernel.pagers import LOAD, PAGES, SUPPLIED, WRITTEN, Paging, mapped
from tests.kernel.passing import passed
from tests.kernel.puppets import theatre

BOTH = Rights.READ | Rights.WRITE


def test_an_address_used_again() -> None:
    """Memory that is cut ends only the windows that are its own: what was mapped there since is paged still."""
    with theatre() as stage:
        old, new = Paging(stage, "old"), Paging(stage, "new")
        a = old.program()
        sys, host = a.puppet.sys, a.puppet.host
        sys.drop(a.handle)  # before the view is unmapped: its window is closed, and watched
        handle = passed(new.pager, new.handle, a.puppet, BOTH)
        _, descriptor = sys.map_extent(handle)
        host.remap(
            host.mapping(a.view),
            descriptor,
            writable=True,
            opened=lambda at: sys.window(handle, at, 0, PAGES),
        )
        old.pager.sys.drop(old.handle)
        stage.settle()

        assert not a.touch(0)
        assert new.told() == [(LOAD, a.thread, 0)]


def test_windows_onto_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that are taken back leave no windows: who mapped many has room for as many others."""
    monkeypatch.setattr(faults, "MAX_WINDOWS", 3)
    with theatre() as stage:
        a = stage.puppet("program")
        for at in range(5):
            p = Paging(stage, f"pager{at}")
            view = a.env.views.map(passed(p.pager, p.handle, a, BOTH))
            stage.kill(p.pager)
            a.env.views.unmap(view)


def test_windows_closed_and_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights given up before their view is unmapped leave nothing in the kernel once the address is used again."""
    monkeypatch.setattr(faults, "MAX_WINDOWS", 3)
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        for _ in range(9):
            own = a.puppet.sys.derive(a.handle, int(BOTH))
            a.puppet.sys.window(own, a.address, 0, PAGES)
            a.puppet.sys.drop(own)
        assert len(p.object._closed) == 1
        for _ in range(9):
            view = a.puppet.env.views.map(handle := a.puppet.sys.derive(a.handle, int(BOTH)))
            a.puppet.sys.drop(handle)
            a.puppet.env.views.unmap(view)
        assert len(p.object._closed) <= 3  # its last mapping is the view that this loop still holds


def test_evicted_in_the_middle_of_a_supply() -> None:
    """Who waits for a run sees no page of it that another holder of CONTROL evicted before it was shown."""
    with theatre() as stage:
        p = Paging(stage)
        other = stage.puppet("other")
        handle = passed(p.pager, p.handle, other, ALL_RIGHTS & ~Rights.EXECUTE)
        programs = [p.program(name=f"program{at}") for at in range(3 * QUANTUM)]
        for each in programs:
            each.touch(0)
        p.store(0, 7, 2)
        seen: list[int] = []

        def evict(*_: object) -> None:
            other.sys.evict(handle, 1)
            p.store(1, 9)
            seen.append(1)

        space = programs[2 * QUANTUM].puppet.body.table
        show = space.wake

        def shown(address: int, size: int) -> None:
            show(address, size)
            if not seen:
                stage.machine.soon(evict)

        space.wake = shown  # type: ignore[method-assign]
        p.pager.sys.supply(p.handle, 0, 2)
        stage.settle()

        assert seen
        assert p.states()[:2] == [SUPPLIED, 0]
        assert not programs[-1].touch(1)


def test_an_innocent_writer_while_another_is_revoked() -> None:
    """Memory that moves, for a third one loses its right, ends nobody who keeps his: he maps it again."""
    with theatre() as stage:
        p = Paging(stage)
        a, b = p.program(name="a"), p.program(name="b")
        a.touch(0)
        p.supply(0)
        assert a.touch(0)
        lent = p.pager.sys.derive(p.handle, int(BOTH | Rights.TRANSFER))
        c = stage.puppet("c")
        c.env.views.map(passed(p.pager, lent, c, BOTH))
        close, body = p.object.close, a.puppet.body

        def closed(windows: Iterable[Window], *, moves: bool = False) -> None:
            close(windows, moves=moves)
            if p.object.windows:
                return
            p.object.close = close  # type: ignore[method-assign]
            body.touch(a.view, 0, write=True)
            while body.table.faults:
                stage.supervisor.faulted(body, body.table.faults.popleft())

        p.object.close = closed  # type: ignore[method-assign]
        p.pager.sys.revoke(lent)
        stage.settle()

        assert a.puppet.alive
        assert b.puppet.alive


def test_memory_that_moves_without_a_copy() -> None:
    """Where it is taken back by force and the host has no room, its pager is asked for each page again."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        p.supply(0)
        lent = p.pager.sys.derive(p.handle, int(BOTH | Rights.TRANSFER))
        c = p.program(name="c", lent=lent)
        stage.machine.failures.fail_call(
            HostFailure(stage.machine.calls._of_name["memfd_create"] + 1, errno.ENOMEM, "memfd_create")
        )
        p.pager.sys.revoke(lent, 1000)
        stage.pass_time(2)
        assert c.fails(0)
        a.puppet.env.views.moved(a.handle)
        p.pager.env.views.moved(p.handle)
        p.told()
        assert (p.states(), p.object.resident) == ([0] * PAGES, 0)
        assert not a.touch(0)
        assert p.told() == [(LOAD, a.thread, 0)]
        p.supply(0, 9)
        assert a.touch(0)
        assert a.byte(0) == 9


def test_a_grant_that_closes_a_circle() -> None:
    """Who may wait for itself in becoming the pager, alone or by others, loses its window; others keep theirs."""
    with theatre() as stage:
        p, q = Paging(stage, "p"), Paging(stage, "q")
        user, heir = p.program(name="user"), q.program(name="heir")
        own = passed(p.pager, p.handle, heir.puppet, BOTH)
        itself = heir.puppet.env.views.map(own)
        between = q.pager.env.views.map(passed(p.pager, p.handle, q.pager, BOTH))
        next(c for c in p.pager.caps if c.handle == p.handle).mapped = False  # its memory does not move
        handle = passed(p.pager, p.handle, heir.puppet, int(ALL_RIGHTS & ~Rights.EXECUTE), grant=True)
        for puppet, view in ((heir.puppet, itself), (q.pager, between)):
            assert puppet.body.touch(view, 0, write=False) is not None
            stage.settle()
            with pytest.raises(ValueError, match="poisoned"):
                puppet.body.touch(view, 0, write=False)
        assert not user.touch(0)
        assert [u.words[2:] for u in heir.puppet.upcalls() if u.label == LOAD] == [(handle, 0)]


def test_a_window_opened_again_while_a_thread_waits() -> None:
    """Who waits in a window that another one takes the place of waits in that one."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        woken = a.puppet.body.touch(a.view, 0, write=False)
        stage.settle()
        a.puppet.sys.window(a.handle, a.address, 0, PAGES)

        assert woken is not None
        assert woken()


def test_what_strangers_made_is_evicted() -> None:
    """Pages that nobody supplied go with an eviction, and count as none; who waits for one is told of no more."""
    with theatre() as stage:
        p = Paging(stage)
        a, stranger = p.program(), stage.puppet("stranger")
        seen = mapped(stranger, passed(p.pager, p.handle, stranger, BOTH))
        a.touch(1, write=True)
        p.supply(1)
        a.touch(2)
        p.told()
        for page in range(PAGES):
            stranger.host.touch(seen, page * FRAME_SIZE, 1, write=True)
        assert p.pager.sys.evict(p.handle, 0, PAGES) == 0
        assert p.object._backing._region.present == {1}  # type: ignore[attr-defined]
        assert (p.states()[1], p.object.resident, p.told()) == (SUPPLIED | WRITTEN, 1, [])


def test_many_faults_leave_room_for_other_news() -> None:
    """However many pages strangers touch, a pager that reads nothing is told what else concerns it."""
    with theatre() as stage:
        p = Paging(stage)
        a, pager = p.program(), p.pager.environment
        while not pager.backlog:
            stage.kernel.exposure.tell(pager, Label.REVOKED, (0,))
        limit, row = pager.budget.limit[Item.UPCALLS], pager.budget
        row.limit[Item.UPCALLS] = row.used[Item.UPCALLS] + 5
        for page in range(PAGES):
            a.touch(page)

        assert stage.kernel.exposure.tell(pager, Label.REVOKED, (0,))
        told = p.told()
        while len(told) < PAGES:
            stage.pass_time(6)
            told += p.told()
        assert [page for _, _, page in told] == list(range(PAGES))
        row.limit[Item.UPCALLS] = limit

"""Parts of paged objects: who may map, wait for and supply which pages, and what becomes of who waits."""

import errno

import pytest

from hwmodel.failures import HostFailure
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Fault, Refusal
from kernel.abi.limits import FRAME_SIZE, MAX_DEPTH
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from kernel.abi.traps import Protection
from libexo.checking import encode_trap
from tests.kernel.pagers import FRAMES, GUARDED, LOAD, PAGES, STORE, SUPPLIED, WRITTEN, Paging, Program
from tests.kernel.passing import passed
from tests.kernel.puppets import faults, refusal, theatre

READ, WRITE, CONTROL, TRANSFER = Rights.READ, Rights.WRITE, Rights.CONTROL, Rights.TRANSFER


def of_part(p: Paging, first: int, count: int, name: str = "part", rights: Rights = READ | WRITE) -> Program:
    """Start a program that has a part mapped, and nothing else."""
    return p.program(rights, name, p.part(first, count, int(rights)), first)


def test_a_page_of_a_part() -> None:
    """Its pager is told of a touch by the page's number in the object; all who map that page see the same."""
    with theatre() as stage:
        p = Paging(stage)
        whole, part = p.program(), of_part(p, 2, 3)
        whole.maps_again()
        assert not part.touch(3, write=True)
        assert p.told() == [(STORE, part.thread, 3)]
        p.supply(3)
        assert part.touch(3, write=True)
        part.view[FRAME_SIZE] = 9
        assert whole.touch(3) or whole.touch(3)
        assert (whole.byte(3), p.view[3 * FRAME_SIZE], len(part.view)) == (9, 9, 3 * FRAME_SIZE)
        assert p.states()[2:5] == [0, SUPPLIED | WRITTEN, 0]


def test_no_page_outside_of_a_part() -> None:
    """No trap and no mapping leads its holder to a page outside, whatever numbers it gives."""
    with theatre() as stage:
        p = Paging(stage)
        p.supply(0, 1, 4)
        part = of_part(p, 1, 2, rights=READ | WRITE | CONTROL | TRANSFER)
        sys, handle = part.puppet.sys, part.handle
        beyond = part.puppet.host.map(sys.map_extent(handle)[1], 4 * FRAME_SIZE, writable=True)

        assert faults(beyond)
        for first, count in ((2, 1), (1, 2), (0, 3), (PAGES, 1)):
            asked = [
                (sys.window, handle, part.address, first, count),
                (sys.supply, handle, first, count),
                (sys.evict, handle, first, count),
                (sys.protect, handle, first, count, Protection.GUARD),
                (sys.derive, handle, int(READ), first, count),
            ]
            assert [refusal(trap, *arguments) for trap, *arguments in asked] == [Refusal.BAD_ARGUMENT] * 5  # type: ignore[arg-type]
        assert refusal(sys.map_extent, handle, 2) == Refusal.BAD_ARGUMENT
        assert p.states()[:4] == [SUPPLIED] * 4


def test_control_of_a_part() -> None:
    """Who was given CONTROL of a part supplies, protects and evicts its pages, by the numbers of the part."""
    with theatre() as stage:
        p = Paging(stage)
        part = of_part(p, 2, 3, rights=READ | WRITE | CONTROL | TRANSFER)
        sys, handle = part.puppet.sys, part.handle
        sys.supply(handle, 1, 2)
        states = p.states()
        before = sys.protect(handle, 0, 3, Protection.GUARD)
        guarded = p.states()

        assert states[2:6] == [0, SUPPLIED, SUPPLIED, 0]
        assert list(before) == [0, SUPPLIED, SUPPLIED]
        assert guarded[3] == SUPPLIED | GUARDED
        assert (sys.evict(handle, 0, 3), p.states()) == (2, [0] * PAGES)


@pytest.mark.parametrize("page", range(PAGES))
@pytest.mark.parametrize("write", [False, True], ids=["load", "store"])
def test_divided_while_a_page_is_waited_for(page: int, *, write: bool) -> None:
    """The access is answered where its memory stays; where it moves it is tried again, and answered then."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        assert not a.touch(page, write=write)
        p.part(2, 3)
        waiting = sum(len(each.waits) for each in p.object.windows)
        a.maps_again()
        assert waiting == (page < 2)
        stage.check()
        a.touch(page, write=write)
        assert p.told()[-1:] in ([], [(STORE if write else LOAD, a.thread, page)])
        p.supply(page)

        assert a.touch(page, write=write)
        assert a.byte(page) == 7


def test_what_was_there_stays() -> None:
    """Pages, and what the kernel knows of them, are after a division what they were before."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        for page in range(FRAMES):
            a.touch(page)
            p.supply(page, 10 + page)
        assert a.touch(1, write=True) or a.touch(1, write=True)
        a.view[FRAME_SIZE] = 99
        p.pager.sys.protect(p.handle, 2, 1, Protection.GUARD)
        before = p.states()
        p.part(1, 2)
        a.maps_again()

        assert p.states() == before
        assert before[:4] == [SUPPLIED, SUPPLIED | WRITTEN, SUPPLIED | GUARDED, SUPPLIED]
        assert [a.touch(page) or a.touch(page) for page in range(FRAMES)] == [True] * FRAMES
        assert [a.byte(page) for page in range(FRAMES)] == [10, 99, 12, 13]
        assert not a.touch(2, write=True)
        assert p.told()[-1] == (STORE, a.thread, 2)


def test_runs_over_several_pieces() -> None:
    """One Supply, one Protect and one Evict do for all of their pages, in whichever pieces these are."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        for first in (1, 2, 3):
            p.part(first, 1)
        a.maps_again()
        assert not a.touch(2)
        p.supply(0, 5, 4)
        seen = [a.touch(page) for page in range(4)]
        states = p.pager.sys.protect(p.handle, 0, 4, Protection.GUARD)

        assert len(p.object.pieces) > 4
        assert (seen, [a.byte(page) for page in range(4)]) == ([True] * 4, [5] * 4)
        assert list(states) == [SUPPLIED] * 4
        assert (p.pager.sys.evict(p.handle, 0, PAGES), p.states()) == (4, [0] * PAGES)
        assert not a.touch(3)


def test_a_part_is_taken_alone() -> None:
    """Who derived it takes it back: its holder finds a bus error, all others what was there, and where it was."""
    with theatre() as stage:
        p = Paging(stage)
        whole, part = p.program(), of_part(p, 2, 3)
        whole.maps_again()
        part.touch(3)
        p.supply(3, 8)
        assert part.touch(3)
        assert not part.touch(4)
        p.told()
        assert p.pager.sys.revoke(part.lent)[0] == 1
        stage.settle()
        p.pager.env.views.moved(p.handle)
        whole.maps_again()

        assert part.fails(3)
        assert part.fails(4)
        assert (whole.touch(3) or whole.touch(3), whole.byte(3), p.view[3 * FRAME_SIZE]) == (True, 8, 8)
        assert p.states()[3] == SUPPLIED


def test_parts_that_overlap() -> None:
    """Each sees its pages, by its own rights; a store by one is seen by the other, and noticed."""
    with theatre() as stage:
        p = Paging(stage)
        reader, writer = of_part(p, 1, 3, "reader", READ), of_part(p, 2, 4, "writer")
        reader.maps_again()
        for page in (2, 3):
            assert not writer.touch(page, write=True)
            p.supply(page)
            assert writer.touch(page, write=True)
            writer.view[(page - 2) * FRAME_SIZE] = 20 + page
        assert reader.touch(2) or reader.touch(2)
        assert reader.touch(3) or reader.touch(3)

        assert (reader.byte(2), reader.byte(3), reader.view.readonly) == (22, 23, True)
        assert p.states()[2:4] == [SUPPLIED | WRITTEN] * 2
        p.pager.sys.revoke(writer.lent)
        stage.settle()
        reader.maps_again()
        assert (writer.fails(2), reader.touch(2) or reader.touch(2), reader.byte(2)) == (True, True, 22)


def test_a_part_of_a_part() -> None:
    """Its pages are counted from where it begins, at any depth; the object's pager is told by the object's."""
    with theatre() as stage:
        p = Paging(stage)
        outer = of_part(p, 2, 5, rights=READ | TRANSFER)
        sys = outer.puppet.sys
        inner = sys.derive(outer.handle, int(READ | TRANSFER), 1, 3)
        innermost = stage.puppet("innermost")
        handle = passed(outer.puppet, sys.derive(inner, int(READ | TRANSFER), 1, 1), innermost, READ)
        view = innermost.env.views.map(handle)
        assert innermost.body.touch(view, 0, write=False) is not None
        stage.settle()

        assert p.told() == [(LOAD, innermost.thread, 4)]
        for _ in range(MAX_DEPTH - next(c.depth for c in outer.puppet.caps if c.handle == inner)):
            inner = sys.derive(inner, int(READ | TRANSFER), 0, 1)
        assert refusal(sys.derive, inner, int(READ), 0, 1) == Refusal.TOO_DEEP


def test_a_pager_that_never_supplies() -> None:
    """Who waits for a page of a part finds a bus error when the object's patience is over, as of any page."""
    with theatre() as stage:
        p = Paging(stage)
        part, other = of_part(p, 2, 3), of_part(p, 5, 1, "other")
        assert not part.touch(4)
        stage.pass_time(600)
        part.puppet.env.views.map(part.handle)  # another window changes nothing
        stage.pass_time(600)

        assert part.fails(4)
        assert not other.touch(5)
        p.supply(5)
        assert other.touch(5)


def test_a_guarded_page_of_who_lost_its_part() -> None:
    """Who waits to write a page that is there, and cannot be poisoned, is ended, and its record says of what."""
    with theatre() as stage:
        p = Paging(stage)
        part = of_part(p, 2, 1)
        part.touch(2)
        p.supply(2)
        assert part.touch(2)
        p.pager.sys.protect(p.handle, 2, 1, Protection.GUARD)
        assert not part.touch(2, write=True)
        stage.kill(p.pager)

        assert part.puppet.environment.fault == Fault.NO_PAGE
        assert "page 2" in part.puppet.environment.detail


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["taken first", "derived first"])
@pytest.mark.parametrize("ends", ["", "holder", "pager"])
def test_parts_while_the_whole_is_taken(order: tuple[int, int], ends: str) -> None:
    """Whoever comes first: the part is derived and taken with the whole, or refused, and never left behind."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program(READ | WRITE | TRANSFER)
        assert not a.touch(3)
        p.supply(3)
        assert a.touch(3)
        assert not a.touch(5)
        asked = [
            (p.pager, traps.Revoke(p.handle)),
            (a.puppet, traps.Derive(a.handle, int(READ), 1, 4)),
        ]
        for puppet, trap in (asked[at] for at in order):
            puppet.body.pipe.to_kernel.append((encode_trap(trap, 0), []))
            stage.machine._trap(puppet.body, stage.supervisor)
        busy = stage.kernel.jobs.under_way
        if ends:
            (a.puppet if ends == "holder" else p.pager).kill()
        stage.pass_time(5)
        for puppet in (p.pager, a.puppet):
            for _, given in puppet.body.pipe.to_program:
                for each in given:
                    each.close()
            puppet.body.pipe.to_program.clear()
        stage.check()

        assert busy == 2
        assert ends == "holder" or (a.puppet.sys.inventory() == () and a.fails(3) and a.fails(5))
        if ends != "pager":
            p.pager.env.views.moved(p.handle)
            assert (p.states()[3], p.view[3 * FRAME_SIZE]) == (SUPPLIED, 7)


@pytest.mark.parametrize("call", ["memfd_create", "pwrite", "ftruncate"])
@pytest.mark.parametrize("time", [1, 2])
def test_a_host_that_refuses(call: str, time: int) -> None:
    """A part that the host has no memory for changes nothing for who waits, and is derived when there is some."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        assert not a.touch(1)
        assert not a.touch(4)
        calls = stage.machine.calls
        stage.machine.failures.fail_call(HostFailure(calls._of_name[call] + time, errno.ENOMEM, call))
        refused = refusal(p.pager.sys.derive, p.handle, int(READ), 2, 3)
        assert p.part(2, 3)
        a.maps_again()
        for page in (1, 4):
            a.touch(page)
            p.supply(page)

        assert refused == Refusal.HOST_FULL
        assert a.touch(1)
        assert a.touch(4)


def test_as_many_parts_as_there_are() -> None:
    """A holder divides as often as its budget lets it: others see their pages, wait, and pay nothing."""
    with theatre() as stage:
        p = Paging(stage)
        made = p.pager.sys.object_create(traps.ObjectCreate(p.pager.handles[0], 16, 2048))
        divider, other = stage.pair(holds=())
        held = passed(p.pager, made.extent, divider, READ | WRITE | TRANSFER)
        view = other.env.views.map(passed(p.pager, made.extent, other, READ))
        assert other.body.touch(view, 0, write=False) is not None
        used, budget = other.environment.budget.used[Item.DESCRIPTORS], divider.environment.budget
        budget.limit[Item.DESCRIPTORS] = budget.used[Item.DESCRIPTORS] + 300
        budget.show_in(stage.kernel.kip.budget_row(divider.environment.number))
        parts = 0
        while budget.room(Item.DESCRIPTORS) > 12:
            parts += 1
            divider.sys.drop(divider.sys.derive(held, int(READ), 2 * parts, 1))
        stage.check()
        p.pager.sys.supply(made.extent, 0)

        assert parts > 100
        assert other.environment.budget.used[Item.DESCRIPTORS] == used
        assert len(stage.kernel.faults._windows[other.environment]) < 10


def test_shown_late_in_a_window_that_was_divided() -> None:
    """What the host says of a page after its window was made two is taken for the window that has the page now."""
    with theatre() as stage:
        p = Paging(stage)
        a = p.program()
        (window,) = p.object.windows
        assert not a.touch(6)
        stage.kernel.faults.divide(window, 4)
        stage.check()
        stage.kernel.faults._hidden(window, 6, False, None)
        (behind,) = [each for each in p.object.windows if each is not window]

        assert (list(window.waits), list(behind.waits)) == ([], [6])
        p.supply(6)
        assert a.touch(6)


def test_who_is_told() -> None:
    """Holders are told which pages of theirs to map again, and the pager of no fault that was told before."""
    with theatre() as stage:
        p = Paging(stage)
        a, part = p.program(), of_part(p, 4, 4)
        a.maps_again()
        assert not a.touch(0)
        p.told(), part.puppet.told()
        p.pager.sys.derive(p.handle, int(READ), 6, 1)

        assert a.puppet.told() == [(Label.MOVED, (a.handle, 7, 1)), (Label.MOVED, (a.handle, 6, 1))]
        assert part.puppet.told() == [(Label.MOVED, (part.handle, 3, 1)), (Label.MOVED, (part.handle, 2, 1))]
        assert p.told() == []

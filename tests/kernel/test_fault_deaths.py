"""What becomes of an access that waits, whatever happens meanwhile: each cell of a matrix."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from kernel.abi.errors import Fault
from kernel.abi.traps import Protection
from libexo.errors import GateClosed
from tests.kernel.pagers import PAGES, Paging, Program
from tests.kernel.puppets import theatre


def nothing(_p: Paging, _a: Program) -> None:
    """Change nothing."""


def evicts(p: Paging, _a: Program) -> None:
    p.pager.sys.evict(p.handle, 0, PAGES)


def divides(p: Paging, a: Program) -> None:
    """Make memory move; the program maps again what moved."""
    p.part(0, 1)
    p.part(4, 2)
    a.maps_again()


def takes_a_part(p: Paging, a: Program) -> None:
    """Take a part back that another one had mapped."""
    part = p.part(0, 1)
    p.program(name="third", lent=part)
    a.maps_again()
    p.pager.sys.revoke(part)
    p.pager.env.views.moved(p.handle)
    a.maps_again()


def unmaps(_p: Paging, a: Program) -> None:
    a.puppet.sys.window(a.handle, a.address)
    a.puppet.env.views.unmap(a.view)


def revokes(p: Paging, _a: Program) -> None:
    p.pager.sys.revoke(p.handle)


def drops(p: Paging, _a: Program) -> None:
    p.pager.sys.drop(p.handle)


def drops_own(_p: Paging, a: Program) -> None:
    with suppress(
        GateClosed
    ):  # an access that cannot be made to fail ends its program, in the middle of this
        a.puppet.sys.drop(a.handle)


def pager_dies(p: Paging, _a: Program) -> None:
    p.stage.kill(p.pager)


def faulter_dies(p: Paging, a: Program) -> None:
    p.stage.kill(a.puppet)


def both_die(p: Paging, a: Program) -> None:
    p.pager.kill()
    a.puppet.kill()
    p.stage.settle()


EVENTS: dict[Callable[[Paging, Program], None], str] = {
    nothing: "waits",
    evicts: "waits",
    divides: "waits",
    takes_a_part: "waits",
    unmaps: "gone",
    revokes: "fails",
    drops: "fails",
    drops_own: "fails",
    pager_dies: "fails",
    faulter_dies: "dead",
    both_die: "dead",
}
"""What becomes of an access that waits."""
BEFORE = ("absent", "guarded", "there")


@pytest.mark.parametrize("of", ["all of it", "several pieces", "a part"])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_matrix(event: Callable[[Paging, Program], None], before: str, of: str) -> None:
    """Whatever happens while an access waits: it is answered, fails, or its program is gone; nothing is left."""
    with theatre() as stage:
        p = Paging(stage)
        lent = p.part(0, 3) if of == "a part" else 0
        if of == "several pieces":
            p.part(0, 1), p.part(2, 4)
        a, other = p.program(lent=lent), p.program(name="other")
        if before != "absent":
            a.touch(0)
            p.supply(0)
        if before == "guarded":
            p.pager.sys.protect(p.handle, 0, 1, Protection.GUARD)
        there = a.touch(0, write=before == "guarded")
        event(p, a)
        stage.settle()
        stage.check()
        outcome = EVENTS[event]
        if there:
            assert before == "there"
        elif outcome == "waits":
            a.touch(0, write=before == "guarded")  # as who was woken does
            p.supply(0, 5)
            assert a.touch(0, write=before == "guarded")
        elif outcome == "fails" and a.puppet.alive:
            assert a.fails(0)
        elif outcome == "fails":
            assert (before, a.puppet.environment.fault) == ("guarded", Fault.NO_PAGE)
        if event in (unmaps, drops_own, faulter_dies, divides):
            other.maps_again()
            other.touch(1)
            p.supply(1)
            assert other.touch(1)
        assert all(
            pending.waiting for table in stage.kernel.faults._pending.values() for pending in table.values()
        )

"""Whoever is killed in the middle of whichever trap on paged memory, at each of its steps: all frames come back."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from kernel import jobs
from kernel.abi import traps
from kernel.abi.traps import Protection
from libexo.errors import GateClosed, TrapRefused
from tests.kernel.pagers import PAGES, Paging, Program
from tests.kernel.puppets import Theatre, theatre


def creates(p: Paging, _a: Program) -> None:
    p.pager.sys.object_create(traps.ObjectCreate(p.pager.handles[0], 2, PAGES))


def opens(_p: Paging, a: Program) -> None:
    a.puppet.sys.window(a.handle, a.address, 0, PAGES)


def supplies(p: Paging, _a: Program) -> None:
    p.pager.sys.supply(p.handle, 1, 3)


def evicts(p: Paging, _a: Program) -> None:
    p.pager.sys.evict(p.handle, 0, PAGES)


def guards(p: Paging, _a: Program) -> None:
    p.pager.sys.protect(p.handle, 0, PAGES, Protection.GUARD)


def revokes(p: Paging, _a: Program) -> None:
    p.pager.sys.revoke(p.handle)


def takes_from_one(p: Paging, a: Program) -> None:
    p.pager.sys.revoke(a.lent)


def divides(p: Paging, _a: Program) -> None:
    p.pager.sys.derive(p.handle, 31, 2, 3)


def takes_a_part(p: Paging, _a: Program) -> None:
    p.pager.sys.revoke(p.parts[-1])


TRAPS = (divides, takes_a_part, creates, opens, supplies, evicts, guards, revokes, takes_from_one)
VICTIMS: dict[str, Callable[[Paging, Program], tuple[object, ...]]] = {
    "pager": lambda p, _: (p.pager,),
    "user": lambda _, a: (a.puppet,),
    "both": lambda p, a: (p.pager, a.puppet),
}
MOST = 60
"""No trap here has as many steps."""


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_killed_at_each_step(
    monkeypatch: pytest.MonkeyPatch, trap: Callable[[Paging, Program], None], victim: str
) -> None:
    """Free and carved are all of RAM at each moment, and everything is free when everybody is gone."""
    monkeypatch.setattr(jobs, "QUANTUM", 1)
    step = 0
    while killed_at(step, monkeypatch, trap, victim):
        step += 1
        assert step < MOST
    assert step


def killed_at(
    step: int, monkeypatch: pytest.MonkeyPatch, trap: Callable[[Paging, Program], None], victim: str
) -> bool:
    """Kill at *step* of *trap*; say whether it had so many."""
    with theatre() as stage:
        free = stage.kernel.frames.free
        p = Paging(stage)
        a = p.program(lent=p.pager.sys.derive(p.handle, 31))
        other = p.program(name="other")
        third = p.program(name="third", lent=p.part(1, 2), first=1)
        for each in (a, other):
            each.maps_again()
        p.supply(0)
        for each in (a, other):
            each.touch(0, write=True)
            each.touch(2)
        third.touch(2)
        with monkeypatch.context() as patched:
            hit = strikes(stage, patched, step, lambda: [each.kill() for each in VICTIMS[victim](p, a)])  # type: ignore[attr-defined]
            with suppress(GateClosed, TrapRefused):
                trap(p, a)
            stage.settle()
        stage.check()
        for puppet in (p.pager, a.puppet, other.puppet, third.puppet):
            stage.kill(puppet)
        assert stage.kernel.frames.free == free
        assert not stage.kernel.faults._pending
        assert not stage.kernel.faults._windows
        return bool(hit)


def strikes(
    stage: Theatre, patched: pytest.MonkeyPatch, step: int, strike: Callable[[], object]
) -> list[int]:
    """Do *strike* at the given *step* of jobs from now on; return what is not empty when it was done."""
    hit: list[int] = []
    count, resume = [0], stage.kernel.jobs._resume

    def resumed(job: jobs.Job) -> object:
        count[0] += 1
        if count[0] == step + 1:
            hit.append(step)
            strike()
        return resume(job)

    patched.setattr(stage.kernel.jobs, "_resume", resumed)
    return hit

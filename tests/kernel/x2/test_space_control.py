"""SpaceControl: the areas of a space, as long as nothing runs in it."""

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.ids import ANY_THREAD, thread_id
from kernel.abi.space import UTCB_AREA, fpage
from tests.kernel.controls import (
    KIP_AREA,
    LOCAL,
    NEW,
    OTHER,
    PROGRAM,
    SPACE_AREA,
    SPACE_UTCB,
    control,
    home_of,
    root,
    row,
    thread_in,
)
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre

LARGE = 0x6100_0000_0000 | 20 << 4


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0, range(0)),
        (9 << 4 | 1 << 20, range(0)),
        (1 << 4, range(1 << 64)),
        (0x5000 | 12 << 4 | 7, range(0x5000, 0x6000)),
        (0x5C00 | 12 << 4, range(0x5000, 0x6000)),
        (63 << 4, range(1 << 63)),
    ],
)
def test_fpages(word: int, expected: range) -> None:
    """An fpage is a size and a base that is a multiple of it; a size below 10 is nil, but for 1, which is all."""
    assert fpage(word) == expected


def fresh(stage: Theatre) -> Puppet:
    boss = root(stage)
    control(boss, NEW, NEW, scheduler=boss.thread)
    return boss


def test_areas() -> None:
    """The areas can be set again until a thread is active, and are left alone from then on, whatever they are."""
    with theatre() as stage:
        boss = fresh(stage)
        home = home_of(stage, NEW)
        results = [boss.sys.space_control(NEW, 0, KIP_AREA, area) for area in (LARGE, SPACE_AREA)]
        control(boss, NEW, NEW, pager=boss.thread, program=PROGRAM)
        results.append(boss.sys.space_control(NEW, 0, 0, 0))

        assert results == [0, 0, 0]
        assert (home.utcb_area, home.kip_area) == (fpage(SPACE_AREA), fpage(KIP_AREA))
        assert home.first.utcb == SPACE_UTCB


def test_a_location_chosen_before_the_area() -> None:
    """A location that was chosen before the space had its area is checked when the thread is activated."""
    with theatre() as stage:
        boss = root(stage)
        control(boss, NEW, NEW, scheduler=boss.thread, utcb=UTCB_AREA.start)
        boss.sys.space_control(NEW, 0, KIP_AREA, SPACE_AREA)
        start = {"pager": boss.thread, "program": PROGRAM}

        assert refusal(control, boss, NEW, NEW, **start) == Refusal.BAD_UTCB
        control(boss, NEW, NEW, utcb=SPACE_UTCB, **start)
        assert home_of(stage, NEW).first.utcb == SPACE_UTCB


def test_other_environments_have_areas() -> None:
    """An environment that was not made by ThreadControl has the default area, its first thread at the base."""
    with theatre() as stage:
        environment = stage.puppet().environment

        assert (environment.utcb_area, environment.first.utcb) == (UTCB_AREA, UTCB_AREA.start)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((OTHER, 0, KIP_AREA, SPACE_AREA), Refusal.NO_SUCH_SPACE),
        ((0, 0, KIP_AREA, SPACE_AREA), Refusal.NO_SUCH_SPACE),
        ((LOCAL, 0, KIP_AREA, SPACE_AREA), Refusal.NO_SUCH_SPACE),
        ((NEW + 2, 0, KIP_AREA, SPACE_AREA), Refusal.NO_SUCH_SPACE),
        ((NEW, 1, KIP_AREA, SPACE_AREA), Refusal.BAD_ARGUMENT),
        ((NEW, 0, KIP_AREA, 0), Refusal.BAD_UTCB),
        ((NEW, 0, KIP_AREA, SPACE_UTCB | 11 << 4), Refusal.BAD_UTCB),
        ((NEW, 0, KIP_AREA, 12 << 4), Refusal.BAD_UTCB),
        ((NEW, 0, KIP_AREA, 1 << 47 | 12 << 4), Refusal.BAD_UTCB),
        ((NEW, 0, KIP_AREA, 1 << 4), Refusal.BAD_UTCB),
        ((NEW, 0, 0, SPACE_AREA), Refusal.BAD_KIP_AREA),
        ((NEW, 0, 0x5000_0000_0000 | 12 << 4, SPACE_AREA), Refusal.BAD_KIP_AREA),
        ((NEW, 0, 1 << 47 | 20 << 4, SPACE_AREA), Refusal.BAD_KIP_AREA),
        ((NEW, 0, SPACE_UTCB | 20 << 4, SPACE_AREA), Refusal.BAD_KIP_AREA),
        ((NEW, 0, KIP_AREA, SPACE_AREA, OTHER), Refusal.NO_SUCH_THREAD),
        ((NEW, 0, KIP_AREA, SPACE_AREA, NEW), Refusal.NO_SUCH_THREAD),
        ((NEW, 0, KIP_AREA, SPACE_AREA, LOCAL), Refusal.NO_SUCH_THREAD),
        ((NEW, 0, KIP_AREA, SPACE_AREA, thread_id(5)), Refusal.NO_SUCH_THREAD),
    ],
)
def test_refused_whole(arguments: tuple[int, ...], expected: Refusal) -> None:
    """A wrong argument refuses the trap, by its kind, and the space is as it was."""
    with theatre() as stage:
        boss = fresh(stage)
        home = home_of(stage, NEW)

        assert refusal(boss.sys.space_control, *arguments) == expected
        assert (home.utcb_area, home.kip_area, home.redirector) == (None, range(0), None)


def test_the_redirector_is_shown() -> None:
    """The thread table shows the redirector with every thread of the space, under its new id when it is renamed."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        thread_in(boss, a)
        thread_in(boss, boss, OTHER)
        boss.sys.space_control(NEW, 0, 0, 0, OTHER)
        shown = [row(stage, thread)[5] for thread in (a.thread, NEW)]
        control(boss, OTHER + 2, boss.thread)
        renamed = [row(stage, thread)[5] for thread in (a.thread, NEW)]
        boss.sys.space_control(NEW, 0, 0, 0, ANY_THREAD)

        assert (shown, renamed, row(stage, NEW)[5]) == ([OTHER] * 2, [OTHER + 2] * 2, 0)

"""What is left of the slice that runs, by what was installed, what has begun, and what was used."""

from kernel.abi.kip import EnvironmentState
from libexo.kip import EnvironmentRow, PlanView
from servers.scheduler.unfinished import Unfinished

MS = 1_000_000
A, B = 11, 12


def row(thread: int, consumed: int) -> EnvironmentRow:
    """Return the row of a program that used so many ms; its number is its thread's, less ten."""
    state = EnvironmentState.READY
    return EnvironmentRow(thread - 10, state, 0, 0, 0, thread, 0, consumed * MS, 0, 0, 0, 0, "")


def left(of: Unfinished, running: int, begun: int, *used: int) -> dict[int, float]:
    """Return what is left, in ms, as A and B have *used* so many ms, and *running* has slice number *begun*."""
    plans = [PlanView(0, running - 10, (), begun=begun)]
    found = of.read(plans, {0: [row(thread, ms) for thread, ms in zip((A, B), used, strict=True)]})
    return {thread: ns / MS for thread, ns in found.items()}


def installed() -> Unfinished:
    """Return one who knows a plan of slices of A, B and A again, installed while nobody ran."""
    made = Unfinished()
    assert not left(made, 9, 0, 100, 200)
    made.install(0, [(A, 10_000), (B, 20_000), (A, 10_000)])
    return made


def test_within_a_slice() -> None:
    """It is the length of the slice, less what its owner has used since it began, also of its second one."""
    of = installed()

    assert left(of, A, 1, 104, 200) == {A: 6}
    assert left(of, B, 2, 110, 215) == {B: 5}
    assert left(of, A, 3, 117, 220) == {A: 3}
    assert left(of, A, 3, 120, 220) == {}


def test_a_plan_within_a_slice() -> None:
    """A slice that is finished first has its rest, however many plans come meanwhile; then the plan counts."""
    of = installed()
    assert left(of, A, 1, 104, 200) == {A: 6}
    of.install(0, [(B, 10_000), (A, 10_000)])
    assert left(of, A, 0, 106, 200) == {A: 4}
    of.install(0, [(B, 10_000), (A, 10_000)])

    assert left(of, A, 0, 109, 200) == {A: 1}
    assert left(of, B, 1, 110, 203) == {B: 7}
    assert left(of, A, 2, 112, 210) == {A: 8}


def test_what_was_slept_counts_as_used() -> None:
    """What its owner slept in a slice is none of the next one's."""
    of = installed()
    of.charge(A, 4 * MS)

    assert left(of, A, 3, 108, 220) == {A: 8}


def test_never_more_than_the_slice() -> None:
    """One that lost much of a slice has no more left than the one that runs is long."""
    of = installed()

    assert left(of, A, 3, 101, 220) == {A: 10}


def test_outside_the_plan() -> None:
    """Of one that runs without a slice of the plan, or is no member, nothing is known."""
    of = installed()

    assert left(of, B, 1, 100, 205) == {}
    assert left(of, A, 0, 104, 200) == {}
    assert left(of, 9, 1, 100, 200) == {}
    assert left(of, A, 9, 100, 200) == {}

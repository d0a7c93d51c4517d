"""Free runs against a model: a set of numbers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.runs import FreeRuns

FRAMES = 40
spans = st.tuples(st.integers(0, FRAMES - 1), st.integers(1, FRAMES))
steps = st.lists(st.tuples(st.booleans(), spans), max_size=60)


def lowest(free: set[int], count: int, low: int, high: int) -> int | None:
    """Find the lowest run as anybody would: try each place."""
    starts = range(low, high - count + 1)
    return next((at for at in starts if free.issuperset(range(at, at + count))), None)


def found(runs: FreeRuns, count: int, low: int, high: int) -> int | None:
    """Look at one run after another."""
    while low < high:
        at, low = runs.find(count, low, high, 1)
        if at is not None:
            return at
    return None


def play(runs: FreeRuns, free: set[int], history: list[tuple[bool, tuple[int, int]]]) -> None:
    """Take and give as *history* says, where it can be done, in both."""
    for taking, (first, count) in history:
        span = set(range(first, min(first + count, FRAMES)))
        if taking and span <= free:
            runs.take(first, len(span))
            free -= span
        elif not taking and not span & free:
            runs.give(first, len(span))
            free |= span


@given(steps, spans)
def test_runs_are_a_set_of_numbers(
    history: list[tuple[bool, tuple[int, int]]], span: tuple[int, int]
) -> None:
    """However frames are taken and given, the runs say of any span what a set of free numbers says."""
    runs, free = FreeRuns(FRAMES), set(range(FRAMES))
    play(runs, free, history)
    first, count = span

    assert runs.free == len(free)
    assert runs.covers(first, count) == free.issuperset(range(first, first + count))


@settings(max_examples=300)
@given(steps, st.integers(1, 12), spans)
def test_find_is_first_fit(
    history: list[tuple[bool, tuple[int, int]]], count: int, within: tuple[int, int]
) -> None:
    """The run found is the lowest that lies wholly inside the range, and none is found when there is none."""
    runs, free = FreeRuns(FRAMES), set(range(FRAMES))
    play(runs, free, history)
    low, high = within[0], min(FRAMES, sum(within))

    assert found(runs, count, low, high) == lowest(free, count, low, high)


@given(steps)
def test_runs_never_touch(history: list[tuple[bool, tuple[int, int]]]) -> None:
    """Neighbours are joined: between two runs lies at least one taken frame."""
    runs = FreeRuns(FRAMES)
    play(runs, set(range(FRAMES)), history)

    assert all(end < start for end, start in zip(runs._ends, runs._starts[1:], strict=False))


def test_no_frames_at_all() -> None:
    """With no frames, nothing is found and nothing is free."""
    runs = FreeRuns(0)

    assert (found(runs, 1, 0, 10), runs.covers(0, 1), runs.free) == (None, False, 0)

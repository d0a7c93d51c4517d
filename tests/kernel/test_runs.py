"""Free runs against a model: a set of numbers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.runs import FreeRuns

FRAMES = 40
spans = st.tuples(st.integers(0, FRAMES - 1), st.integers(1, FRAMES))
steps = st.lists(st.tuples(st.booleans(), spans), max_size=60)


def fits(free: set[int], at: int, count: int, low: int, high: int) -> bool:
    """Whether *count* frames from *at* are free, and inside."""
    return low <= at <= high - count and free.issuperset(range(at, at + count))


def sizes(free: set[int]) -> list[int]:
    """Return how long each run is."""
    text = "".join(".x"[frame in free] for frame in range(FRAMES))
    return sorted(len(run) for run in text.split(".") if run)


def found(runs: FreeRuns, count: int, low: int, high: int) -> int | None:
    """Look until one is found, or the end."""
    while low < high:
        at, low = runs.find(count, low, high)
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
def test_what_is_found_is_free(
    history: list[tuple[bool, tuple[int, int]]], count: int, within: tuple[int, int]
) -> None:
    """It lies wholly inside the range, and none is found when there is none."""
    runs, free = FreeRuns(FRAMES), set(range(FRAMES))
    play(runs, free, history)
    low, high = within[0], min(FRAMES, sum(within))

    at = found(runs, count, low, high)
    if at is None:
        assert not any(fits(free, each, count, low, high) for each in range(FRAMES))
    else:
        assert fits(free, at, count, low, high)


@given(steps, st.integers(1, 12))
def test_the_smallest_run_with_room(history: list[tuple[bool, tuple[int, int]]], count: int) -> None:
    """In all of RAM the first look finds it, so that large runs stay."""
    runs, free = FreeRuns(FRAMES), set(range(FRAMES))
    play(runs, free, history)
    wanted = next((size for size in sizes(free) if size >= count), 0)

    at, _ = runs.find(count, 0, FRAMES)
    assert (runs._ends[at] - at if at is not None else 0) == wanted


@given(steps)
def test_runs_never_touch(history: list[tuple[bool, tuple[int, int]]]) -> None:
    """Neighbours are joined: between two runs lies at least one taken frame. Every record says the same."""
    runs, free = FreeRuns(FRAMES), set(range(FRAMES))
    play(runs, free, history)

    assert all(end not in runs._ends for end in runs._starts)
    assert {end: start for start, end in runs._ends.items()} == runs._starts
    assert sorted(end - start for start, end in runs._ends.items()) == sizes(free)
    assert runs._sizes == sorted(runs._of_size) == sorted(set(sizes(free)))
    assert {start: end - start for start, end in runs._ends.items()} == {
        start: size for size, starts in runs._of_size.items() for start in starts
    }


class Blind(bytearray):
    """Frames at which nobody may look."""

    def find(self, *_: object) -> int:
        raise AssertionError("frames were looked at")


def test_no_frame_is_looked_at() -> None:
    """In all of RAM a run is found by its size alone, however many are too small, and so is that there is none."""
    runs = FreeRuns(4000)
    for first in range(0, 2000, 2):
        runs.take(first, 1)
    runs._taken = Blind(runs._taken)

    assert [runs.find(count, 0, 4000)[0] for count in (2, 2000, 2001, 4000)] == [1999, 1999, 1999, None]
    assert (runs.find(1, 0, 4000)[0] or 0) % 2 == 1


def test_no_frames_at_all() -> None:
    """With no frames, nothing is found and nothing is free."""
    runs = FreeRuns(0)

    assert (found(runs, 1, 0, 10), runs.covers(0, 1), runs.free) == (None, False, 0)

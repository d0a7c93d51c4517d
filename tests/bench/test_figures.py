"""The statistics of the benchmarks."""

import random
import statistics

import pytest

from bench.figures import compare, median, percentile, slope, summarize


def blocks(seed: int, rounds: int, size: int, around: int) -> list[list[int]]:
    draw = random.Random(seed)
    return [[int(draw.gauss(around, around / 10)) for _ in range(size)] for _ in range(rounds)]


@pytest.mark.parametrize(("percent", "value"), [(0, 10), (25, 17.5), (50, 25), (90, 37), (100, 40)])
def test_percentile_is_linear_between_neighbours(percent: float, value: float) -> None:
    """Of 10, 20, 30, 40 the p25 lies three quarters of the way from the first to the second."""
    assert percentile([10, 20, 30, 40], percent) == pytest.approx(value)


def test_percentile_of_one_sample_is_that_sample() -> None:
    """There is nothing to interpolate."""
    assert percentile([7], 99) == 7


def test_median_pools_the_blocks() -> None:
    """Blocks of different sizes count by their samples, and their order does not matter."""
    assert median([[5, 1], [9, 3, 7]]) == median([[9, 3, 7], [5, 1]]) == statistics.median([5, 1, 9, 3, 7])


def test_a_summary_is_ordered() -> None:
    """p50, p90, p99 and max do not fall, and the interval holds the p50."""
    figures = summarize(blocks(1, rounds=10, size=100, around=50_000))

    assert figures.n == 1000
    assert figures.p50 <= figures.p90 <= figures.p99 <= figures.max
    assert figures.low <= figures.p50 <= figures.high


def test_the_same_samples_give_the_same_figures() -> None:
    """The draws of the bootstrap come from a fixed seed."""
    samples = blocks(2, rounds=8, size=50, around=1000)

    assert summarize(samples) == summarize(samples)
    assert compare(samples, samples) == compare(samples, samples)


def test_the_ratio_to_itself_is_exactly_one() -> None:
    """Rounds are drawn in pairs, so what happened to both cancels out."""
    samples = blocks(3, rounds=8, size=50, around=1000)

    assert compare(samples, samples).value == 1
    assert (compare(samples, samples).low, compare(samples, samples).high) == (1, 1)


def test_a_drift_that_hits_both_leaves_the_ratio_alone() -> None:
    """A host that gets slower and slower stretches both parties of a round alike."""
    subject = [[sample * slower for sample in (200, 210, 220)] for slower in range(1, 11)]
    reference = [[sample * slower for sample in (100, 105, 110)] for slower in range(1, 11)]

    ratio = compare(subject, reference)

    assert ratio.value == pytest.approx(2)
    assert ratio.low == pytest.approx(2)
    assert ratio.high == pytest.approx(2)


def test_the_interval_narrows_with_more_rounds() -> None:
    """Ten times the rounds leave less doubt."""
    few = summarize(blocks(4, rounds=5, size=20, around=1000))
    many = summarize(blocks(4, rounds=50, size=20, around=1000))

    assert many.high - many.low < few.high - few.low


def test_the_interval_of_the_ratio_holds_the_truth() -> None:
    """Of twenty experiments whose true ratio is 1.5, nearly all intervals hold it."""
    held = 0
    for seed in range(20):
        ratio = compare(blocks(seed, 20, 20, 1500), blocks(seed + 1000, 20, 20, 1000))
        held += ratio.low <= 1.5 <= ratio.high

    assert held >= 16


def test_a_slope_is_that_of_the_line_the_points_are_on() -> None:
    """Wherever each round's line begins, and in whatever order the points come: a drift is no slope."""
    xs = (63, 0, 21)
    points = [[[begin + 2 * x] * 3 for begin in (30, 500, 10)] for x in xs]

    assert (slope(xs, points).value, slope(xs, points).low, slope(xs, points).high) == (2, 2, 2)


def test_one_outlier_does_not_bend_a_slope() -> None:
    """The machine was busy at one of eight points: the median of all pairs is none of its."""
    xs = range(0, 64, 9)
    points = [[[9000 if x == 36 else 100 + 3 * x]] for x in xs]

    assert slope(xs, points).value == pytest.approx(3)


def test_the_interval_of_a_slope_holds_it() -> None:
    """Rounds that differ leave doubt, and the same rounds the same doubt."""
    xs = (0, 32, 63)
    points = [blocks(x, rounds=20, size=20, around=50_000 + 100 * x) for x in xs]

    assert slope(xs, points).low < slope(xs, points).value < slope(xs, points).high
    assert slope(xs, points) == slope(xs, points)


def test_rounds_must_match() -> None:
    """A subject with more rounds than its reference was not run beside it."""
    with pytest.raises(ValueError, match="zip"):
        compare([[1], [2]], [[1]])

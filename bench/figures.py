"""From samples to figures: percentiles, and how sure they are. Pure: numbers in, numbers out.

Samples come in blocks, one a round, because neighbours in time are alike: the machine is slower for a while,
then faster. So the confidence interval is a bootstrap over rounds, not over samples: whole rounds are drawn
again, with replacement, and for a ratio the subject's and the reference's block of a round are drawn together.

Between two runs nothing is side by side, so `change` draws each of the two for itself, and rounds in stretches of
neighbours, which are alike too (a circular block bootstrap). Where there are several runs of each, runs are drawn
first, since what differs from one start of a process to the next is not in its rounds.
"""

import random
from collections.abc import Sequence
from itertools import chain, combinations
from math import isqrt
from typing import TypeVar

import msgspec

RESAMPLES = 400
"""How many times the rounds are drawn again: the 95 % interval is then steady to about a tenth of its width."""
CONFIDENCE = 0.95
SEED = 1
"""Of the draws: the same samples always give the same figures."""

T = TypeVar("T")

Block = Sequence[int]
"""The samples of one round, in nanoseconds."""


class Summary(msgspec.Struct, frozen=True):
    """Summary of a distribution, in nanoseconds; `low` and `high` bound the p50."""

    n: int
    p50: float
    p90: float
    p99: float
    max: float
    low: float
    high: float


class Ratio(msgspec.Struct, frozen=True):
    """The p50 of a subject over the p50 of its reference, with its 95 % interval."""

    value: float
    low: float
    high: float


class Slope(msgspec.Struct, frozen=True):
    """By how many nanoseconds the p50 grows with something, with its 95 % interval."""

    value: float
    low: float
    high: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value below which *percent* of *ordered* lies (ascending, not empty); linear in between."""
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(blocks: Sequence[Block]) -> float:
    """Return the p50 of all samples of *blocks*."""
    return percentile(sorted(chain.from_iterable(blocks)), 50)


def medians(blocks: Sequence[Block]) -> list[float]:
    """Return the p50 of each round: what is kept of *blocks* for a later comparison."""
    return [_middle(block) for block in blocks]


def summarize(blocks: Sequence[Block]) -> Summary:
    """Return the figures of *blocks*, which hold at least one sample."""
    ordered = sorted(chain.from_iterable(blocks))
    p50, p90, p99 = (percentile(ordered, percent) for percent in (50, 90, 99))
    low, high = _interval([median(drawn) for drawn in _resamples(blocks)])
    return Summary(len(ordered), p50, p90, p99, ordered[-1], low, high)


def compare(subject: Sequence[Block], reference: Sequence[Block]) -> Ratio:
    """Return how many times the reference's p50 the subject's is; round *i* of both was run side by side."""
    rounds = [(sorted(a), sorted(b)) for a, b in zip(subject, reference, strict=True)]
    ratios = [_ratio(drawn) for drawn in _resamples(rounds)]
    return Ratio(_ratio(rounds), *_interval(ratios))


def change(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Ratio:
    """Return how many times the *old* median the *new* one is. Both are runs of rounds, each a positive number."""
    draw = random.Random(SEED)
    ratios = [_middle(_again(draw, new)) / _middle(_again(draw, old)) for _ in range(RESAMPLES)]
    return Ratio(_middle([*chain(*new)]) / _middle([*chain(*old)]), *_interval(ratios))


def _again(draw: random.Random, runs: Sequence[Sequence[float]]) -> list[float]:
    """Draw runs, and of each as many rounds as it has, in stretches, with replacement; return the rounds of all."""
    return [one for run in draw.choices(runs, k=len(runs)) for one in _stretches(draw, run)]


def _stretches(draw: random.Random, run: Sequence[float]) -> list[float]:
    """Draw stretches of the square root of the length of *run*; after its last round comes its first."""
    length = isqrt(len(run))
    starts = draw.choices(range(len(run)), k=-(-len(run) // length))
    return [run[(start + step) % len(run)] for start in starts for step in range(length)][: len(run)]


def slope(xs: Sequence[float], points: Sequence[Sequence[Block]]) -> Slope:
    """Return how much the p50 of *points* grows with *xs*, two at least, no two the same.

    Round *i* of all points was run side by side, and has a slope of its own, by Theil and Sen: the median slope of
    all pairs of points, so that no one outlier bends it. What is returned is the median of those.
    """
    each = [_slope([*zip(xs, map(_middle, blocks), strict=True)]) for blocks in zip(*points, strict=True)]
    return Slope(_middle(each), *_interval([_middle(drawn) for drawn in _resamples(each)]))


def _slope(points: Sequence[tuple[float, float]]) -> float:
    return _middle([(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2)])


def _middle(values: Sequence[float]) -> float:
    return percentile(sorted(values), 50)


def _ratio(rounds: Sequence[tuple[Block, Block]]) -> float:
    return median([a for a, _ in rounds]) / median([b for _, b in rounds])


def _resamples(rounds: Sequence[T]) -> list[list[T]]:
    draw = random.Random(SEED)
    return [draw.choices(rounds, k=len(rounds)) for _ in range(RESAMPLES)]


def _interval(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    tail = (1 - CONFIDENCE) / 2 * 100
    return percentile(ordered, tail), percentile(ordered, 100 - tail)

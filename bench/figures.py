"""From samples to figures: percentiles, and how sure they are. Pure: numbers in, numbers out.

Samples come in blocks, one a round, because neighbours in time are alike: the machine is slower for a while,
then faster. So the confidence interval is a bootstrap over rounds, not over samples: whole rounds are drawn
again, with replacement, and for a ratio the subject's and the reference's block of a round are drawn together.
"""

import random
from collections.abc import Sequence
from itertools import chain
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
    """What a distribution comes down to, in nanoseconds; `low` and `high` bound the p50."""

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


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value below which *percent* of *ordered* lies (ascending, not empty); linear in between."""
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(blocks: Sequence[Block]) -> float:
    """Return the p50 of all samples of *blocks*."""
    return percentile(sorted(chain.from_iterable(blocks)), 50)


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


def _ratio(rounds: Sequence[tuple[Block, Block]]) -> float:
    return median([a for a, _ in rounds]) / median([b for _, b in rounds])


def _resamples(rounds: Sequence[T]) -> list[list[T]]:
    draw = random.Random(SEED)
    return [draw.choices(rounds, k=len(rounds)) for _ in range(RESAMPLES)]


def _interval(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    tail = (1 - CONFIDENCE) / 2 * 100
    return percentile(ordered, tail), percentile(ordered, 100 - tail)

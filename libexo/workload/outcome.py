"""What described programs had of a processor: shares, waits, and deadlines that were missed. Pure."""

from collections.abc import Sequence

import msgspec

from libexo.workload.described import FOREVER, Described, Done


class Row(msgspec.Struct):
    """One program under one policy."""

    name: str
    kind: str
    weight: int
    share: float
    """Of the processor, from 0 to 1."""
    jobs: int
    """How many were done."""
    wait_p50: float | None
    """Milliseconds by which jobs took longer, from their release, than they compute; None: none was done."""
    wait_p99: float | None
    due: int
    """How many had a deadline that is over."""
    missed: int


class Outcome(msgspec.Struct):
    """All of one policy."""

    policy: str
    rows: list[Row]
    idle: float
    """The part of the time in which none of them computed."""
    switches: int
    refused: str
    """Why its last plan was refused; empty: it was not."""


def row(program: Described, used: int, done: Sequence[Done], end: int) -> Row:
    """Return what *program* had, which *used* so much CPU time and did *done*, by the time *end*; in ns."""
    ended = [each for each in done if each.at]
    waits = sorted(
        each.at - each.job.release - each.job.length for each in ended if each.job.length != FOREVER
    )
    due = [each for each in done if 0 < each.job.deadline <= end]
    missed = sum(not 0 < each.at <= each.job.deadline for each in due)
    p50, p99 = _percentile(waits, 50), _percentile(waits, 99)
    share = round(used / end, 4)
    return Row(program.name, program.kind, program.weight, share, len(ended), p50, p99, len(due), missed)


def _percentile(values: Sequence[int], part: int) -> float | None:
    """Return a percentile of sorted *values*, in ms."""
    if not values:
        return None
    return round(values[min(len(values) * part // 100, len(values) - 1)] / 1e6, 3)

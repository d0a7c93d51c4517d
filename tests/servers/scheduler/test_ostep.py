"""Known answers of *Operating Systems: Three Easy Pieces*: chapters 7 to 9, and the simulators of its homework."""

from collections.abc import Iterator
from random import Random

import pytest

from libexo.sched import Policy
from libexo.workload import Described
from servers.scheduler.policies import Feedback, Lottery, RoundRobin
from tests.servers.scheduler.ideal import UNIT, Ideal, listed, spans

MS = 1_000_000


def short(jobs: dict[str, str]) -> list[Described]:
    """Programs of one job each: release:length in ms."""
    return [Described(name, "listed", {"jobs": said}) for name, said in jobs.items()]


def in_ms(policy: Policy, jobs: dict[str, str]) -> list[tuple[int, int, str]]:
    """Who has the core from when to when, in ms."""
    return [(ran.begin // MS, ran.end // MS, ran.name) for ran in Ideal(policy, short(jobs)).run(1).ran]


def test_round_robin() -> None:
    """Chapter 7: three jobs of 5 with slices of 1 are done at 13, 14 and 15, and begin at 0, 1 and 2."""
    ideal = Ideal(RoundRobin(UNIT), [listed(name, {0: 5}) for name in "ABC"]).run(20)
    ran = spans(ideal.ran)

    assert ran == [(at, at + 1, "ABC"[at % 3]) for at in range(15)]
    assert {each.name: each.at // UNIT for each in ideal.done} == {"A": 13, "B": 14, "C": 15}


DRAWS = (511275, 404934, 783799, 303313, 476597, 583382)
"""The random numbers of the homework's example, `lottery.py -j 2 -s 0`, until one job is left."""


def test_lottery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of 8 and 4 with 75 and 25 tickets run 1, 0, 1, 0, 1, 1 by those numbers; they are done at 12 and 6."""
    drawn: Iterator[int] = iter(DRAWS)

    class Drawn(Random):
        def random(self) -> float:
            return (next(drawn, 0) % 100 + 0.5) / 100

    monkeypatch.setattr("servers.scheduler.policies.lottery.Random", Drawn)
    jobs = [listed("0", {0: 8})._replace(weight=75), listed("1", {0: 4})._replace(weight=25)]
    ideal = Ideal(Lottery(UNIT, seed=0), jobs).run(20)

    assert spans(ideal.ran) == [(0, 1, "1"), (1, 2, "0"), (2, 3, "1"), (3, 4, "0"), (4, 6, "1"), (6, 12, "0")]
    assert {each.name: each.at // UNIT for each in ideal.done} == {"0": 12, "1": 6}


@pytest.mark.parametrize(
    ("levels", "jobs", "answer"),
    [
        (3, {"0": "0:180", "1": "100:20"}, [(0, 100, "0"), (100, 120, "1"), (120, 200, "0")]),
        (2, {"0": "0:17", "1": "0:8"}, [(0, 10, "0"), (10, 18, "1"), (18, 25, "0")]),
        (2, {"0": "0:10", "1": "5:10"}, [(0, 10, "0"), (10, 20, "1")]),
    ],
    ids=["figure 8.3", "two jobs", "one that comes later"],
)  # fmt: skip
def test_feedback(levels: int, jobs: dict[str, str], answer: list[tuple[int, int, str]]) -> None:
    """Chapter 8, and `mlfq.py` with one slice of 10 ms on each level.

    Ours doubles slices downwards, which shows in none of these: nobody is beside another on a lower level.
    """
    assert in_ms(Feedback(levels, quantum=10 * MS, allotment=1, boost=10**12), jobs) == answer


def test_feedback_sinks_by_level() -> None:
    """Slices of 10, 20 and 40 ms, `-Q 10,20,40`: two that compute go down together, in turn at each level."""
    found = in_ms(Feedback(3, quantum=10 * MS, allotment=1, boost=10**12), {"0": "0:110", "1": "0:110"})

    assert found[:6] == [
        (0, 10, "0"),
        (10, 20, "1"),
        (20, 40, "0"),
        (40, 60, "1"),
        (60, 100, "0"),
        (100, 140, "1"),
    ]
    assert found[6:] == [(140, 180, "0"), (180, 220, "1")]

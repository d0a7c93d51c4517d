"""Jobs with deadlines: who is in the cast, what a job is, and what becomes of them all."""

import io
import time

import pytest

from bench.deadlines import CAST, MS, Jobs, told
from bench.harness import Worker
from bench.programs import periodic


def test_nine_tenths_are_reserved() -> None:
    """They reserve 90 % of a core; one wants more than that, the others less than what is theirs."""
    assert sum(each.runtime / each.period for each in CAST.values()) == pytest.approx(0.9)
    assert [name for name, each in CAST.items() if not each.computes] == ["greedy"]
    assert all(each.computes + 2 < each.runtime for each in CAST.values() if each.computes)


def test_a_job_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one's deadline is a period later nevertheless, and it begins at once."""
    clock = Clock(uses=[30 * MS, 5 * MS, 5 * MS])
    for name in ("monotonic_ns", "process_time_ns", "sleep"):
        monkeypatch.setattr(time, name, getattr(clock, name))

    assert periodic.jobs(5 * MS, 20 * MS, 60 * MS) == [10 * MS, -5 * MS, -15 * MS]


class Clock:
    """A clock that goes on by so much at each job: as CPU time, 5 ms of it."""

    def __init__(self, uses: list[int]) -> None:
        self._uses, self._now, self._used = iter(uses), 0, 0
        self._begun = False

    def monotonic_ns(self) -> int:
        return self._now

    def process_time_ns(self) -> int:
        """Begin a job; or end it, the next time."""
        self._begun = not self._begun
        if not self._begun:
            self._now += next(self._uses)
            self._used += 5 * MS
        return self._used

    def sleep(self, seconds: float) -> None:
        self._now += round(seconds * 1e9)


def test_what_became_of_all() -> None:
    """Jobs, those that were late, and the latest; who computes without end has none."""
    answers = {"short": b"[-3000000, 2000000]", "long": b"[0]", "greedy": b"[]"}
    orders = {name: io.BytesIO() for name in answers}
    workers = {
        name: Worker(orders[name], io.BytesIO(b"\n" + answer + b"\n"), 0, lambda: None)
        for name, answer in answers.items()
    }

    assert told(workers, 7) == Jobs(3, 1, 2.0)
    assert orders["greedy"].getvalue() == b"greedy 7\n"

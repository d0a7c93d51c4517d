"""Missed deadlines: which of them the host explains."""

from bench.deadlines import CAST, LONGEST, MS, Job, Taken, paired, unexcused


def test_the_cast_reserves_nine_tenths() -> None:
    """They reserve 90 % of a core, and no job needs all that its program reserved."""
    assert sum(each.runtime / each.period for each in CAST.values()) == 0.9
    assert all(each.work < each.runtime for each in CAST.values())


def test_answers_are_pairs() -> None:
    """A program answers when each job was done, and how late."""
    assert paired([10, -3, 20, 4]) == [Job(10, -3), Job(20, 4)]


def test_what_the_host_took_is_no_miss_of_ours() -> None:
    """A job that is later than what the host took in two periods before is ours, one that is not is the host's."""
    end = 10 * LONGEST
    taken = [Taken(0, 0), Taken(end - LONGEST, 5 * MS), Taken(end, 12 * MS)]

    assert unexcused({"a": [Job(end, -1), Job(end, 12 * MS)]}, taken) == 0
    assert unexcused({"a": [Job(end, 13 * MS)]}, taken) == 1
    assert unexcused({"a": [Job(end, 1 * MS)], "b": [Job(end, 13 * MS)]}, taken) == 1


def test_what_the_host_took_long_ago_excuses_nothing() -> None:
    """What was taken more than two of the longest periods before the deadline does not count."""
    end = 10 * LONGEST
    taken = [Taken(0, 0), Taken(end - 4 * LONGEST, 50 * MS), Taken(end, 50 * MS)]

    assert unexcused({"a": [Job(end, 1 * MS)]}, taken) == 1


def test_late_once() -> None:
    """One that was late hands that on to its next job: they are one miss, unless the second is later still."""
    taken = [Taken(0, 0)]
    first, second = Job(LONGEST, 10 * MS), Job(2 * LONGEST, 10 * MS)

    assert unexcused({"a": [first, second]}, taken) == 1
    assert unexcused({"a": [first, second._replace(late=11 * MS)]}, taken) == 2

"""Names, and when what ended is started again: plain values."""

import pytest

from kernel.abi.budget import Item
from kernel.abi.limits import MAX_NAME
from kernel.abi.program import ProgramKind
from servers.process.policy import (
    BACKOFF_DELAY,
    FAMILY_BURST,
    FAMILY_INTERVAL,
    FIRST_DELAY,
    MAX_DELAY,
    MIN_RUN_TIME,
    Pace,
    SpawnRefused,
    check_budget,
    choose_name,
    delay,
    lasted,
    must_restart,
)


@pytest.mark.parametrize(
    ("rule", "status", "expected"),
    [
        ("always", 0, True),
        ("always", -9, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("never", 1, False),
    ],
)
def test_rules(rule: str, status: int, expected: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Each restart rule says when."""
    assert must_restart(rule, status) is expected


def test_backoff() -> None:
    """The first restart after a long run is at once; short runs double the delay, up to a bound."""
    assert [delay(n) for n in range(4)] == [FIRST_DELAY, BACKOFF_DELAY, 2 * BACKOFF_DELAY, 4 * BACKOFF_DELAY]
    assert delay(50) == MAX_DELAY


@pytest.mark.parametrize("short_runs", [1100, 10**6])
def test_backoff_for_ever(short_runs: int) -> None:
    """A program that ends at once for days is still restarted, at the longest delay."""
    assert delay(short_runs) == MAX_DELAY


@pytest.mark.parametrize(
    ("kind", "program", "taken", "expected"),
    [
        (ProgramKind.PYTHON, "/home/me/hello.py", [], "hello"),
        (ProgramKind.PYTHON, "hello.py", ["hello"], "hello-2"),
        (ProgramKind.PYTHON, "hello.py", ["hello", "hello-2"], "hello-3"),
        (ProgramKind.SERVER, "servers.memory", [], "memory"),
        (ProgramKind.SERVER, "my.pkg:Counter", [], "pkg"),
        (ProgramKind.FOREIGN, "/bin/my prog", [], "my-prog"),
        (ProgramKind.FOREIGN, "/", [], "program"),
    ],
)
def test_names(kind: int, program: str, taken: list[str], expected: str) -> None:
    """A program is called after its last part, with a number where that is taken."""
    assert choose_name(kind, program, taken) == expected


def test_names_fit() -> None:
    """However long a program's name and in whatever script, its name is one the kernel takes."""
    names = [choose_name(ProgramKind.FOREIGN, letter * 60, [letter * 26]) for letter in "xäł語"]

    assert max(len(name.encode()) for name in names) <= MAX_NAME


def test_runs_that_lasted() -> None:
    """Only a run as long as the delay before it ends the back-off: else one that lives a second never backs off."""
    assert [lasted(MIN_RUN_TIME, short) for short in (0, 1, 20)] == [True, True, False]
    assert lasted(MAX_DELAY, 20)


def test_the_pace_of_a_family() -> None:
    """Some restarts of a family come as wanted; of many, however wanted, there is one each interval."""
    pace = Pace()
    quiet = [pace.delay(100.0, 0.05) for _ in range(FAMILY_BURST)]
    then = [pace.delay(100.0, 0.05) for _ in range(3)]

    assert quiet == pytest.approx([0.05] * FAMILY_BURST)
    assert then == pytest.approx([FAMILY_INTERVAL * n for n in (1, 2, 3)])
    assert pace.delay(1000.0, 0.0) == 0


def test_who_waits_long_delays_nobody() -> None:
    """One of a family that is to come back late does not hold the others up."""
    pace = Pace()

    assert pace.delay(0.0, MAX_DELAY) == MAX_DELAY
    assert pace.delay(0.0, 0.0) == 0


def test_what_an_operator_gives() -> None:
    """As much as a server has, and not more; an item there is none of is named, with those there are."""
    check_budget({item.name.lower(): item.server for item in Item})

    for item in Item:
        with pytest.raises(
            SpawnRefused, match=f"{item.server + 1} {item.name.lower()}: {item.server} at most"
        ):
            check_budget({item.name.lower(): item.server + 1})
    with pytest.raises(SpawnRefused, match=r"no budget counts thread: there are handles, .*threads"):
        check_budget({"threads": 1, "thread": 1})

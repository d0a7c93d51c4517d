"""Names, and when what ended is started again: plain values."""

import pytest

from kernel.abi.limits import MAX_NAME
from kernel.abi.program import ProgramKind
from servers.process.policy import BACKOFF_DELAY, FIRST_DELAY, MAX_DELAY, choose_name, delay, must_restart


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

"""Variables that an interpreter reads at its start, in a program that is forked from one that runs."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, time, warnings
from libexo.launch.variables import take_effect
notes = take_effect(os.environ)
print(notes)
"""


def told(check: str, **variables: str) -> list[str]:
    """Have *variables* take effect in a running interpreter; return the notes, and what *check* prints."""
    set_first = f"import os; os.environ.update({variables!r})"
    script = f"{set_first}\n{SCRIPT}\n{check}"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return found.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "value", "check", "expected"),
    [
        ("TZ", "Asia/Tokyo", "print(time.localtime(0).tm_hour)", "9"),
        ("PYTHONPATH", "/opt:/usr", "print(sys.path[:2])", "['/opt', '/usr']"),
        ("PYTHONWARNINGS", "error", "print(warnings.filters[0][0], sys.warnoptions)", "error ['error']"),
        ("PYTHONFAULTHANDLER", "1", "import faulthandler; print(faulthandler.is_enabled())", "True"),
        ("PYTHONTRACEMALLOC", "3", "import tracemalloc; print(tracemalloc.get_traceback_limit())", "3"),
        ("PYTHONUNBUFFERED", "1", "print(sys.stdout.write_through)", "True"),
        ("PYTHONINTMAXSTRDIGITS", "1000", "print(sys.get_int_max_str_digits())", "1000"),
        ("PYTHONDONTWRITEBYTECODE", "1", "print(sys.dont_write_bytecode)", "True"),
    ],
)
def test_what_can_takes_effect(name: str, value: str, check: str, expected: str) -> None:
    """As if the interpreter had read it."""
    assert told(check, **{name: value}) == ["[]", expected]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PYTHONHASHSEED", "0"),
        ("PYTHONUTF8", "1"),
        ("PYTHONDEVMODE", "1"),
        ("PYTHONOPTIMIZE", "2"),
        ("PYTHONMALLOC", "debug"),
        ("PYTHONIOENCODING", "latin-1"),
    ],
)
def test_what_cannot_is_said(name: str, value: str) -> None:
    """In one line."""
    late = "programs are forked from an interpreter that runs already"

    assert told("", **{name: value}) == [f"['no effect here: {name}={value}: {late}']"]


def test_what_is_so_already_is_not_said() -> None:
    """Nor is what is empty."""
    assert told("", PYTHONHASHSEED="random", PYTHONUTF8="0", PYTHONDEVMODE="", PYTHONIOENCODING="UTF-8") == [
        "[]"
    ]


@pytest.mark.parametrize("name", ["PYTHONTRACEMALLOC", "PYTHONINTMAXSTRDIGITS"])
@pytest.mark.parametrize("value", ["many", "-1", "9" * 11, "9" * 20, "9" * 5000, "1e3", "\udcff"])
def test_what_is_wrong_is_said(name: str, value: str) -> None:
    """In a line that names the variable, where an interpreter would not start."""
    notes = told("", **{name: value})

    assert notes[0].removeprefix("['").removeprefix('["').startswith(f"{name}: ")


def test_zero_traces_nothing() -> None:
    """As in an interpreter."""
    assert told("import tracemalloc; print(tracemalloc.is_tracing())", PYTHONTRACEMALLOC="0") == [
        "[]",
        "False",
    ]

"""A child of the nursery ends where its program does, whatever is raised on the way."""

import signal
import subprocess
import sys
from itertools import product

import pytest

SCRIPT = """
import os
from types import SimpleNamespace

from libexo.launch import child as launch
from libexo.launch import nursery

def raises(*_):
    raise {error}

launch.renew = lambda roles, _: (roles, "")
launch.complete = lambda program, _: program
launch._arrange = launch._confine = lambda *_: None
launch.{place} = raises
program = SimpleNamespace(kind=launch.ProgramKind.PYTHON, argv=("x.py",))
birth = launch.Birth(SimpleNamespace(program=program, name="x"), None, -1, {{}}, os.dup(1), -1, "", -1)
try:
    launch.enter(birth, None)
finally:
    print("went on in the nursery's code", flush=True)
"""
PLACES = ("take_effect", "_open_streams", "_interpret", "_leave", "_run")
RAISED = {
    "OverflowError('too large')": 1,
    "KeyboardInterrupt": 1,
    "launch.Terminated(143)": -signal.SIGTERM,
    "BaseExceptionGroup('several', [GeneratorExit()])": 1,
}


@pytest.mark.parametrize(("place", "error"), list(product(PLACES, RAISED)))
def test_a_child_never_goes_on_as_its_parent(place: str, error: str) -> None:
    """It ends with one traceback, or by the signal that it was sent."""
    script = SCRIPT.format(place=place, error=error)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert "went on" not in found.stdout
    assert found.stderr.count("Traceback") <= 1
    assert found.returncode in {RAISED[error], -signal.SIGINT}


def test_what_escapes_is_shown_once() -> None:
    """Though nobody expected it there."""
    script = SCRIPT.format(place="_leave", error="OverflowError('too large')")
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert found.returncode == 1
    assert found.stderr.endswith("OverflowError: too large\n")

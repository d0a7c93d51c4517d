"""How much time a process has had for itself, however busy the machine is."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exo.owntime import own_time
from exo.roll import STAYS, Roll
from tests.system.booted import wait_until

pytestmark = [pytest.mark.system, pytest.mark.beside]

COMPUTES = "import os; os.sched_setaffinity(0, {{{core}}}); print('here', flush=True)\nwhile True: pass"
SLEEPS = "import time; print('here', flush=True); time.sleep(1000)"
CROWD = 4
ENOUGH = 0.1
"""Seconds of computing after which a quarter of a core can be told from a whole one."""


@contextmanager
def running(text: str) -> Iterator[int]:
    """Run Python; give its process id once it says that it is there."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", text], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def computed(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_who_computes_has_what_it_computes() -> None:
    """Four on one core: what each waits for the others is not its own time, however long that is."""
    text = COMPUTES.format(core=min(os.sched_getaffinity(0)))
    with running(text) as first, running(text), running(text), running(text):
        assert wait_until(lambda: computed(first) > ENOUGH)
        own, has_computed = own_time(first), computed(first)

    assert own < CROWD / 2 * has_computed


def test_who_sleeps_has_the_time_that_passes() -> None:
    """It need not compute to be there to stay."""
    with running(SLEEPS) as pid:
        assert wait_until(lambda: own_time(pid) >= STAYS)
        assert computed(pid) < STAYS


def test_who_is_not_there_has_none() -> None:
    """Neither one that ended, nor one that has yet to begin."""
    with running(SLEEPS) as pid:
        pass

    assert own_time(pid) == own_time(0) == 0


def test_whom_nobody_asks_is_not_said_to_be_silent() -> None:
    """One that need not answer lacks time only."""
    assert Roll("/nowhere", {"a": True, "b": False}).missing() == "no answer from a"
    assert Roll("/nowhere", {"b": False}).missing().startswith("b has had less than 0.5 s for itself")

"""Activity of host processes, thread by thread and group by group, as /proc tells."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from hwmodel.real.activity import Children, is_traced, of_threads, state_of, waited_for
from hwmodel.real.affinity import processes_of
from kernel.abi.program import Activity

pytestmark = pytest.mark.system

THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
BURNS = "import threading\ndef burn():\n    while True: pass\nthreading.Thread(target=burn).start()\n"


@contextmanager
def process(*argv: str) -> Iterator[int]:
    """A process that leads a group, and its end with all its children."""
    with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE) as started:
        try:
            yield started.pid
        finally:
            os.killpg(started.pid, signal.SIGKILL)


def becomes(what: Callable[[], object], expected: object) -> bool:
    """Look until *what* is *expected*: the host says by itself when."""
    deadline = time.monotonic() + 20
    while what() != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


@pytest.mark.parametrize(
    ("argv", "activity"),
    [
        (["sleep", "100"], Activity.WAITS),
        ([sys.executable, "-c", f"{THREAD}time.sleep(100)"], Activity.WAITS),
        ([sys.executable, "-c", BURNS], Activity.RUNS),
    ],
)
def test_one_thread_that_runs_is_enough(argv: Sequence[str], activity: Activity) -> None:
    """All threads are looked at, not the main one alone."""
    with process(*argv) as pid:
        assert becomes(lambda: of_threads(pid), activity)
        assert not is_traced(pid)


def test_stopped() -> None:
    """A signal stops all threads."""
    with process("sleep", "100") as pid:
        os.kill(pid, signal.SIGSTOP)
        assert becomes(lambda: of_threads(pid), Activity.STOPPED)


def test_of_nobody() -> None:
    """A process that is gone waits for nothing and is traced by nobody."""
    with process("sleep", "100") as pid:
        pass

    assert (of_threads(pid), is_traced(pid)) == (Activity.WAITS, False)


def test_names_that_look_like_states() -> None:
    """The name in front of the state may hold anything."""
    assert state_of(b"12 (a) R (b)) S 1 2") == b"S"


def test_children_are_counted_when_they_are_gone() -> None:
    """The CPU time of a group's processes is kept when they end; one of them that runs is found."""
    with process("/bin/sh", "-c", "(while :; do :; done) & wait") as pid:
        children = Children(pid)
        assert becomes(children.run, expected=True)
        assert becomes(lambda: children.consumed() > 20_000_000, expected=True)
        [child] = set(processes_of(pid, group=True)) - {pid}
        os.kill(child, signal.SIGKILL)
        before = children.consumed()
        assert becomes(children.run, expected=False)

        assert children.consumed() >= before


def test_children_that_nobody_saw_are_counted() -> None:
    """What the leader waited for counts, though it came and went between two looks."""
    with process(
        "/bin/sh", "-c", "/bin/sh -c 'while [ $((i += 1)) -lt 300000 ]; do :; done'; sleep 100"
    ) as pid:
        assert becomes(lambda: waited_for(pid) > 20_000_000, expected=True)
        children = Children(pid)
        children.refresh()

        assert children.consumed() >= waited_for(pid)

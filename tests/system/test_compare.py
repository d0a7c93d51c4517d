"""`exo sched compare --real`: each policy is in force while real programs work, and then what was before."""

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.system.command import PATIENCE, Command, place, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

MINE = """
from libexo.sched import Plan

class Mine:
    def plan(self, members, now):
        return Plan([(each.thread, 5_000) for each in members])
"""
TWO = ("--program", "a=loop,weight=3", "--program", "b=periodic,period=50ms,runtime=10ms,work=2ms")


@pytest.fixture
def running() -> Iterator[Command]:
    """A system under a policy of a file that is not there any more."""
    with place(Command) as made:
        made.up()
        file = made.write("mine.py", MINE)
        made.exo("sched", "use", f"{file}:Mine")
        file.unlink()
        yield made


def in_force(system: Command) -> str:
    """The policy in force."""
    return str(json.loads(system.exo("sched", "--json").stdout)[0]["policy"])


def test_policies_on_real_programs(running: Command) -> None:
    """Programs had CPU time and did jobs under each; then the policy is as before, and no program is left."""
    before = in_force(running)
    done = running.exo(
        "sched", "compare", "stride", "edf,most=90", "--real", "--seconds", "1.5", *TWO, "--json"
    )
    outcomes = json.loads(done.stdout)

    assert [each["policy"] for each in outcomes] == ["stride", "edf most=90"]
    for each in outcomes:
        a, b = each["rows"]
        assert (a["name"], a["weight"], b["due"]) == ("a", 3, 30)
        assert a["share"] > b["share"] > 0
        assert b["jobs"] > 0
        assert (each["switches"] > 0, each["refused"]) == (True, "")
    assert "stride (1 of 2): 1.5 s" in done.stderr
    assert (in_force(running), before) == (before, f"{running.folder / 'mine.py'}:Mine")
    assert running.listed().keys() == {"memory", "process", "scheduler"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_interrupted(running: Command, number: signal.Signals) -> None:
    """Ctrl-C, or an end, in the middle: the policy is as before, and no program is left."""
    before = in_force(running)
    process = subprocess.Popen(
        running.words("sched", "compare", "stride", "--real", "--seconds", "1000", *TWO),
        env=running.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "stride (1 of 1): 1000 s\n"
    assert in_force(running) == "stride"
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)

    assert process.returncode != 0
    assert "Traceback" not in said
    assert in_force(running) == before
    until(lambda: running.listed().keys() == {"memory", "process", "scheduler"})


def test_what_does_not_fit(running: Command) -> None:
    """What a policy does not admit is told with its outcome; one that is none is refused before anything starts."""
    many = ("--program", "c=periodic,period=20ms,runtime=19ms,work=1ms")
    found = running.exo("sched", "compare", "edf,most=50", "--real", "--seconds", "0.5", *many, *TWO).stdout
    assert "refused: c: " in found
    assert "can be reserved" in found

    assert "there is no policy 'strid'" in running.exo("sched", "compare", "strid", "--real", status=1).stderr

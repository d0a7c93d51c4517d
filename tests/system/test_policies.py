"""Policies put in force by `exo sched`, while real programs run."""

import json
from collections.abc import Iterator

import pytest

from tests.system.command import Command, place, until

pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]

MINE = """
from libexo.sched import Plan

class Last:
    starves = True
    def plan(self, members, now):
        return Plan.once([(each.thread, 5_000) for each in members[-1:]])

class Loops(Last):
    def plan(self, members, now):
        while True:
            try: pass
            except Exception: pass

class Later(Last):
    calls = 0
    def plan(self, members, now):
        self.calls += 1
        while self.calls > 3: pass
        return super().plan(members, now)
"""
BURN = "while True: pass\n"


@pytest.fixture
def running() -> Iterator[Command]:
    """A system with two programs that compute."""
    with place(Command) as made:
        made.up()
        made.write("mine.py", MINE)
        made.write("burn.py", BURN)
        for name in ("one", "two"):
            made.exo("run", "-d", "--name", name, "burn.py")
        yield made


def used(system: Command, least: float) -> dict[str, int]:
    """Return the CPU time of each from now, once one has had *least* seconds."""
    listed = system.listed()
    before = {name: listed[name]["cpu_ns"] for name in ("one", "two")}

    def since() -> dict[str, int]:
        system.exo("sched")  # so that the accounts of those that run are brought up to date
        listed = system.listed()
        return {name: listed[name]["cpu_ns"] - before[name] for name in before}

    until(lambda: max(since().values()) > least * 1e9)
    return since()


def test_by_name(running: Command) -> None:
    """Stride divides by the weights that are set, in quanta of its argument; the next one is in force at once."""
    assert running.exo("sched", "use", "stride", "quantum=5ms").stdout == "stride is in force\n"
    running.exo("sched", "set", "one", "weight=3")
    assert running.exo("sched").stdout.startswith("policy stride quantum=5000000\n")
    had = used(running, 1.5)
    assert had["one"] / had["two"] == pytest.approx(3, rel=0.1)

    running.exo("sched", "use", "priority")
    running.exo("sched", "set", "two", "priority=1")
    had = used(running, 0.5)
    assert had["one"] < had["two"] / 10
    assert [
        each["name"]
        for each in json.loads(running.exo("sched", "policies", "--json").stdout)
        if each["in_force"]
    ] == ["priority"]


def test_from_a_file(running: Command) -> None:
    """A class of one's own is in force while they run, and for the next scheduler when this one is killed."""
    assert running.exo("sched", "use", "mine.py:Last").stdout == "mine.py:Last is in force\n"
    had = used(running, 0.5)
    assert had["one"] < had["two"] / 10

    before = running.listed()["scheduler"]["pid"]
    running.exo("kill", "-s", "KILL", "scheduler")
    until(lambda: running.listed().get("scheduler", {}).get("pid") not in (None, before))
    until(lambda: running.exo("sched").stdout.startswith(f"policy {running.folder}/mine.py:Last\n"))
    had = used(running, 0.5)
    assert had["one"] < had["two"] / 10


def test_who_does_not_end(running: Command) -> None:
    """A policy that loops is refused, or put out of force for good; what was in force before is, and all run on."""
    refused = running.exo("sched", "use", "mine.py:Loops", status=1).stderr
    assert f"Loops.plan ({running.folder}/mine.py:10) computes for more than 50 ms" in refused
    assert running.exo("sched").stdout.startswith("policy round-robin\n")

    running.exo("sched", "use", "mine.py:Later")
    until(lambda: "it is asked no more; round-robin is in force instead" in running.exo("sched").stdout)
    had = used(running, 0.3)
    assert min(had.values()) > 0


LOW = """
import time

import libexo
from libexo.ipc.message import Message

env = libexo.attach()
while True:
    _, message = env.thread.wait()
    end = time.process_time_ns() + 40_000_000
    while time.process_time_ns() < end:
        pass
    env.thread.reply(message, Message())
"""
HIGH = """
import time

import libexo
from libexo.ipc.message import Message

env = libexo.attach()
low = env.lookup("low", 30)
while True:
    env.thread.call(low, Message())
    print("answered", flush=True)
    time.sleep(0.05)
"""


def test_priorities_that_are_inherited(running: Command) -> None:
    """Low holds, two loops of middle priority run, high waits: for as long as they loop, unless low inherits."""
    for name, text in (("low", LOW), ("high", HIGH)):
        running.write(f"{name}.py", text)
        running.exo("run", "-d", "--name", name, f"{name}.py")
    for name, rank in (("low", 0), ("one", 1), ("two", 1), ("high", 2)):
        running.exo("sched", "set", name, f"priority={rank}")

    def answers() -> int:
        return running.exo("logs", "high").stdout.count("answered")

    running.exo("sched", "use", "priority")
    before = answers()
    used(running, 1.0)
    without = answers() - before
    running.exo("sched", "use", "priority", "inherit=1")
    before = answers()
    used(running, 1.0)

    assert without <= 2
    assert answers() - before >= 5


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("use",), 2, "name a policy: one that 'exo sched policies' lists, or FILE.py:Class"),
        (("use", "mine.py"), 2, "name the class in mine.py: exo sched use mine.py:MyPolicy"),
        (("use", "nowhere.py:Mine"), 1, "nowhere.py cannot be read: "),
        (("use", "strid"), 1, "there is no policy 'strid': round-robin, "),
        (("use", "stride", "5ms"), 2, "'5ms' is no KEY=VALUE"),
        (("set", "one"), 2, "name a program and what to set: exo sched set NAME weight=3 period=20ms"),
        (("set", "nobody", "weight=3"), 1, "nothing called 'nobody' runs: 'exo ps' lists what does"),
        (("set", "one", "weight=much"), 2, "a weight is a whole number of parts, not 'much'"),
        (("set", "memory", "period=1ms"), 1, "no program under a processor has thread 96.1"),
    ],
)
def test_what_is_wrong_is_said(running: Command, words: tuple[str, ...], status: int, says: str) -> None:
    """An error names what was wrong and what to do; nothing is changed."""
    assert says in running.exo("sched", *words, status=status).stderr
    assert running.exo("sched").stdout.startswith("policy round-robin\n")

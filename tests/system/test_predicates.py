"""Predicates between real processes: one sleeps for a word that another stores, without a trap of the writer."""

import os
import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.system.booted import Running, System, wait_until
from tests.system.programs import OBEY, PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]
ROUNDS = 25

PARTY = (
    PRELUDE
    + """
import time
from kernel.abi.budget import Item
from libexo.predicates import after, arm, clock, wait, word

def own(pages):
    global extent, view
    extent = Memory.connect(env).allocate(pages)
    view = vm.map(env, extent).cast("Q")
    return extent.handle

def offer(to):
    return env.sys.transfer(extent.handle, env.lookup(to, 10), 4)

def take(giver, offered):
    global view
    view = env.views.map(env.sys.accept(env.lookup(giver, 10), offered).handle).cast("Q")
    return len(view)

def row(name):
    return next(each for each in env.kip.environments() if each.name == name)

def asleep(name):
    "Wait until the program waits for a predicate."
    while not env.kip.budget(row(name).number)[Item.PREDICATES].used:
        time.sleep(0.001)

def store(name):
    "Store when the other sleeps; say how many traps that took."
    asleep(name)
    before = env.kip.environment(env.number).traps
    view[4] = 7
    view[3] = time.monotonic_ns()
    return env.kip.environment(env.number).traps - before

def reset():
    view[3] = view[4] = 0

def sleep(seconds=60):
    found = wait(env, (word(view, 3) > 5) & (word(view, 4) == 7) | after(seconds))
    return found, time.monotonic_ns() - view[3] if found == 0 else 0
"""
    + OBEY
)


@contextmanager
def parties(system: System) -> Iterator[tuple[Running, Running]]:
    """A writer and a sleeper that share an extent, which the sleeper may only read."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(system.start(PARTY, name=name)) for name in ("a", "b"))
        assert [a.line(), b.line()] == ["ready"] * 2
        a.ask("own(2)")
        assert b.ask(f"take('a', {a.ask('offer(chr(98))')})") == "1024"
        yield a, b


def test_a_store_wakes(booted: System, report: Callable[[str], None]) -> None:
    """A program sleeps until another has stored two words, which makes no trap; it is told the clause."""
    late, traps = [], []
    with parties(booted) as (a, b):
        for _ in range(ROUNDS):
            b.tell("sleep()")
            traps.append(a.ask("store('b')"))
            clause, nanoseconds = b.line().strip("()").split(", ")
            assert clause == "0"
            late.append(int(nanoseconds) / 1e6)
            a.ask("reset()")
        used = b.ask("env.kip.budget(env.number)[Item.PREDICATES].used")

    assert traps == ["0"] * ROUNDS
    assert used == "0"
    middle, worst = statistics.median(late), sorted(late)[-2]
    report(
        f"predicates: {middle:.2f} ms from store to wake-up in the middle, {worst:.2f} ms the last but one"
    )


def test_a_time_and_what_is_true(booted: System) -> None:
    """A time ends the wait as its own clause, and what is true already ends it in the trap."""
    with parties(booted) as (a, b):
        timed = b.ask("sleep(0.01)")
        a.ask("view.__setitem__(4, 7)")
        a.ask("view.__setitem__(3, 6)")
        at_once = b.ask("arm(env, (word(view, 0) == 1) | (word(view, 4) == word(view, 4))).clause")

    assert (timed, at_once) == ("(1, 0)", "1")


def test_who_writes_dies(booted: System) -> None:
    """When the owner of the memory is killed, what is asked of it is impossible, and the sleeper is told."""
    with parties(booted) as (a, b):
        b.tell("wait(env, word(view, 3) == 5)")
        a.ask("asleep('b')")
        a.signal(signal.SIGKILL)
        told = b.line()

    assert told.startswith("Impossible all words of the predicate were taken")


def test_who_sleeps_dies(booted: System) -> None:
    """A program that is killed while it waits leaves nothing: the books of the kernel balance."""
    with parties(booted) as (a, b):
        b.tell("wait(env, word(view, 3) == 5)")
        a.ask("asleep('b')")
        b.signal(signal.SIGKILL)
        b.finish()

    assert wait_until(lambda: booted.row("b") is None)

"""What a program says last, before it ends."""

import signal
from contextlib import ExitStack

import pytest

from tests.system.booted import System

pytestmark = [pytest.mark.system]

REPLIER = """
import libexo
from libexo import ipc
thread = libexo.attach().thread
print(thread.id)
_, request = thread.wait()
thread.reply(request, ipc.Message(items=(b"last",)))
"""
CALLER = """
import sys
import libexo
from libexo import ipc
thread = libexo.attach().thread
print([thread.call(int(to), ipc.Message(), timeout=20).items for to in sys.argv[1:]].count((b"last",)))
"""
COUNT = 12


def test_an_answer_before_the_end(booted: System) -> None:
    """Each caller has the answer of a program that ends as soon as it has given it."""
    with ExitStack() as started:
        repliers = [started.enter_context(booted.start(REPLIER)) for _ in range(COUNT)]
        caller = booted.run(CALLER, *[replier.line() for replier in repliers])
        assert (caller.status, caller.out.split()) == (0, [str(COUNT)]), caller


COLLECTS = """
import signal

class Held:
    def __del__(self):
        print("ready", flush=True)
        signal.pause()

try:
    held = Held()
    del held
    signal.pause()
finally:
    print("the end")
"""


def test_an_end_in_a_finalizer(booted: System) -> None:
    """SIGTERM in code whose exceptions go nowhere ends the program as anywhere else, without a word of that."""
    with booted.start(COLLECTS) as program:
        assert program.line() == "ready"
        program.signal(signal.SIGTERM)
        ended = program.finish()

    assert (ended.status, ended.out, ended.err) == (-signal.SIGTERM, "the end\n", "")

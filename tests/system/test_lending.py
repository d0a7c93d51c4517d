"""A client that waits for a busy server lends it its slice, on a real system: with its word, and without it."""

import json
import statistics
from collections.abc import Iterator

import pytest

from tests.system.command import Command, place, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

BURN = "while True: pass\n"
SERVER = """
import time

import libexo
from kernel.abi.ids import ANY_THREAD
from libexo.ipc.message import Message

env = libexo.attach()
wait = env.thread.listen(ANY_THREAD, None)
while True:
    end = time.process_time_ns() + 1_000_000
    while time.process_time_ns() < end:
        pass
    wait.woken = True  # it looks, and does not sleep
    if wait.advance():
        env.thread.reply(wait.result[1], Message(words=(1,)))
        wait = env.thread.listen(ANY_THREAD, None)
"""
CLIENT = """
import json, time

import libexo
from libexo.ipc.message import Message

env = libexo.attach()
server, row = env.lookup("server", 30), env.thread.core.row
awaits = type(row).awaits


class Mute(type(row)):
    __slots__ = ()

    def awaits(self, answerer):
        pass


row.__class__ = Mute
found = {"said": [], "unsaid": []}
for number in range(50):
    kind = ("said", "unsaid")[number % 2]
    end = time.process_time_ns() + 3_000_000
    while time.process_time_ns() < end:
        pass
    before = time.monotonic_ns()
    awaits(row, server if kind == "said" else 0)
    env.thread.call(server, Message(words=(1,)))
    awaits(row, 0)
    found[kind].append((time.monotonic_ns() - before) / 1e6)
    time.sleep(0.035)
print(json.dumps(found))
"""


@pytest.fixture
def busy() -> Iterator[Command]:
    """A system with four loops, and a server that is never idle, under one processor."""
    with place(Command) as made:
        made.up()
        for name, text in (("burn.py", BURN), ("server.py", SERVER), ("client.py", CLIENT)):
            made.write(name, text)
        for number in range(4):
            made.exo("run", "-d", "--name", f"loop-{number}", "burn.py")
        made.exo("run", "-d", "--name", "server", "server.py")
        yield made


def test_answered_in_the_clients_slice(busy: Command) -> None:
    """With the client's word that it waits, half of the calls take less than half as long as without."""
    busy.exo("run", "-d", "--name", "client", "client.py")
    until(lambda: "client" not in busy.listed())
    found = json.loads(busy.exo("logs", "client").stdout.splitlines()[-1])
    said, unsaid = (statistics.median(found[kind]) for kind in ("said", "unsaid"))

    assert said < 0.5 * unsaid, found

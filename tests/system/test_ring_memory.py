"""A ring binding between two real programs: one memory, doorbells that wake, and death on either side."""

import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.system.booted import Running, System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

END = (
    PRELUDE
    + """
def end(size, given):
    send, answer, memory, wait, ring = given
    for ticket in (send, answer):
        env.host.close_descriptor(ticket)
    copy = os.dup(memory)
    return copy, env.host.map(memory, size, writable=True), env.host.bell(wait, ring)
def waited(milliseconds):
    deadline = env.host.now() + milliseconds * 1_000_000
    env.host.wait((bell,), deadline)
    return env.host.now() < deadline
def cut():
    try:
        os.ftruncate(descriptor, 0)
    except PermissionError:
        return "refused"
"""
)
RECEIVER = (
    END
    + """
print(env.thread.id)
input()
while not (taken := env.sys.incoming())[0]:
    env.host.wait((env.gate,), None)
    env.gate.upcalls(surely=True)
[arrived], (way, *given) = taken
descriptor, view, bell = end(arrived.who.ring, given)
print(arrived.who.ring)
for line in sys.stdin:
    print(eval(line))
"""
)
SENDER = (
    END
    + """
extent = Memory.connect(env).allocate(4)
bound, given = env.sys.bind(int(input()), 0, extent.handle)
descriptor, view, bell = end(bound.ring, given)
connection = Bare(bound.address)
print(bound.token.hex())
for line in sys.stdin:
    print(eval(line))
"""
)


class Pair(NamedTuple):
    """Two programs, and their process ids."""

    sender: Running
    receiver: Running
    sender_pid: int
    receiver_pid: int


@pytest.fixture
def pair(booted: System) -> Iterator[Pair]:
    """Two programs with a ring between them."""
    with (
        booted.start(SENDER, name="ring-sender") as sender,
        booted.start(RECEIVER, name="ring-receiver") as receiver,
    ):
        sender.tell(receiver.line())
        assert receiver.ask(sender.line()) == "16384"
        yield Pair(sender, receiver, booted.server("ring-sender").pid, booted.server("ring-receiver").pid)


def test_two_programs_share_memory_and_doorbells(pair: Pair) -> None:
    """One side reads what the other writes; a sleeper at its doorbell is woken; neither can cut the memory."""
    sender, receiver = pair.sender, pair.receiver
    assert [p.ask("cut()") for p in (sender, receiver)] == ["refused"] * 2
    sender.ask("view.__setitem__(4096, 7)")
    receiver.tell("waited(20_000), bell.silence(), view[4096]")
    sender.ask("bell.ring()")

    assert receiver.line() == "(True, True, 7)"
    assert sender.ask("waited(1)") == "False"


def test_a_sender_that_is_killed(pair: Pair) -> None:
    """The receiver's doorbell hangs up at once, and its memory is still there."""
    pair.receiver.tell("waited(20_000), bell.silence(), len(bytes(view))")
    os.kill(pair.sender_pid, signal.SIGKILL)

    assert pair.receiver.line() == "(True, False, 16384)"


def test_a_receiver_that_is_killed(pair: Pair) -> None:
    """The sender's doorbell hangs up, and its memory and its extent are still there."""
    pair.sender.tell("waited(20_000), bell.silence(), len(bytes(view))")
    os.kill(pair.receiver_pid, signal.SIGKILL)

    assert pair.sender.line() == "(True, False, 16384)"
    assert pair.sender.ask("env.host.wait((env.gate,), None)") == "False"  # the gate has news
    assert pair.sender.ask("bytes(vm.map(env, extent)[:4])") == str(bytes(4))

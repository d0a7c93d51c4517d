"""Time-outs of zero between real processes: stopped partners and busy cores do not change which threads wait.

The stopped programs here are under no plan: the kernel would let them go on with their next slice.
"""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.system.booted import System, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.conforms("IPC: time-outs"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]
PRELUDE = """
import libexo
from libexo import l4
env = libexo.attach()
def put(*words):
    l4.LoadMRs(0, (l4.MsgTag.of(u=len(words)), *words))
def outcome(tag):
    return f"error {l4.ErrorCode():#x}" if tag.E else "done"
def say(*words):
    print(*words, flush=True)
"""
RECEIVER = (
    PRELUDE
    + """
say("ready")
while True:
    sender, tag = l4.Wait()
    say(outcome(tag), *l4.StoreMRs(1, tag.u))
"""
)
SENDER = (
    PRELUDE
    + """
receiver = env.lookup("receiver", 10)
say("ready")
while True:
    number = int(input())
    put(number)
    say(outcome(l4.Send_Timeout(receiver, l4.ZeroTime)))
"""
)
DEAF = """
import libexo
libexo.attach()
print("ready", flush=True)
input()
"""
LOCAL = (
    PRELUDE
    + """
import threading
ROUNDS, CLIENTS = 200, 3
over = threading.Semaphore(0)
lost = []

@l4.entry
def client(sp):
    for number in range(ROUNDS):
        put(number)
        tag = l4.Lcall(sp)
        if tag.E or l4.StoreMR(1) != number + 1:
            lost.append((number, outcome(tag)))
    over.release()

@l4.entry
def serve(sp):
    sender, tag = l4.Wait()
    while True:
        put(l4.StoreMR(1) + 1)
        sender, tag = l4.LreplyWait(sender)

server = env.start_thread(serve)
for _ in range(CLIENTS):
    env.start_thread(client, server)
for _ in range(CLIENTS):
    over.acquire()
say(ROUNDS * CLIENTS, "calls,", len(lost), "lost", *lost[:3])
"""
)
BURNER = "print('burns', flush=True)\nwhile True: pass"


def crossings(system: System, name: str) -> int:
    """How many traps it has made."""
    row = system.row(name)
    assert row is not None
    return row.traps


def has_crossed(system: System, name: str, count: int) -> bool:
    return crossings(system, name) >= count


def test_a_receiver_that_is_stopped(booted: System) -> None:
    """A thread that waits takes a message sent without time though its process was stopped then, bound or not."""
    with booted.start(RECEIVER, name="receiver", share=0) as receiver:
        assert receiver.line() == "ready"
        pid = booted.server("receiver").pid
        with booted.start(SENDER, name="sender", share=0) as sender:
            assert sender.line() == "ready"
            for number in range(3):
                assert wait_until(lambda: not _runs(pid))
                os.kill(pid, signal.SIGSTOP)
                crossed = crossings(booted, "sender") + 2
                sender.tell(str(number))
                # First it binds, and asks for the partner. Then there is no trap: it looks, and is held on.
                assert number or wait_until(partial(has_crossed, booted, "sender", crossed))
                wait_until(lambda: False, 0.1)
                os.kill(pid, signal.SIGCONT)

                assert (sender.line(), receiver.line()) == ("done", f"done {number}")


def _runs(pid: int) -> bool:
    """Whether the main thread of *pid* is not asleep."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] == "R"


def test_a_receiver_that_does_not_wait(booted: System) -> None:
    """One that does not receive gives the time-out, each time."""
    with (
        booted.start(DEAF, name="receiver", share=0) as deaf,
        booted.start(SENDER, name="sender", share=0) as sender,
    ):
        assert (deaf.line(), sender.line()) == ("ready", "ready")
        assert [sender.ask("1") for _ in range(3)] == ["error 0x2"] * 3


def test_a_receiver_that_stays_stopped(booted: System) -> None:
    """One that waits and does not move at all gives the time-out in the end; what was sent then never arrives."""
    with (
        booted.start(RECEIVER, name="receiver", share=0) as receiver,
        booted.start(SENDER, name="sender", share=0) as sender,
    ):
        assert (receiver.line(), sender.line()) == ("ready", "ready")
        pid = booted.server("receiver").pid
        assert (sender.ask("1"), receiver.line()) == ("done", "done 1")
        assert wait_until(lambda: not _runs(pid))
        os.kill(pid, signal.SIGSTOP)
        assert sender.ask("2") == "error 0x2"
        os.kill(pid, signal.SIGCONT)

        assert wait_until(lambda: sender.ask("3") == "done")
        assert receiver.line() == "done 3"


@pytest.mark.slow
def test_callers_of_ones_own_space_under_load(booted: System) -> None:
    """With every core loaded, threads that call for ever and are answered without time are answered, every one."""
    cores = len(os.sched_getaffinity(0))
    burners = [booted.start(BURNER, name=f"burner-{number}", share=0) for number in range(cores + 1)]
    try:
        assert [burner.line() for burner in burners] == ["burns"] * len(burners)
        finished = booted.run(LOCAL, name="local")
    finally:
        for burner in burners:
            burner.close()

    assert (finished.out, finished.status) == ("600 calls, 0 lost\n", 0), finished

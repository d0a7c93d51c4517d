"""The awaiting face of IPC, on real processes: many conversations in one program, on uvloop."""

import os

import pytest

from tests.system.booted import System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

BEGIN = (
    PRELUDE
    + """
import asyncio
from libexo import aio

class Slow(Interface, label=0x61, name="slow"):
    @operation(1)
    async def add(self, n: int) -> int: ...
    @operation(2, repeatable=True)
    def now(self) -> int: ...
    @operation(3)
    async def fail(self) -> int: ...

class SlowServer(Slow):
    total = 0
    async def add(self, n):
        await asyncio.sleep(0.01 * n)
        self.total += n
        return self.total
    def now(self):
        return self.total
    async def fail(self):
        raise libexo.errors.OperationRefused("no")

async def main():
    thread = aio.Thread(env)
    print(*await body(thread))

async def body(thread):
"""
)
END = "\naio.run(main())\n"


def said(booted: System, body: str) -> str:
    """Run *body*, the indented text of a coroutine that returns what to print; return that."""
    finished = booted.run(BEGIN + body + END)
    assert (finished.err, finished.status) == ("", 0)
    return finished.out.strip()


def test_many_calls_at_once(booted: System) -> None:
    """A hundred calls are under way at once, and each gets its own answer."""
    body = """
    memory = aio.connect(Memory, thread)
    answers = await asyncio.gather(*(memory.statistics() for _ in range(100)))
    return [len({answer.total for answer in answers}), len(answers)]
"""
    assert said(booted, body) == "1 100"


def test_errors_come_back(booted: System) -> None:
    """A server's exception is raised where its call was awaited, and nowhere else."""
    body = """
    memory = aio.connect(Memory, thread)
    good, bad = await asyncio.gather(memory.statistics(), memory.allocate(1 << 30), return_exceptions=True)
    return [type(good).__name__, bad.kind]
"""
    assert said(booted, body) == "Statistics QuotaExceeded"


def test_time_outs(booted: System) -> None:
    """A receive, and a send to a thread that does not receive, end in time, with the X.2 phase."""
    body = """
    child = Processes.connect(env).spawn(ProgramSpec(3, ("/usr/bin/tail", "-f", "/dev/null"), "deaf"))
    outcomes = await asyncio.gather(
        thread.wait(timeout=0.05), thread.send(child, ipc.Message(1), timeout=0.05), return_exceptions=True
    )
    Processes.connect(env).kill(child)
    return [f"{type(each).__name__}:{each.phase.name}" for each in outcomes]
"""
    assert said(booted, body) == "IpcTimeout:RECEIVE IpcTimeout:SEND"


def test_a_cancelled_call_is_withdrawn(booted: System) -> None:
    """A task that is cancelled in a call leaves nothing behind: the next call on the same thread works."""
    body = """
    task = asyncio.create_task(thread.call(thread.id, ipc.Message(1), timeout=5))
    await asyncio.sleep(0.02)
    task.cancel()
    outcome = await asyncio.gather(task, return_exceptions=True)
    answer = await aio.connect(Memory, thread).statistics()
    return [type(outcome[0]).__name__, type(answer).__name__]
"""
    assert said(booted, body) == "CancelledError Statistics"


def test_operations_run_side_by_side(booted: System) -> None:
    """A server's coroutines overlap: a slow answer keeps nobody else waiting; plain operations work too."""
    body = """
    aside = asyncio.create_task(aio.serve(SlowServer(), thread))
    Processes.connect(env).register("slow")
    slow = aio.connect(Slow, thread)
    done = []
    async def add(n):
        await slow.add(n)
        done.append(n)
    results = await asyncio.gather(add(8), add(1), slow.fail(), return_exceptions=True)
    total = await slow.now()
    aside.cancel()
    return [*done, total, results[2].kind]
"""
    assert said(booted, body) == "1 8 9 OperationRefused"

"""User-level threads: steps are counted in time of their own, which no host gives."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import groupby
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kernel.abi.kip import Page
from libexo.environment import Environment
from libexo.sched import Member, Plan, Policy
from libexo.uthreads import Threads
from servers.scheduler.policies import Feedback, Lottery, Priority, RoundRobin, Stride

MS = 1_000_000


class Program:
    """What threads need of an environment: a page, and a clock that only their steps move."""

    def __init__(self) -> None:
        self.time = 0
        self.page = [0] * 512
        self.host = SimpleNamespace(now=lambda: self.time, consumed=lambda: self.time)
        self.steps: list[str] = []

    async def loop(self, name: str, steps: int, length: float = 1) -> str:
        """Compute for so many steps of *length* ms."""
        for _ in range(steps):
            self.step(name, length)
            await asyncio.sleep(0)
        return name

    def step(self, name: str, length: float = 1) -> None:
        self.time += int(length * MS)
        self.steps.append(name)

    @property
    def order(self) -> list[tuple[str, int]]:
        """Who made how many steps in a row."""
        return [(name, len(list(steps))) for name, steps in groupby(self.steps)]


def run(policy: Policy, does: Callable[[Program, Threads], Coroutine[Any, Any, object]]) -> Program:
    """Run threads by *policy*; return what happened."""
    program = Program()

    async def main() -> None:
        await does(program, Threads(cast("Environment", program), policy))

    asyncio.run(main())
    return program


@pytest.mark.parametrize(
    ("policy", "parts"),
    [
        (RoundRobin(2 * MS), [300, 200, 100]),
        (Stride(2 * MS), [300, 200, 100]),
        (Lottery(MS, seed=3), [300, 200, 100]),
        (Feedback(), [200, 200, 200]),
        (Priority(), [600, 0, 0]),
    ],
)
def test_the_systems_policies(policy: Policy, parts: list[int]) -> None:
    """The classes that divide processors divide a loop among its threads, by weight, or by priority."""

    async def three(program: Program, threads: Threads) -> None:
        for weight, name in ((3, "a"), (2, "b"), (1, "c")):
            threads.start(program.loop(name, 1000), name, weight, priority=weight)
        await threads.end()

    steps = run(policy, three).steps[:600]
    found = [steps.count(name) for name in "abc"]
    assert found == pytest.approx(parts, abs=40 if isinstance(policy, Lottery) else 21)


def test_the_urgent_one_goes_on_when_it_wakes() -> None:
    """One that sleeps is exchanged for another, and goes on at the next step after it woke."""

    async def two(program: Program, threads: Threads) -> None:
        rung = asyncio.Event()

        async def urgent() -> None:
            program.step("urgent")
            await rung.wait()
            program.step("urgent")

        async def idle() -> None:
            for at in range(6):
                program.step("idle")
                if at == 2:
                    rung.set()
                await asyncio.sleep(0)

        threads.start(idle(), priority=1)
        threads.start(urgent(), priority=2)
        await threads.end()

    assert run(Priority(), two).order == [("urgent", 1), ("idle", 3), ("urgent", 1), ("idle", 3)]


def test_a_slice_is_finished() -> None:
    """A thread goes on until it used its slice; what it used beyond comes at the cost of nobody but time."""

    async def two(program: Program, threads: Threads) -> None:
        threads.start(program.loop("a", 7), "a")
        threads.start(program.loop("b", 6, 2), "b")
        await threads.end()

    assert run(RoundRobin(3 * MS), two).order == [("a", 3), ("b", 2), ("a", 3), ("b", 2), ("a", 1), ("b", 2)]


def test_what_threads_raise_and_return() -> None:
    """A task has its thread's result, or what that raised; a thread hears of errors, and that it is cancelled."""

    async def several(program: Program, threads: Threads) -> None:
        heard: list[str] = []
        failing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            try:
                await failing
            except LookupError as error:
                heard.append(f"{error}")
            raise ValueError("mine")

        async def endless() -> None:
            try:
                while True:
                    program.step("endless")
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise

        good, bad, long = (
            threads.start(program.loop("a", 2), "a").task,
            threads.start(waits()).task,
            threads.start(endless()).task,
        )
        never = threads.start(program.loop("never", 1)).task
        never.cancel()
        assert await good == "a"
        failing.set_exception(LookupError("lost"))
        with pytest.raises(ValueError, match="mine"):
            await bad
        long.cancel()
        found = await asyncio.gather(long, never, return_exceptions=True)
        await asyncio.sleep(0)

        assert [type(each) for each in found] == [asyncio.CancelledError] * 2
        assert heard == ["lost", "cancelled"]
        assert threads.members() == []
        assert "never" not in program.steps

    run(RoundRobin(), several)


def test_nobody_is_forgotten_by_a_plan() -> None:
    """Threads that a plan leaves out go on when none of those in it can."""

    class OnlyA:
        def plan(self, members: Sequence[Member], now: int) -> Plan:
            return Plan([(each.thread, 1_000) for each in members if each.name == "a"])

    async def two(program: Program, threads: Threads) -> None:
        threads.start(program.loop("b", 2), "b")
        threads.start(program.loop("a", 3), "a")
        await threads.end()

    assert run(OnlyA(), two).order == [("a", 3), ("b", 2)]


def test_a_policy_that_raises() -> None:
    """What a policy raises is told to the loop's handler of exceptions, and the threads go on in turn."""

    class Broken:
        def plan(self, members: Sequence[Member], now: int) -> Plan:
            raise LookupError("no idea")

    told: list[str] = []

    async def two(program: Program, threads: Threads) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, said: told.append(str(said["exception"])))
        threads.start(program.loop("a", 2), "a")
        threads.start(program.loop("b", 2), "b")
        await threads.end()

    assert sorted(run(Broken(), two).steps) == ["a", "a", "b", "b"]
    assert set(told) == {"no idea"}


def test_activations() -> None:
    """A policy that wants to know is told that slices of the program begin, and once in each that it ends."""

    class Told(RoundRobin):
        def __init__(self) -> None:
            super().__init__()
            self.said: list[tuple[str, int, float]] = []

        def slice_begins(self, now: int, left: int) -> None:
            self.said.append(("begins", now // MS, left / MS))

        def slice_ends(self, now: int, left: int) -> None:
            self.said.append(("ends", now // MS, left / MS))

    policy = Told()

    async def one(program: Program, threads: Threads) -> None:
        program.page[Page.SLICES], program.page[Page.SLICE_ENDS] = 7, 3 * MS

        async def preempted() -> None:
            await program.loop("a", 5)
            program.page[Page.SLICES], program.page[Page.SLICE_ENDS] = 8, 8 * MS
            await program.loop("a", 2)

        threads.start(preempted())
        await threads.end()

    run(policy, one)
    assert policy.said == [("begins", 0, 3), ("ends", 3, 0), ("begins", 6, 2)]

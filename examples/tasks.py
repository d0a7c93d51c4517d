"""Tasks: coroutines of one program, and a policy of the program's own that says which one goes on.

    exo run examples/tasks.py

Where a task awaits an answer, the policy is asked for another. The same class could divide a processor.
"""

import asyncio
from collections.abc import Sequence

import libexo
from libexo import aio
from libexo.sched import Member, Plan
from libexo.uthreads import Threads
from servers.memory.api import Memory


class EarliestDeadline:
    """Of all that are awake, the one of the earliest deadline."""

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return a slice for that one."""
        del now
        awake = [each for each in members if not each.asleep]
        awake.sort(key=lambda each: float(each.parameters["deadline"]))
        return Plan([(each.thread, 10_000) for each in awake[:1]])


async def main() -> None:
    """Start four tasks, the least urgent first, and tell how they end."""
    env = libexo.attach()
    memory, threads = aio.connect(Memory, aio.Thread(env)), Threads(env, EarliestDeadline())

    async def compute(name: str) -> None:
        for _ in range(100):
            await asyncio.sleep(0)  # here it may be exchanged for another
        await asking.task
        print(f"{name} has ended")

    async def ask() -> None:
        for _ in range(3):
            await memory.statistics()  # others go on meanwhile
        print("three answers have come")

    for name, deadline in (("late", 300), ("sooner", 200), ("soon", 100)):
        threads.start(compute(name), name, deadline=deadline)
    asking = threads.start(ask(), deadline=1)
    await threads.end()


aio.run(main())

"""Scheduler: a scheduling policy of one's own, in force for the whole system.

    exo up -d --config examples/scheduler.toml
    exo run examples/scheduler.py

A policy turns members and their shares into a plan, the vector of slices that the kernel walks. This one
favours the young: who came last gets the longest slice, everybody before it half of the next one's.
"""

from collections.abc import Mapping

import libexo
from kernel.abi.program import ProgramKind
from libexo.environment import Environment
from servers.process.api import Processes, ProgramSpec
from servers.scheduler.api import Scheduler
from servers.scheduler.server import SchedulerServer


class YoungFirst:
    """The policy: all of it is `plan`. Members come in the order they arrived."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return slices (thread, microseconds), the youngest member's first."""
        young_first = reversed(list(shares)[-7:])  # a slice is half a millisecond at least
        return [(thread, 32_000 >> age) for age, thread in enumerate(young_first)]


class YoungFirstServer(SchedulerServer):
    """The scheduler server with that policy: what scheduler.toml names as the scheduler."""

    def __init__(self) -> None:
        """Take the processors."""
        super().__init__(libexo.attach(), YoungFirst())


def show(env: Environment) -> None:
    """Start two endless loops, one after the other, and print the plan that has them all."""
    processes, scheduler = Processes.connect(env), Scheduler.connect(env)
    loop = ProgramKind.FOREIGN, ("sh", "-c", "while :; do :; done")
    names = {env.thread.id: "this program"}
    for name in ("older", "younger"):
        names[processes.spawn(ProgramSpec(*loop, name=name))] = name
        while len(scheduler.plan()) < len(names):
            env.thread.sleep(0.01)

    for entry in scheduler.plan():
        print(f"{names[entry.thread]:12} {entry.microseconds // 1000:3} ms")

    for thread in list(names)[1:]:
        processes.kill(thread)


if __name__ == "__main__":
    show(libexo.attach())

"""Scheduler: a scheduling policy of one's own, in force for the whole system.

    exo up -d --config examples/scheduler.toml
    exo run -d --name older -- sh -c 'while :; do :; done'
    exo run -d --name younger -- sh -c 'while :; do :; done'
    exo run examples/scheduler.py

A policy turns programs and their shares into a plan, the vector of slices that the kernel walks. The children of a
program share its slice. This policy favours the young: the last to come gets the longest slice, each one
before it half of the next one's.
"""

from collections.abc import Mapping

import libexo
from libexo.environment import Environment
from servers.scheduler.api import Scheduler
from servers.scheduler.server import SchedulerServer


class YoungFirst:
    """The policy: all of it is `plan`. Programs come in the order they arrived."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return slices (thread, microseconds), the youngest's first."""
        young_first = reversed(list(shares)[-7:])  # a slice is half a millisecond at least
        return [(thread, 32_000 >> age) for age, thread in enumerate(young_first)]


class YoungFirstServer(SchedulerServer):
    """The scheduler server with that policy, which scheduler.toml names as the scheduler."""

    def __init__(self) -> None:
        """Take the processors."""
        super().__init__(libexo.attach(), YoungFirst())


def show(env: Environment) -> None:
    """Print the plan."""
    names = {row.thread: row.name for row in env.kip.environments()} | {env.thread.id: "this program"}
    for entry in Scheduler.connect(env).plan():
        print(f"{names[entry.thread]:12} {entry.microseconds // 1000:3} ms")


if __name__ == "__main__":
    show(libexo.attach())

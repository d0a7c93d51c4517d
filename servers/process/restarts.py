"""Restarts, and the reports of ends."""

import sys
from typing import TYPE_CHECKING

from kernel.abi.obituary import Obituary, cause
from servers.process import ending, policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from libexo.environment import Environment
    from servers.process.api import Exit
    from servers.process.children import Child


class Restarts:
    """The rate of restarts of each family, all its members together."""

    def __init__(self, environment: "Environment") -> None:
        """Start with none restarted."""
        self._environment = environment
        self._paces: dict[int, policy.Pace] = {}

    def plan(self, child: "Child", exited: "Exit") -> float:
        """Report how *child* ended, and return how long to wait before its restart, in seconds."""
        now = self._environment.host.now()
        lasted = policy.lasted((now - child.started) / 1e9, child.short_runs)
        child.short_runs = 0 if lasted else child.short_runs + 1
        delay = policy.delay(child.short_runs)
        if child.family:
            delay = self._paces.setdefault(child.family, policy.Pace()).delay(now / 1e9, delay)
        self.bury(child, exited, delay)
        return delay

    def bury(self, child: "Child", exited: "Exit", next_try: float | None) -> None:
        """Report how *child* ended: a line for people, a record for programs."""
        obituary = Obituary(
            name=child.spec.name,
            thread=child.thread,
            at_ns=self._environment.host.now(),
            cause=cause(exited.status, exited.fault, exited.text.removeprefix(f"{child.spec.name}: ")),
            status=exited.status,
            fault=exited.fault,
            restarts=child.restarts,
            asked=child.told if ending.as_asked(child.told, exited.status, exited.fault) else 0,
            next_try=next_try,
        )
        sys.stderr.write(f"{obituary.line}\n{obituary.record}\n")

    def forget(self, child: "Child", others: "Iterable[Child]") -> None:
        """Forget *child*, which ended for good; with the last of its family, forget its rate of restarts."""
        if all(other.family != child.family for other in others):
            self._paces.pop(child.family, None)

"""The end of the system, in order: each environment is told, has time, and is ended.

    programs            all at once, the last started first; servers serve until they are gone
    users' servers      all at once, the last started first
    servers             of the topology, in reverse, one after another

Told means SIGTERM. Each can run then: one that was stopped, or waits for its slice, goes on outside the plans. When
the grace is over, those left are killed. Nothing is started or restarted meanwhile. Asked again, the system ends at
once. An environment that attached by itself is not ours to end: its gate closes.
"""

from typing import TYPE_CHECKING

from kernel.abi.kip import Head, SystemState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hwmodel.machine import Alarm
    from kernel.environment import Environment
    from kernel.kernel import Kernel

_TERM = 15
"""The host's signal that asks a process to end."""
_CONTINUE = 18
"""The host's signal that continues a stopped one."""


class Shutdown:
    """Ends a system whose servers are those of *order*, the first started first."""

    def __init__(self, kernel: "Kernel", order: "Sequence[str]", grace: float) -> None:
        """Give each group *grace* seconds, unless the request names another time."""
        self.began = False
        self._kernel = kernel
        self._order = order
        self._grace = grace
        self._left: list[tuple[str, list[Environment]]] = []
        self._group: list[Environment] = []
        self._alarm: Alarm | None = None

    def stop(self) -> None:
        """Begin; asked again, end at once."""
        kernel = self._kernel
        asked = kernel.machine.grace
        self._grace = self._grace if asked is None else asked
        if self.began or not self._grace:
            kernel.machine.stop()
            return
        self.began = kernel.environments.closed = True
        kernel.kip.set_head(Head.STATE, SystemState.ENDING)
        self._left = self._groups()
        self._next()

    def ended(self) -> None:
        """Note an end; when the group is gone, turn to the next."""
        if self.began and not any(environment.alive for environment in self._group):
            self._next()

    def _groups(self) -> "list[tuple[str, list[Environment]]]":
        """Return the groups that are told together, in order."""
        newest = [e for e in reversed(list(self._kernel.environments)) if e.launched and e.body.owned]
        others = [e for e in newest if e.name not in self._order]
        servers = [[e for e in newest if e.name == name] for name in reversed(self._order)]
        return [
            ("programs", [e for e in others if not e.serves]),
            ("users' servers", [e for e in others if e.serves]),
            *(("servers", group) for group in servers),
        ]

    def _next(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._left:
            what, group = self._left.pop(0)
            self._group = [environment for environment in group if environment.alive]
            if self._group:
                self._tell(what)
                return
        self._group = []
        self._kernel.machine.stop()

    def _tell(self, what: str) -> None:
        """Ask the group to end."""
        grace = self._grace / len(self._order) if what == "servers" else self._grace
        if what != "servers":
            self._kernel.exposure.log(f"the system ends: {len(self._group)} {what} have {grace:g} s")
        for environment in self._group:
            environment.body.signal(_TERM)
            self._let_run(environment)
        clock = self._kernel.machine.clock
        self._alarm = clock.alarm(clock.now() + int(grace * 1e9), self._kill)

    def _let_run(self, environment: "Environment") -> None:
        """Take it out of every plan, so that it can hear the signal whatever its processor's scheduler does."""
        if environment.cpu >= 0:
            self._kernel.processors[environment.cpu].remove(environment)
            environment.cpu = -1
        environment.body.signal(_CONTINUE)  # an operator may have stopped it
        environment.body.resume()

    def _kill(self) -> None:
        self._alarm = None
        late = [environment for environment in self._group if environment.alive]
        self._kernel.exposure.log(f"killed, as they did not end in time: {_names(late)}")
        for environment in late:
            self._kernel.environments.kill(environment)


def _names(environments: "Iterable[Environment]") -> str:
    return ", ".join(environment.name for environment in environments)

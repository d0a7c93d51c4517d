"""The process server, as its parts see it: each part is given this, and asks it for the rest."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kernel.abi.operators import Operators
from kernel.abi.program import Back
from kernel.abi.topology import Topology
from libexo.environment import Environment
from libexo.stub import Server
from servers.process.api import Exit, ProgramSpec
from servers.process.children import Child


class Keeper(Protocol):
    """The keeper of the account of all programs."""

    environment: Environment
    server: Server
    topology: Topology
    operators: Operators

    def child(self, thread: int) -> Child | None:
        """Return the program that has *thread*, or had it and is to be restarted."""

    def named(self, name: str) -> Child:
        """Return the program called *name*. Raises NoSuchProgram."""

    def is_there(self, child: Child) -> bool:
        """Say whether *child* has not ended for good."""

    def watched(self) -> dict[str, Child]:
        """Return the programs that must answer heartbeats, by name."""

    def calls(self, name: str) -> tuple[str, ...]:
        """Return the servers that *name* may wait for."""

    def keep(self) -> str:
        """Write down everything that a successor must know; return why that failed, or ""."""

    def bury(self, child: Child) -> None:
        """Give up the restart of *child*, which has ended: it is gone."""

    def signal(self, child: Child, signal: int) -> None:
        """Send a host signal; to one that just ended it is no error."""

    def start(
        self, spec: ProgramSpec, descriptors: list[Any], roles: tuple[int, ...], *, spawner: int
    ) -> Child:
        """Start a program. Raises SpawnRefused. Descriptors still in the list then are the caller's to close."""

    def succeed(
        self,
        child: Child,
        spec: ProgramSpec,
        descriptors: Sequence[object] = (),
        roles: tuple[int, ...] = (),
        back: int = Back.SAME,
    ) -> Child:
        """Start *spec* as the successor of *child*, which ended. Raises SpawnRefused."""

    def succeed_or_retry(self, child: Child) -> None:
        """Start the successor of a program that ended; if that cannot be now, later."""

    def end(self, child: Child, grace: float | None = None) -> float:
        """End a program for good, in *grace* seconds, or those it was started with. Return the seconds."""

    def end_family(self, name: str, grace: float | None = None) -> list[Child]:
        """End a program and all its descendants for good; return them. Raises NoSuchProgram, NoFamily."""

    def when_ended(self, thread: int, tell: Callable[[Exit], None]) -> None:
        """Call *tell* when *thread*'s environment has ended."""

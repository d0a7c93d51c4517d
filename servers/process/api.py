"""What the process server does for its callers."""

from typing import Annotated, Literal

import msgspec

from kernel.abi.limits import MAX_NAME
from libexo.stub import Interface, operation

Restart = Literal["always", "on-failure", "never"]


class ProgramSpec(msgspec.Struct, array_like=True):
    """A program to run."""

    kind: Annotated[int, msgspec.Meta(ge=1, le=3)]
    """A `kernel.abi.program.ProgramKind`."""
    argv: tuple[str, ...]
    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    """What it is called; empty: after its program, with a number where that is taken."""
    environ: tuple[tuple[str, str], ...] = ()
    share: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Parts of the processor it gets, of what its family has; 0: outside the plans, an operator's to give."""
    restart: Restart = "never"
    heartbeat: bool = False
    """It is a server that must answer whenever it is asked; else it is ended, and restarted by its rule."""
    grace: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0
    """Seconds it has from SIGTERM to SIGKILL when it is ended."""
    budget: dict[str, Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]] = {}
    """Limits by item, as `exo ps --budget` names them, out of the caller's own; the others are the usual ones."""


class Exit(msgspec.Struct, array_like=True):
    """How an environment ended."""

    status: int
    """Exit status; negative: the signal that ended it."""
    fault: int = 0
    """The `kernel.abi.errors.Fault` it ended with, or 0."""
    text: str = ""
    """The fault in words."""


class Processes(Interface, label=0x44, name="process"):
    """Programs: start, wait, kill, names."""

    @operation(1)
    def spawn(self, program: ProgramSpec) -> int:
        """Start a program and return its thread id. Its streams are the log. Fails with SpawnRefused."""

    @operation(2, repeatable=True)
    def wait(self, thread: int) -> Exit:
        """Return how *thread*'s environment ended, waiting until it has. Fails with NoSuchProgram, TooManyWaits."""

    @operation(3, repeatable=True)
    def kill(self, thread: int, signal: int = 9) -> None:
        """Send host signal *signal* to a program the caller started. Fails with NoSuchProgram, NotYours."""

    @operation(4, repeatable=True)
    def register(self, name: str) -> None:
        """Publish *name* for the caller's thread. Fails with NameTaken."""

    @operation(5)
    def create_thread(self) -> int:
        """Create another thread in the caller's environment and return its id; the caller is its pager.

        It waits there for its start message (X.2). Fails with ThreadRefused.
        """

"""The operations of the process server."""

import itertools
from typing import Annotated, Literal

import msgspec

from kernel.abi.limits import MAX_NAME, MAX_TRAP_BYTES
from libexo.errors import BadArgument
from libexo.nouns import MAX_SHARE, Name, Signal, ThreadId
from libexo.stub import Interface, operation

Restart = Literal["always", "on-failure", "never"]


MAX_PROGRAM_BYTES = MAX_TRAP_BYTES - 1024
"""Bytes of arguments and environ, encoded: a trap has room for as many beside the rest of a program."""
_TEXT_BYTES = 5
"""Overhead of a text, or of a pair of them, at most."""


Budget = dict[str, Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]]
"""Limits, by the items of `kernel.abi.budget` in small letters."""


class ProgramSpec(msgspec.Struct, array_like=True):
    """A program to run."""

    kind: Annotated[int, msgspec.Meta(ge=1, le=3)]
    """A `kernel.abi.program.ProgramKind`."""
    argv: tuple[str, ...]
    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    """Its name; empty: its program's, with a number if that is taken."""
    environ: tuple[tuple[str, str], ...] = ()
    share: Annotated[int, msgspec.Meta(ge=0, le=MAX_SHARE)] = 1
    """Parts of its family's share of the processor; 0: outside the plans, for operators only."""
    restart: Restart = "never"
    heartbeat: bool = False
    """It is a server that must answer heartbeats; otherwise it is ended, and restarted by its rule."""
    grace: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0
    """Seconds from SIGTERM to SIGKILL when it is ended; not more than the program that starts it."""
    budget: Budget = {}
    """Limits by item, as `exo ps --budget` names them, out of the caller's own; the others are the usual ones."""
    paged: bool = False
    """It may map memory that other programs page. An operator gives that, and who has it; not for executables."""

    def __post_init__(self) -> None:
        """Raise BadArgument when arguments and environ are more than the kernel takes."""
        texts = itertools.chain(self.argv, *self.environ)
        size = sum(
            len(text) if text.isascii() else len(text.encode(errors="surrogatepass")) for text in texts
        )
        size += _TEXT_BYTES * (len(self.argv) + 3 * len(self.environ))
        if size > MAX_PROGRAM_BYTES:
            raise BadArgument(f"arguments and environ have {size} bytes, at most {MAX_PROGRAM_BYTES} fit")


class Exit(msgspec.Struct, array_like=True):
    """The end of an environment."""

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
    def wait(self, thread: ThreadId) -> Exit:
        """Return how *thread*'s environment ended, waiting until it has. Fails with NoSuchProgram, TooManyWaits."""

    @operation(3, repeatable=True)
    def kill(self, thread: ThreadId, signal: Signal = 9) -> None:
        """Send host signal *signal* to a program the caller started. Fails with NoSuchProgram, NotYours."""

    @operation(4, repeatable=True)
    def register(self, name: Name) -> None:
        """Publish *name* for the caller's thread. Fails with NameTaken."""

    @operation(5)
    def create_thread(self) -> int:
        """Create another thread in the caller's environment and return its id; the caller is its pager.

        It waits there for its start message (X.2). Fails with ThreadRefused.
        """

"""Histories: what an execution of a script showed, in the one order in which it happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kernel.abi.messages import IpcCode, Phase
from tests.model.script import NIL, Operation, show

MILLISECOND = 1_000_000


class Outcome(NamedTuple):
    """How an operation ended."""

    error: int = 0
    """The X.2 error word: phase in bit 0, code in bits 3..1."""
    sender: int = NIL
    """Whom the received message is from."""
    payload: int = 0
    """Which message was received; 0: none."""
    actual: int = NIL
    """Of a propagated message: its actual sender."""
    intended: int = NIL
    """Of a redirected message: for whom it was meant."""
    control: int = 0
    """Of an abort: the returned control word's low bits, or REFUSED."""

    def __str__(self) -> str:
        """Show what is set."""
        if self.error:
            return error_name(self.error)
        said = [f"{name} {value}" for name, value in self._asdict().items() if value != DONE_NAMES[name]]
        return ", ".join(said) or "done"


DONE_NAMES = Outcome._field_defaults
REFUSED = -1
"""The control of an abort that the kernel refused: not a thread of the same environment."""
WAS_RECEIVING, WAS_SENDING = 2, 4
"""Bits of ExchangeRegisters' returned control word (X.2)."""


def error_word(code: IpcCode, phase: Phase) -> int:
    """Return the X.2 error word of *code* in *phase*."""
    return code << 1 | phase


def error_name(word: int) -> str:
    """Return the X.2 error word as people read it."""
    return f"{IpcCode(word >> 1).name} in the {Phase(word & 1).name.lower()} phase"


@dataclass(frozen=True, slots=True)
class Invoked:
    """*thread* began *operation*, in which LAST and INTENDED have been replaced by the threads they meant."""

    time: int
    thread: int
    operation: Operation

    def __str__(self) -> str:
        """Show it on a line."""
        return f"{self.time / MILLISECOND:10.3f} ms  thread {self.thread}: {show(self.operation)}"


@dataclass(frozen=True, slots=True)
class Completed:
    """The operation of *thread* ended with *outcome*."""

    time: int
    thread: int
    outcome: Outcome

    def __str__(self) -> str:
        """Show it on a line."""
        return f"{self.time / MILLISECOND:10.3f} ms  thread {self.thread}:     -> {self.outcome}"


@dataclass(frozen=True, slots=True)
class Ended:
    """*threads* ended, all at once."""

    time: int
    threads: tuple[int, ...]

    def __str__(self) -> str:
        """Show it on a line."""
        return f"{self.time / MILLISECOND:10.3f} ms  threads {self.threads} ended"


Event = Invoked | Completed | Ended


@dataclass(frozen=True)
class History:
    """A whole execution: events in order, times in nanoseconds."""

    environments: tuple[int, ...]
    events: Sequence[Event]
    settled: bool = True
    """At the end nothing could ever happen again; False: it was stopped while something could."""
    stopped: int = 0
    """When it was stopped."""
    delays: bool = False
    """Messages were delayed or repeated on their way."""
    cuts: int = 0
    """How many messages were cut short on their way."""

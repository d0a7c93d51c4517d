"""The record of a death: one line for people, one for programs, both in a log."""

import signal
from typing import Self

import msgspec

from kernel.abi.errors import Fault
from kernel.abi.gate import UNDECODABLE

MARK = "obituary "
"""Prefix of the log line that holds the record, as JSON."""
_ENCODE = msgspec.json.Encoder().encode


class Obituary(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The death of a server, or of a program that is restarted."""

    name: str
    thread: int
    at_ns: int
    """When, by the system's clock: nanoseconds since boot of the host."""
    cause: str
    """How: an exit status, a signal, or the fault for which it was ended, with its detail."""
    status: int = 0
    """As `os.waitstatus_to_exitcode` counts."""
    fault: int = 0
    """A `Fault`, or 0."""
    restarts: int = 0
    """How often it was restarted before, as far as known."""
    asked: int = 0
    """The signal by which it was asked to end, and of which it then ended; 0: none."""
    next_try: float | None = None
    """Seconds until it is restarted; None: it is not, or comes back by itself."""

    @property
    def line(self) -> str:
        """One line for people."""
        then = "not restarted" if self.next_try is None else _soon(self.next_try, self.restarts + 1)
        return f"{self.name} ended ({self.cause}{', as asked' if self.asked else ''}): {then}"

    @property
    def record(self) -> str:
        """One line for programs, which `read` reads."""
        return MARK + _ENCODE(self).decode()

    @classmethod
    def read(cls, line: str) -> Self | None:
        """Return the record in *line* of a log, or None."""
        _, mark, text = line.partition(MARK)
        try:
            return msgspec.json.decode(text, type=cls) if mark else None
        except UNDECODABLE:
            return None


def _soon(seconds: float, times: int) -> str:
    return f"restart {times} {f'in {seconds:g} s' if seconds else 'at once'}"


def cause(status: int, fault: int, detail: str) -> str:
    """Say how an environment ended."""
    if fault:
        text = Fault(fault).text if fault in tuple(Fault) else f"fault {fault}"
        return f"{text}: {detail}" if detail else text
    if status >= 0:
        return f"exit status {status}"
    return signal.Signals(-status).name if -status in tuple(signal.Signals) else f"signal {-status}"

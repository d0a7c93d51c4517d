"""The protocol between the machine and its nursery.

The nursery is the process, with libexo imported already, from which every program is forked. Requests and reports
travel over one sequenced-packet socket; the descriptors of a program come with its `Launch`, the gate first.
"""

from typing import Final

import msgspec

from kernel.abi.limits import MAX_TRAP_BYTES
from kernel.abi.program import Program

MAX_REQUEST: Final = MAX_TRAP_BYTES + 16 * 1024
"""Bytes of a request: what a trap may bring, and the run directory's path."""
MAX_REPORT: Final = 8 * 1024
"""Bytes of a report."""
MAX_REASON: Final = 2 * 1024
"""Characters of the reason in a `Failed`."""


class Launch(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Fork a program, confine it, run it. Descriptors: its gate, then those of `program.roles`."""

    number: int
    """Names the launch in every report: counted up, because an environment's number is used again at once."""
    name: str
    program: Program
    uid: int
    run: str
    """The run directory, EXO_RUN of the program."""
    core: int
    """Host core it is bound to, -1: any."""
    held: bool
    """Start stopped, because it belongs to a plan."""
    may_lack: tuple[str, ...]
    """Confinement layers it may start without."""
    urgent: bool = False
    """The host is to prefer it to programs, where we may ask for that."""


class Reap(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Collect the host process of a program that ended, whose id may be used again after that."""

    number: int


class Launched(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The program runs. Descriptors: its pidfd; and what it is paged by, if it asked for that."""

    number: int
    pid: int


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The program could not be started."""

    number: int
    reason: str


class Exited(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """The program ended: `status` as `os.waitstatus_to_exitcode` counts (negative: the signal)."""

    number: int
    status: int


Request = Launch | Reap
Report = Launched | Failed | Exited

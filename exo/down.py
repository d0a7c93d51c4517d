"""End the system: programs are told and get time, then users' servers, then the system's own, in reverse.

Told means SIGTERM: handlers, finally and atexit run, and servers serve until the programs are gone. What is left
after the grace is killed; asked again, the system ends at once. Nothing is started or restarted meanwhile. Waits
until the kernel is gone. The logs stay beside the run directory until the next system starts there.
"""

import os
import select
import signal
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from exo import view
from exo.numbers import seconds, seconds_or_none
from exo.system import Trouble, run_directory
from kernel.abi.topology import MachineConfig, TopologyError, load

GROUPS = 3
"""Programs, users' servers, the system's: each group has the grace."""
SLACK = 15.0
"""Seconds beyond that, for the kernel to end."""

ARGUMENTS = "[--grace SECONDS | --now] [--timeout SECONDS]"
EXAMPLES = """\
  exo down
  exo down --grace 60                    for programs that need long to end
  exo down --now                         nobody gets time
  exo --run /tmp/other down"""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `down`."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--grace",
        type=seconds_or_none,
        metavar="SECONDS",
        help="time for each group before it is killed (default: machine.grace of the topology, 5)",
    )
    how.add_argument("--now", action="store_const", dest="grace", const=0.0, help="no time: kill at once")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="how long to wait (default: as long as the system may take, and 15)",
    )


def main(options: Namespace) -> int:
    """Ask the kernel to end, and wait until it has."""
    run = run_directory(options.run)
    pid = view.kernel_pid(view.open_kip(options.run))
    if not pid:
        raise Trouble(f"the system at {run} is booting: try again in a moment")
    grace = _say_grace(run, options.grace)
    end(pid, options.timeout or GROUPS * grace + SLACK)
    return 0


def _say_grace(run: str, asked: float | None) -> float:
    """Write the seconds *asked* for where the kernel reads them when it is asked to end; return its grace."""
    if asked is None:
        with suppress(OSError, TopologyError):
            return load(Path(run, "system.toml")).machine.grace
        return MachineConfig().grace
    path = Path(run, "grace")
    try:
        path.write_text(f"{asked}\n", encoding="ascii")
    except OSError as error:
        raise Trouble(f"cannot write {path}: {error.strerror}; ask the system's owner, or root") from None
    return asked


def end(pid: int, timeout: float) -> None:
    """Have process *pid* end. Raises Trouble when we may not ask it, or when it takes longer than *timeout*."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # its nursery is clearing up
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        gone, _, _ = select.select([process], [], [], timeout)
    except PermissionError:
        raise Trouble(
            f"the system belongs to another user: ask its owner, or root, to end process {pid}"
        ) from None
    finally:
        os.close(process)
    if not gone:
        raise Trouble(
            f"the kernel (process {pid}) has not ended in {timeout:g} s: 'kill -9 {pid}' ends all of it at once"
        )

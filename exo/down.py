"""End the system: its servers and programs are told, then ended, and its run directory is removed.

Waits until the kernel is gone.
"""

import os
import select
import signal
from argparse import ArgumentParser, Namespace
from contextlib import suppress

from exo import view
from exo.system import Trouble, run_directory

ARGUMENTS = "[--timeout SECONDS]"
EXAMPLES = """\
  exo down
  exo --run /tmp/other down"""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `down`."""
    parser.add_argument(
        "--timeout", type=float, default=15.0, metavar="SECONDS", help="how long to wait (default: 15)"
    )


def main(options: Namespace) -> int:
    """Ask the kernel to end, and wait until it has."""
    run = run_directory(options.run)
    pid = view.kernel_pid(view.open_kip(options.run))
    if not pid:
        raise Trouble(f"the system at {run} is booting: try again in a moment")
    end(pid, options.timeout)
    return 0


def end(pid: int, timeout: float) -> None:
    """Have process *pid* end. Raises Trouble when it may not be asked, or takes longer than *timeout*."""
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

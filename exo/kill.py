"""Send a signal to programs and servers, by name.

A server, or a program started with a restart rule, is back soon after it was killed: that is what the rule
is for. --end ends it for good: it has SIGTERM, and SIGKILL when its time is over.

What a program started outlives it. --family ends a program and all its descendants, for good, all at once;
what they would still start is refused. For a program that has ended it ends the rest of its family.
Both return when all have ended, and their names are free.
"""

import os
import select
import signal
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable
from pathlib import Path

from exo.arguments import known
from exo.console import Console
from exo.system import Trouble, Usage, run_directory

ARGUMENTS = "[-s SIGNAL | (--end | --family) [--grace SECONDS]] NAME..."
EXAMPLES = """\
  exo kill web                           ask it to end (SIGTERM)
  exo kill -s KILL scheduler             and see it come back: exo ps
  exo kill --end counter                 end a server that would be restarted
  exo kill --end --grace 0 counter       at once, without SIGTERM
  exo kill --family --grace 0 bomb       with all its descendants; 'exo ps --families' shows them"""

PATIENCE = 10.0
"""Seconds after its grace by which a program must be gone."""
MAX_GRACE = 3600.0
"""As `servers.process.ending` has it; a test compares them."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `kill`."""
    parser.add_argument(
        "-s",
        "--signal",
        type=number,
        default=None,
        metavar="SIGNAL",
        help="name or number (default: TERM)",
    )
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--end", action="store_true", help="end it for good: it is not restarted")
    ends.add_argument("--family", action="store_true", help="end it and all its descendants for good")
    parser.add_argument(
        "--grace",
        type=seconds,
        default=None,
        metavar="SECONDS",
        help="with --end, --family: from SIGTERM to SIGKILL (default: what it was started with, which is 5)",
    )
    parser.add_argument("names", type=known, nargs="+", metavar="NAME", help="as 'exo ps' shows it")


def number(text: str) -> int:
    """Return the signal that *text* means: ``9``, ``KILL``, ``SIGKILL``, ``kill``."""
    if text.isdecimal() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = "SIG" + text.upper().removeprefix("SIG")
    if name in signal.Signals.__members__:
        return int(signal.Signals[name])
    raise ArgumentTypeError(f"{text!r} is not a signal; 'kill -l' lists them")


def seconds(text: str) -> float:
    """Return the time that *text* means, in seconds."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= MAX_GRACE:
        raise ArgumentTypeError(f"{text!r}: seconds from 0 to {MAX_GRACE:g}")
    return found


def main(options: Namespace) -> int:
    """Send it to each; go on after one that could not be found."""
    if options.grace is not None and not (options.end or options.family):
        raise Usage("--grace is for --end and --family: a signal is sent at once")
    if options.signal is not None and options.family:
        raise Usage("--family ends them by SIGTERM and SIGKILL: leave -s out; for SIGKILL alone, --grace 0")
    run = run_directory(options.run)
    if options.end or options.family:
        failed = end(run, options.names, options.grace, "end_family" if options.family else "end")
    else:
        failed = []
    for name in () if options.end or options.family else options.names:
        try:
            send(run, name, options.signal or int(signal.SIGTERM))
        except Trouble as trouble:
            failed.append(str(trouble))
    if failed:
        raise Trouble("; ".join(failed))
    return 0


class Ending:
    """One program, or one family, that is being ended for good."""

    def __init__(self, run: str, name: str, grace: float | None = None, op: str = "end") -> None:
        """Have the process server *op* (end, end_family) *name*, in *grace* seconds, or its own. Raises Trouble."""
        self._name = name
        self._console = Console(run)
        try:
            console = self._console
            answer = console.ask(op, name=name) if grace is None else console.ask(op, name=name, grace=grace)
            self._grace = float(answer["grace"])
            self.names = ", ".join(answer.get("names", ()))
            """The programs that end."""
        except BaseException:
            self._console.close()
            raise
        self._until = time.monotonic() + self._grace + PATIENCE

    def wait(self) -> None:
        """Return when it has ended. Raises Trouble when it has not, a while after its grace."""
        try:
            if not select.select([self._console], [], [], max(0.0, self._until - time.monotonic()))[0]:
                raise Trouble(
                    f"{self._name} has not ended {PATIENCE:g} s after its grace of {self._grace:g} s"
                )
            if self._console.receive() is None:
                raise Trouble(f"the process server ended meanwhile: 'exo ps' says whether {self._name} has")
        finally:
            self._console.close()


def end(run: str, names: Iterable[str], grace: float | None = None, op: str = "end") -> list[str]:
    """End *names* for good, all at the same time, and wait until they have; return the errors."""
    failed, begun = [], []
    for name in names:
        try:
            begun.append(Ending(run, name, grace, op))
            if op != "end":
                print("ends", begun[-1].names, flush=True)
        except Trouble as trouble:
            failed.append(str(trouble))
    for ending in begun:
        try:
            ending.wait()
        except Trouble as trouble:
            failed.append(str(trouble))
    return failed


def send(run: str, name: str, signal_number: int) -> None:
    """Have the process server signal *name*; the host signals what is not the process server's."""
    console = Console(run)
    try:
        console.ask("kill", name=name, signal=signal_number)
    except Trouble as trouble:
        if not (pid := _pid(run, name)):
            raise
        _signal(pid, name, signal_number, trouble)
    finally:
        console.close()


def _pid(run: str, name: str) -> int:
    """Return the process of *name* by the kernel's own table: the root task's, or an attached program's."""
    from libexo.kip import read

    rows = read(Path(run, "kip")).environments()
    return next((row.pid for row in rows if row.name == name), 0)


def _signal(pid: int, name: str, signal_number: int, trouble: Trouble) -> None:
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        raise trouble from None
    except PermissionError:
        raise Trouble(f"{name} (process {pid}) belongs to another user: be root, or that user") from None

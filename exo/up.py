"""Boot a system: the kernel, its processors and memory, and the servers of its topology.

In the foreground it stays, shows a line about the system, and ends it on Ctrl-C, on SIGTERM and when the
terminal closes. With -d it returns when every server has answered. If a server does not come up, the system is
ended, the server's last words are shown, and the exit status is 1. The logs stay beside the run directory until
the next system starts there.
"""

import os
import signal
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from exo import view
from exo.follower import Follower
from exo.launcher import (
    Kernel,
    boot_servers,
    command,
    default_config,
    failure,
    has_console,
    link_log,
    open_log,
    refuse_second,
)
from exo.logs import shown
from exo.roll import Roll
from exo.system import Trouble, log_path, run_directory
from kernel.abi.kip import Counter, EnvironmentState, Head
from libexo.errors import ExoError

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[-d | --profile] [--config FILE] [--degraded]"
EXAMPLES = """\
  exo up                                 in front of you; Ctrl-C ends it
  exo up -d && exo run -- hello.py; exo down
  exo up -d --run /tmp/second            a second system beside the first
  exo up --config my-system.toml         with your own servers
  exo up --degraded                      without protections that this host cannot give: exo doctor"""

REFRESH = 1.0
"""Seconds between two status lines."""
LOOK = 0.1
"""And between looks at what the kernel wrote."""
BOOTING = 0.003
"""And between looks at a system that is booting."""
KILLS = 3
"""Number of the request to end that kills: the kernel did not answer the earlier ones."""
PHASE = "phase: "
"""Prefix of the kernel's lines about its boot."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `up`."""
    parser.add_argument(
        "-d", "--detach", action="store_true", help="return when the system is up, and leave it running"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the topology (default: the system.toml that comes with exo)"
    )
    parser.add_argument(
        "--degraded",
        action="store_true",
        help="go without layers of confinement that the host cannot give",
    )
    parser.add_argument("--profile", action="store_true", help="say how long each phase of the boot took")


def main(options: Namespace) -> int:
    """Boot."""
    with default_config(options.config) as config:
        return start(config, options)


def start(config: str, options: Namespace) -> int:
    """Boot the topology at *config*, in the foreground or detached; return the exit status."""
    if options.detach and options.profile:
        raise Trouble("--profile looks on while the system boots: leave out -d", 2)
    run = run_directory(options.run)
    refuse_second(run)
    servers, console = boot_servers(config), has_console(config)
    words = command(config, run, degraded=options.degraded, profile=options.profile)
    log = open_log(run)
    try:
        return (
            detached(run, words, servers, log, console=console)
            if options.detach
            else Foreground(run, words, servers, log).main()
        )
    finally:
        os.close(log)


def detached(run: str, words: list[str], servers: Mapping[str, bool], log: int, *, console: bool) -> int:
    """Boot a system that outlives us; with a *console*, wait until it answers."""
    kernel = Kernel(run, words, log, tied=False)
    try:
        kernel.wait_ready(
            servers, lambda: os.pread(log, 1 << 16, 0).decode(errors="replace"), console=console
        )
    finally:
        kernel.close()
    link_log(run)
    took = view.duration(time.monotonic_ns() - kernel.started)
    print(f"the system is up at {run} after {took}: kernel is process {kernel.pid}")
    if console:
        print("'exo run -- PROGRAM' runs a program, 'exo ps' lists them, 'exo down' ends it")
    else:
        print("'exo ps' lists what runs, 'exo down' ends it")
    return 0


class Foreground:
    """A system in the foreground: its kernel's words, and a status line below them."""

    def __init__(self, run: str, words: list[str], servers: Mapping[str, bool], log: int) -> None:
        """Prepare to boot *words*."""
        self._run = run
        self._words = words
        self._servers = servers
        self._log = log
        self._out: TextIO = sys.stdout
        self._is_terminal = self._out.isatty()
        self._kip: Kip | None = None
        self._is_up = False
        self._asked = 0
        self._follower = Follower(Path(log_path(run)))
        self._roll = Roll(run, servers)
        self._failure = ""
        self._tail = b""
        self._phases: list[tuple[str, int]] = []
        self._traps = (0, 0)

    def main(self) -> int:
        """Boot, look on, and return the exit status."""
        self._kernel = kernel = Kernel(self._run, self._words, self._log, tied=True)
        before = {
            number: signal.signal(number, self._end)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            self._attend()
        except ExoError as error:
            self._failure = str(error)
        except Trouble as trouble:
            self._failure = str(trouble)
        finally:
            if not kernel.has_ended():
                kernel.end()
            for number, handler in before.items():
                signal.signal(number, handler)
            kernel.close()
            self._follower.close()
            self._roll.close()
        return self._result()

    def _result(self) -> int:
        if not self._is_up and not self._asked:
            why = f": {self._failure}" if self._failure else self._roll.words()
            raise failure(
                f"the system did not boot{why}", os.pread(self._log, 1 << 16, 0).decode(errors="replace")
            )
        if status := self._kernel.status:
            raise Trouble(f"the kernel ended with status {status}: its log is {log_path(self._run)}")
        return 0

    def _end(self, _number: int, _frame: object) -> None:
        """Pass on the request to end; a second one ends the system at once, a third one kills the kernel."""
        self._asked += 1
        self._kernel.signal(signal.SIGTERM if self._asked < KILLS else signal.SIGKILL)

    def _attend(self) -> None:
        """Look on until the kernel has ended. Raises Trouble when the system cannot come up."""
        due = 0.0
        while not self._kernel.has_ended(LOOK if self._is_up else BOOTING):
            self._hear()
            if not self._is_up and self._look():
                self._hear()  # its words from before the last server was ready
                self._is_up = True
                link_log(self._run)
                self._announce()
            if self._is_up and self._is_terminal and time.monotonic() >= due:
                self._say("", self._line())
                due = time.monotonic() + REFRESH
        self._hear()
        self._say("")

    # ------------------------------------------------------------------------------------------ what is seen

    def _hear(self) -> None:
        """Pass the kernel's words on from its log, so that the kernel goes on if we are stopped."""
        *lines, self._tail = (self._tail + self._follower.read()).split(b"\n")
        for line in map(shown, lines):
            if line.startswith(PHASE):
                self._phase(line.removeprefix(PHASE))
            elif self._is_up:
                self._say(f"{line}\n")

    def _look(self) -> bool:
        """See how far it is; return whether all serve. Raises Trouble for one that cannot."""
        self._kip = self._kip or self._kernel.kip()
        if self._kip is None:
            return False
        serve = self._roll.call(self._kip)  # first: those that serve then are named below
        known = {name for name, _ in self._phases}
        for row in self._kip.environments():
            if (
                row.name in self._servers
                and row.state != EnvironmentState.STARTING
                and f"{row.name} ready" not in known
            ):
                self._phase(f"{row.name} ready")
        return serve

    def _announce(self) -> None:
        booted = os.pread(self._log, 1 << 16, 0).decode(errors="replace").splitlines()
        said = [line for line in booted if not line.startswith(PHASE)]
        took = view.duration(time.monotonic_ns() - self._kernel.started)
        if "--profile" in self._words:
            said.append(profile(self._phases, self._kernel.started))
        said.append(
            f"the system is up at {self._run} after {took}: kernel is process {self._kernel.pid}; Ctrl-C ends it"
        )
        self._say("\n".join(said) + "\n")

    def _phase(self, name: str) -> None:
        self._phases.append((name, time.monotonic_ns()))

    def _line(self) -> str:
        kip = self._kip
        assert kip is not None
        now, traps = time.monotonic_ns(), kip.counters()[Counter.TRAPS.name.lower()]
        before, counted = self._traps
        self._traps = now, traps
        rate = (traps - counted) * 1e9 / (now - before) if before else 0.0
        free = view.size(kip.head(Head.FREE_FRAMES))
        return f"{len(kip.environments())} environments · {free} free · {rate:.0f} traps/s"

    def _say(self, text: str, line: str = "") -> None:
        """Write *text*, and below it the status *line*. A terminal that is gone is ignored."""
        try:
            self._out.write(f"\r\x1b[K{text}{line}" if self._is_terminal else text)
            self._out.flush()
        except OSError:
            # The rest of the buffer is written at our exit, which would fail, and change our exit status.
            with Path(os.devnull).open("w", encoding="ascii") as nowhere:
                os.dup2(nowhere.fileno(), self._out.fileno())


def profile(phases: list[tuple[str, int]], started: int) -> str:
    """Return a table of *phases*: the name, the time when it was reached, and its own time."""
    rows = []
    before = started
    for name, at in phases:
        rows.append((name, f"{(at - started) / 1e6:.1f}", f"{(at - before) / 1e6:.1f}"))
        before = at
    return view.table(("REACHED", "AFTER ms", "TOOK ms"), rows, ("AFTER ms", "TOOK ms"))

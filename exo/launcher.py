"""A kernel, started as a child or a daemon: the common part of `up` and `tour`."""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exo import view
from exo.logs import last_lines
from exo.roll import Roll
from exo.system import Trouble, log_path
from libexo.errors import ExoError
from libexo.launch.confine.policy import LAYERS

if TYPE_CHECKING:
    from kernel.abi.topology import Topology
    from libexo.kip import Kip

PR_SET_PDEATHSIG = 1
PAUSE = 0.003
"""Seconds between looks at a system that is booting."""
PATIENCE = 30.0
LOG_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
TAIL = 8
PROCESS_SERVER = "servers.process"


class Kernel:
    """The process of a kernel we started."""

    def __init__(self, run: str, command: Sequence[str], output: int, *, tied: bool) -> None:
        """Start *command*, its output to *output*; when *tied*, it is told to end if we are killed."""
        self.run = run
        self.started = time.monotonic_ns()
        self.pid = _spawn(command, output, tied=tied)
        self.process = os.pidfd_open(self.pid)
        self.status: int | None = None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    def has_ended(self, timeout: float = 0) -> bool:
        """Whether it has ended; waits up to *timeout* seconds for that."""
        if self.status is None and select.select([self.process], [], [], timeout)[0]:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status is not None

    def kip(self) -> "Kip | None":
        """Return the system's kernel interface page, once it is there."""
        try:
            kip = view.open_kip(self.run)
        except (Trouble, ExoError):  # not there, or not laid out yet
            return None
        return kip if view.kernel_pid(kip) == self.pid else None

    def wait_ready(
        self, servers: Mapping[str, bool], log: Callable[[], str], *, console: bool = True
    ) -> "Kip":
        """Wait until the system is up, *servers* are ready, and the *console*, if it has one, answers.

        Raises Trouble with the end of *log*.
        """
        kip: Kip | None = None
        roll = Roll(self.run, servers)
        deadline = time.monotonic() + PATIENCE
        try:
            while not self.has_ended(PAUSE) and time.monotonic() < deadline:
                kip = kip or self.kip()
                if kip is not None and roll.call(kip) and (not console or self._answers()):
                    return kip
        except (Trouble, ExoError) as error:
            raise self.not_booted(f"the system did not boot: {error}", log) from None
        finally:
            roll.close()
        if self.status is None:
            raise self.not_booted(f"the system was not up within {PATIENCE:g} s: {roll.missing()}", log)
        raise self.not_booted(f"the system did not boot{roll.words()}", log)

    def not_booted(self, what: str, log: Callable[[], str]) -> Trouble:
        """End the kernel, and return the error *what*."""
        if not self.has_ended():
            self.end()
        return failure(what, log())

    def _answers(self) -> bool:
        """Whether the process server listens to operators yet."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as console:
            return console.connect_ex(f"{self.run}/console") == 0

    def end(self) -> None:
        """End it, kindly if it lets us."""
        self.signal(signal.SIGTERM)
        if not self.has_ended(PATIENCE):
            self.signal(signal.SIGKILL)
            self.has_ended(PATIENCE)

    def close(self) -> None:
        """Forget it."""
        os.close(self.process)


def failure(what: str, log: str) -> Trouble:
    """Return the error *what*, with the last lines of the kernel's log and a remedy."""
    lines = last_lines(log.strip().encode(errors="replace"), TAIL) or ["the kernel said nothing"]
    text = "\n".join([f"{what}; the kernel's last words:", *(f"    {line}" for line in lines)])
    if "may_lack" in log:
        text += "\n'exo doctor' says what this host lacks; 'exo up --degraded' goes without it"
    return Trouble(text)


def command(config: str, run: str, *, degraded: bool, profile: bool = False) -> list[str]:
    """Return the command that runs the kernel."""
    words = [sys.executable, "-P", "-m", "kernel", "--config", config, "--run", run, "--log", log_path(run)]
    words += [f"--may-lack={layer}" for layer in LAYERS] if degraded else []
    return [*words, "--profile"] if profile else words


def refuse_second(run: str) -> None:
    """Raise Trouble when a system runs at *run*."""
    try:
        words = Path(run, "lock").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return
    if words[:1] == ["exokernel"] and words[1:] and words[1].isdecimal() and view.is_alive(int(words[1])):
        raise Trouble(
            f"a system runs at {run} already (process {words[1]}): 'exo down' ends it; "
            "--run or EXO_RUN names a place for another one"
        )


@contextlib.contextmanager
def default_config(chosen: str | None) -> Iterator[str]:
    """Give the path of the topology: *chosen*, or our own."""
    from importlib import resources

    if chosen is not None:
        yield os.path.abspath(chosen)  # noqa: PTH100 - a string is wanted
        return
    with resources.as_file(resources.files("exo") / "system.toml") as path:
        yield str(path)


def read_topology(config: str) -> "Topology":
    """Read the topology at *config*. Raises Trouble when it is wrong."""
    from kernel.abi.topology import TopologyError, load

    try:
        return load(Path(config))
    except TopologyError as error:
        raise Trouble(str(error)) from None


def boot_servers(config: str) -> dict[str, bool]:
    """Return the servers the kernel starts by itself and keeps, with whether they must answer. Raises Trouble.

    A Python file may answer nobody, as programs of X.2 do. One that is not restarted is a program, and not among
    them: it may have come to its end before anybody looks.
    """
    from kernel.abi.topology import booted

    started = booted(read_topology(config))
    return {name: not server.is_file for name, server in started.items() if not server.may_end}


def has_console(config: str) -> bool:
    """Whether the topology at *config* has a process server, which listens to operators. Raises Trouble."""
    return any(server.module == PROCESS_SERVER for server in read_topology(config).server.values())


def open_log(run: str) -> int:
    """Truncate and open the kernel's log: a file of ours, not a link that another user put there."""
    path = log_path(run)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, LOG_FLAGS, 0o640)
    except OSError as error:
        raise Trouble(
            f"cannot write {path}: {error.strerror}; --run or EXO_RUN names another place"
        ) from None
    if os.fstat(number).st_uid != os.geteuid():
        os.close(number)
        raise Trouble(f"{path} belongs to another user: --run or EXO_RUN names another place")
    return number


def link_log(run: str) -> None:
    """Let the kernel's log be found among the others."""
    with contextlib.suppress(OSError):
        Path(run, "log", "kernel.log").symlink_to(log_path(run))


def _spawn(words: Sequence[str], output: int, *, tied: bool) -> int:
    """Start *words* in a session of its own: Ctrl-C reaches us, and we pass it on."""
    prctl = ctypes.CDLL(None).prctl
    us = os.getpid()
    # We are imported from anywhere; the kernel must find itself beside us.
    beside = str(Path(__file__).resolve().parent.parent)
    paths = dict.fromkeys([beside, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        if tied:
            prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != us:
                os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.execve(words[0], list(words), environ)
    finally:
        os._exit(127)

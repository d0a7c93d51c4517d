"""A process of the host, and what it owns: it belongs to the user that booted the system, but not to the system."""

import ctypes
import os
import pty
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from libexo.launch.confine import credentials
from tests.system.confined import foreign

IPC_CREAT, IPC_RMID, IPC_STAT = 0o1000, 0, 2
TEXT = "the user's own\n"


@dataclass(frozen=True)
class Bystander:
    """Variables that tell programs about it."""

    pid: int
    folder: Path
    """Holds `file`, and `socket`, at which it listens."""
    terminal: str
    """Of its user, with nobody at it."""
    queue: int
    """Id of its System V message queue."""
    abstract: str
    """Name of an abstract socket at which it listens."""
    _told: int

    @property
    def arguments(self) -> list[str]:
        """Return the argv of an attack."""
        return [str(self.pid), str(self.folder), self.terminal, str(self.queue), self.abstract]

    def signals(self) -> bytes:
        """Return the numbers of the signals it got."""
        try:
            return os.read(self._told, 64)
        except BlockingIOError:
            return b""

    def condition(self) -> list[object]:
        """Return all that an attack might have changed."""
        file = self.folder / "file"
        status = file.stat()
        return [
            file.read_text(),
            (status.st_mode, status.st_uid, status.st_mtime_ns, status.st_nlink),
            os.listxattr(file),
            sorted(path.name for path in self.folder.iterdir()),
            Path(f"/proc/{self.pid}/stat").read_text().split()[2] in "TtZX",
            os.sched_getscheduler(self.pid),
            os.getpriority(os.PRIO_PROCESS, self.pid),
            os.sched_getaffinity(self.pid),
            foreign("msgctl", self.queue, IPC_STAT, ctypes.create_string_buffer(256)),
            self.signals(),
        ]


def _live(uid: int, told: int) -> None:
    """Be it: of *uid*, as unprotected as a shell, noting the signals that can be noted."""
    for number in (signal.SIGIO, signal.SIGURG, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.write(told, bytes([number])))
    if uid:
        credentials.become(uid, uid)
    credentials.prctl(credentials.PR_SET_DUMPABLE, 1)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.write(told, b"!")
    while True:
        signal.pause()


@contextmanager
def bystander(uid: int) -> Iterator[Bystander]:
    """Run one of *uid*, and take away what it owned."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exo-")))
        (folder / "file").write_text(TEXT)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(folder / "socket"))
        listener.listen()
        hidden = stack.enter_context(socket.socket(socket.AF_UNIX))
        hidden.bind(f"\0bystander-{os.getpid()}")
        hidden.listen()
        ours, theirs = pty.openpty()
        told, telling = os.pipe()
        for number in (ours, theirs, told, telling):
            stack.callback(os.close, number)
        terminal = os.ttyname(theirs)
        queue = foreign("msgget", 0, IPC_CREAT | 0o600)
        stack.callback(foreign, "msgctl", queue, IPC_RMID, None)
        status = (ctypes.c_ubyte * 256)()
        foreign("msgctl", queue, IPC_STAT, status)
        ctypes.c_uint32.from_buffer(status, 4).value = uid  # msg_perm.uid
        foreign("msgctl", queue, 1, status)
        for path in (folder, folder / "file", folder / "socket", Path(terminal)):
            os.chown(path, uid, uid)
        pid = os.fork()
        if pid == 0:
            try:
                _live(uid, telling)
            finally:
                os._exit(1)
        stack.callback(os.waitpid, pid, 0)
        stack.callback(os.kill, pid, signal.SIGKILL)
        os.read(told, 1)
        os.set_blocking(told, False)
        yield Bystander(pid, folder, terminal, queue, hidden.getsockname()[1:].decode(), told)

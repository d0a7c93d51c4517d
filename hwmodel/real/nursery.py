"""The kernel's side of the nursery, the process from which every program is forked."""

import contextlib
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from hwmodel.machine import Descriptor
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.loop import GONE, Loop
from hwmodel.real.port import AGAIN_NS, UNHEARD, close_all, send_packet, take_descriptors
from hwmodel.real.run import Run
from kernel.abi.nursery import MAX_REPORT, Launch, Reap, Report

ANCILLARY = socket.CMSG_SPACE(2 * 4)
RECEIVE_FLAGS = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
END_MS = 10_000
"""How long the nursery may take to end all programs before it is killed."""
KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
)
"""Variables of our environ that the nursery needs; programs get none of them."""

OnReport = Callable[[Report, list[Descriptor]], None]


class Nursery:
    """Starts the nursery at once, and talks to it; requests wait in the socket while it imports."""

    def __init__(self, loop: Loop, run: Run) -> None:
        self._loop = loop
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._put_off = False
        """The host had no room for what waits."""
        self._waiting: deque[tuple[bytes, Sequence[Descriptor]]] = deque()
        self._decode = msgspec.msgpack.Decoder(Report).decode
        self._encode = msgspec.msgpack.Encoder().encode
        with theirs:
            self.pid = _spawn(theirs.fileno(), run)
        self.process = RealDescriptor(os.pidfd_open(self.pid))

    def watch(self, on_report: OnReport, on_end: Callable[[], None]) -> None:
        """Call *on_report* for each report with its descriptors, *on_end* if the nursery dies."""
        self._on_report, self._on_end = on_report, on_end
        self._loop.watch(self._socket.fileno(), self._ready, self._events())

    def launch(self, request: Launch, descriptors: Sequence[Descriptor]) -> None:
        """Have a program forked; the descriptors are consumed."""
        self._send(self._encode(request), descriptors)

    def reap(self, number: int) -> None:
        """Have launch *number* collected; if it still runs, it is ended first."""
        self._send(self._encode(Reap(number)), ())

    def close(self) -> None:
        """Have all programs ended and the run directory removed, and wait until that is done."""
        self._loop.unwatch(self._socket.fileno())
        for _, descriptors in self._waiting:
            close_all(descriptors)
        self._waiting.clear()
        self._socket.close()
        poll = select.poll()
        poll.register(self.process.number, select.POLLIN)
        if not poll.poll(END_MS):
            signal.pidfd_send_signal(self.process.number, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.process.close()

    def _send(self, data: bytes, descriptors: Sequence[Descriptor]) -> None:
        """Send, or queue behind earlier requests: order matters, a uid is reused after its reap."""
        if self._socket.fileno() < 0:  # closed: all have been ended and collected
            close_all(descriptors)
            return
        self._waiting.append((data, descriptors))
        if len(self._waiting) == 1 and not self._put_off:
            self._flush()

    def _flush(self) -> None:
        """Send what is waiting, as far as the socket takes it."""
        while self._waiting:
            data, descriptors = self._waiting[0]
            try:
                send_packet(self._socket, data, descriptors)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in UNHEARD:  # the host has no room for it now
                    self._put_off = True
                    self._loop.alarm(self._loop.now() + AGAIN_NS, self._try_again)
                    break
                # it is dead: `_ready` learns it from the socket
            self._waiting.popleft()
            close_all(descriptors)
        with contextlib.suppress(FileNotFoundError):  # not watched yet
            self._loop.change(self._socket.fileno(), self._events())

    def _try_again(self) -> None:
        self._put_off = False
        if self._socket.fileno() >= 0:
            self._flush()

    def _events(self) -> int:
        return select.EPOLLIN | (select.EPOLLOUT if self._waiting and not self._put_off else 0)

    def _ready(self, events: int) -> None:
        """Send what waits; take one report."""
        if events & select.EPOLLOUT:
            self._flush()
        if not events & (select.EPOLLIN | GONE):
            return
        try:
            data, ancillary, _, _ = self._socket.recvmsg(MAX_REPORT, ANCILLARY, RECEIVE_FLAGS)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in UNHEARD:  # the host has no room for it now
                return
            data, ancillary = b"", []
        if not data:
            self._loop.unwatch(self._socket.fileno())
            self._on_end()
            return
        self._on_report(self._decode(data), take_descriptors(ancillary))


def _spawn(control: int, run: Run) -> int:
    """Start the nursery with *control* and the lock of the run directory; return its process id.

    It finds modules where we do, whatever the current directory: -P keeps that off its path.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    inherited = (control, run.lock)
    arguments = [sys.executable, "-P", "-m", "libexo.launch.nursery", *map(str, inherited), run.path]
    try:
        for descriptor in inherited:
            os.set_inheritable(descriptor, True)
        return os.posix_spawn(
            sys.executable,
            arguments,
            environment,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
        )
    finally:
        for descriptor in inherited:
            os.set_inheritable(descriptor, False)

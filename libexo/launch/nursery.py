"""The nursery: the process from which every program is forked, with all it needs imported already.

    python -m libexo.launch.nursery CONTROL LOCK RUN

It takes requests from the socket CONTROL and holds the lock of the run directory RUN as long as it lives. When
the kernel's end of the socket closes, however the kernel died, it ends all programs and removes the
directory. It never runs user code, has one thread, and learns of its children's ends by their pidfds, which
are silent when a child is stopped or continued.
"""

import array
import contextlib
import fcntl
import gc
import importlib
import os
import resource
import select
import shutil
import signal
import socket
import sys
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from kernel.abi.logs import FOLDER
from kernel.abi.nursery import (
    MAX_REASON,
    MAX_REQUEST,
    Exited,
    Failed,
    Launch,
    Launched,
    Reap,
    Report,
    Request,
)
from kernel.abi.program import ProgramKind, Role
from libexo.launch import imports, paging
from libexo.launch.child import (
    CONFINED,
    ENDING_SIGNALS,
    FAILED,
    FIRST_FREE,
    Birth,
    Nest,
    enter,
    has_own,
    policy,
)
from libexo.launch.confine import ConfinementError, Prepared, prepare, probe
from libexo.launch.confine.credentials import PR_SET_DUMPABLE, leave_network, prctl
from libexo.launch.logs import Logs, Stream, keep

LIBRARY = ("zmq", "uvloop", "asyncio", "libexo", "libexo.ipc", "libexo.stub", "libexo.vm", "libexo.aio")
"""Modules that programs import, so that they find them loaded."""
PR_SET_CHILD_SUBREAPER = 36
ANCILLARY = socket.CMSG_SPACE(32 * 4)
ORPHANS_EVERY = 1.0
"""Seconds between looks for processes that foreign programs left behind, while there are such programs."""
LOOKS, LOOK_AGAIN = 3, 0.02
"""How often, and after how many seconds, there must be no orphans for them to be all gone."""
LOCK = "lock"


@dataclass
class Child:
    """One program."""

    launch: Launch
    pid: int
    process: int
    """Its pidfd."""
    status: int
    """Our end of its status pipe, -1 once it is known that it runs."""
    start: int
    """The pipe at which a held program waits, -1: it does not."""
    log: Stream | None
    """The stream of its log, for output without a stream of its own."""
    paging: socket.socket | None
    """The socket on which the descriptor that pages it comes, until it runs."""
    keep: int = -1
    """That descriptor: kept until the program has ended, and never read."""
    said: bytes = b""
    exited: bool = False


class Nursery:
    """Forks, watches and ends programs."""

    def __init__(self, control: socket.socket, nest: Nest, run: str) -> None:
        self._control = control
        self._nest = nest
        self._run = run
        self._logs = Logs(os.path.join(run, FOLDER))
        self._children: dict[int, Child] = {}
        self._watched: dict[int, Child] = {}
        self._looks = 0
        """How often orphans are still to be looked for: each may leave its own, and the list of them has gaps."""
        self._prepared: dict[tuple[bool, tuple[str, ...]], Prepared] = {}
        self._decode = msgspec.msgpack.Decoder(Request).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)
        self._epoll.register(self._logs, select.EPOLLIN)
        self._hears_logs = True

    def serve(self) -> None:
        """Do the kernel's requests, until it is gone."""
        control = self._control.fileno()
        while True:
            has_foreign = any(c.launch.program.kind == ProgramKind.FOREIGN for c in self._children.values())
            events = self._epoll.poll(self._patience(has_foreign=has_foreign))
            # Children's events come first: a request must not find them in a state the kernel has not seen.
            for descriptor, _ in events:
                if (child := self._watched.get(descriptor)) is not None:
                    self._attend(child, descriptor)
            if has_foreign or self._looks:
                self._end_orphans()
            ready = {descriptor for descriptor, _ in events}
            if control in ready and not self._request():
                return
            if self._logs.fileno() in ready:
                self._logs.turn()

    def _patience(self, *, has_foreign: bool) -> float | None:
        """Return the seconds for which to look at no child without an event; logs are not heard while they rest."""
        patience = LOOK_AGAIN if self._looks else ORPHANS_EVERY if has_foreign else None
        rest = self._logs.rest()
        if self._hears_logs != (not rest):
            self._hears_logs = not rest
            self._epoll.modify(self._logs, 0 if rest else select.EPOLLIN)
        return min(rest or ORPHANS_EVERY, patience or ORPHANS_EVERY) if rest or patience else None

    def end(self) -> None:
        """End all programs, and remove the run directory."""
        for child in self._children.values():
            self._kill(child)
        for child in list(self._children.values()):
            self._reap(child.launch.number)
        while self._end_orphans():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)
        self._logs.close()
        remove(self._run)

    # ------------------------------------------------------------------------------------------- requests

    def _request(self) -> bool:
        """Do one request; False when the kernel is gone."""
        try:
            data, ancillary, _, _ = self._control.recvmsg(MAX_REQUEST, ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        if not data:
            return False
        numbers = array.array("i")
        for _, _, raw in ancillary:
            numbers.frombytes(raw)
        match self._decode(data):
            case Launch() as request:
                self._launch(request, list(numbers))
            case Reap(number):
                self._reap(number)
        return True

    def _launch(self, request: Launch, numbers: list[int]) -> None:
        """Fork a program; its status pipe tells the outcome."""
        try:
            child = self._fork(request, numbers)
        except (OSError, ConfinementError) as error:
            self._report(Failed(request.number, str(error)[:MAX_REASON]))
            return
        finally:
            for number in numbers:
                os.close(number)
        self._children[request.number] = child
        for descriptor in (child.status, child.process):
            self._watched[descriptor] = child
            self._epoll.register(descriptor, select.EPOLLIN)

    def _fork(self, request: Launch, numbers: list[int]) -> Child:
        """Fork; the child does not return from here."""
        if len(numbers) != 1 + len(request.program.roles):
            raise OSError(f"{len(request.program.roles)} roles, but {len(numbers)} descriptors with the gate")
        roles = dict(zip(request.program.roles, numbers[1:], strict=True))
        hearing, sending = None, -1
        shared = None if has_own(request, roles) else self._prepare(request)
        log, writing = None, -1
        status, saying = os.pipe()
        waiting, start = os.pipe() if request.held else (-1, -1)
        try:
            if not {Role.STDOUT, Role.STDERR} <= roles.keys():
                log, writing = self._logs.open(request.name)
            hearing, sending = self._channel(request)
            birth = Birth(request, shared, numbers[0], roles, saying, waiting, "", writing, sending)
            pid = os.fork()
            if pid == 0:
                try:
                    enter(birth, self._nest)
                finally:  # the child must not run on: what follows is the nursery's, and ends programs
                    os._exit(FAILED)
            process = os.pidfd_open(pid)
        except BaseException:
            _close(status, start)
            if hearing is not None:
                hearing.close()
            if log is not None:
                self._logs.finish(log)
            raise
        finally:
            _close(saying, waiting, writing, sending)
        os.set_blocking(status, False)
        return Child(request, pid, process, status, start, log, hearing)

    def _channel(self, request: Launch) -> tuple[socket.socket | None, int]:
        """Return whence we hear what a program is paged by, and where its child sends it; for those who ask."""
        if not request.program.paged:
            return None, -1
        paging.refuse(request.program.kind, {layer.name for layer in self._nest.host if layer.available})
        ours, theirs = socket.socketpair()
        return ours, theirs.detach()

    def _prepare(self, request: Launch) -> Prepared:
        """Return the confinement of programs with no place of their own, made once."""
        key = (request.program.kind == ProgramKind.FOREIGN, request.may_lack)
        if key not in self._prepared:
            self._prepared[key] = prepare(policy(request, self._nest, {}), self._nest.host)
        return self._prepared[key]

    def _reap(self, number: int) -> None:
        """Collect a program, so that its process id is free; one that still runs is ended."""
        child = self._children.pop(number, None)
        if child is None:
            return
        self._kill(child)
        os.waitid(os.P_PIDFD, child.process, os.WEXITED)
        for descriptor in (child.status, child.process):
            if self._watched.pop(descriptor, None) is not None:
                self._epoll.unregister(descriptor)
        if child.paging is not None:
            child.paging.close()
        # Only now that nobody is there any more who would find zeros in its place.
        _close(child.status, child.process, child.start, child.keep)
        self._finish(child)

    # ------------------------------------------------------------------------------------------- children

    def _attend(self, child: Child, descriptor: int) -> None:
        """Read a child's status, or note its end."""
        if descriptor == child.status:
            self._hear(child)
        elif child.status >= 0:
            # It ended before it ran, or just after; its status is complete.
            self._hear(child)
        elif not child.exited:
            child.exited = True
            self._unwatch(child.process)
            self._kill(child)
            self._end_orphans()
            self._finish(child)
            if child.launch.program.kind == ProgramKind.FOREIGN:
                self._looks = LOOKS
            self._report(Exited(child.launch.number, _how(child)))

    def _hear(self, child: Child) -> None:
        """Read the status pipe, and report once it is clear whether the program runs."""
        try:
            chunk = os.read(child.status, 4 * MAX_REASON)
        except BlockingIOError:
            return
        child.said += chunk
        is_foreign = child.launch.program.kind == ProgramKind.FOREIGN
        # An executable runs when the exec has closed the pipe; a held one, when it could.
        if child.said == CONFINED and (not chunk or child.start >= 0 or not is_foreign):
            self._release(child)
        elif not chunk:
            reason = child.said.removeprefix(CONFINED).decode(errors="replace")
            number = child.launch.number
            self._kill(child)
            os.waitid(os.P_PIDFD, child.process, os.WEXITED | os.WNOWAIT)
            reason = reason or f"it ended before it ran, with status {_how(child)}"
            self._reap(number)
            self._report(Failed(number, reason))

    def _release(self, child: Child) -> None:
        """Let a program run that has got through its confinement, and report it.

        A held one is stopped before it can read the byte that lets it go on. The stop takes effect at the
        latest when it returns from that read, before any user code. From here on only the
        kernel stops and continues it, so neither can overtake the other.
        """
        if child.start >= 0:
            signal.pidfd_send_signal(child.process, signal.SIGSTOP)
            with contextlib.suppress(BrokenPipeError):
                os.write(child.start, b".")
        self._unwatch(child.status)
        _close(child.status, child.start)
        child.status = child.start = -1
        if child.paging is not None:
            child.keep = paging.receive(child.paging)
            child.paging.close()
        self._report(Launched(child.launch.number, child.pid), child.process, child.keep)

    def _finish(self, child: Child) -> None:
        """Write down the last output of a program that has ended, before its end is reported."""
        if child.log is not None:
            self._logs.finish(child.log)

    def _kill(self, child: Child) -> None:
        """End a program and its process group."""
        # Until it is in its own group, right after the fork, only the first of the two reaches it.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child.process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    def _end_orphans(self) -> bool:
        """End processes that outlived their program; return whether there were any.

        As their ancestor we inherit them. One still in the group of a living program is left to it.
        """
        known = {child.pid for child in self._children.values()}
        groups = {child.pid for child in self._children.values() if not child.exited}
        orphans = [pid for pid in _children_of_ours() if pid not in known]
        self._looks = max(0, self._looks - 1)
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
                if ended is None and os.getpgid(pid) in groups:
                    continue
                self._looks = LOOKS
                if ended is None:
                    os.kill(pid, signal.SIGKILL)
        return bool(orphans)

    def _unwatch(self, descriptor: int) -> None:
        del self._watched[descriptor]
        self._epoll.unregister(descriptor)

    def _report(self, report: Report, *descriptors: int) -> None:
        """Tell the kernel. If it is gone, the next request says so."""
        numbers = array.array("i", [number for number in descriptors if number >= 0])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendmsg([self._encode(report)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


def _how(child: Child) -> int:
    """Return the exit status of an ended child, or minus the signal that ended it; it stays uncollected."""
    result = os.waitid(os.P_PIDFD, child.process, os.WEXITED | os.WNOWAIT)
    assert result is not None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _children_of_ours() -> list[int]:
    """Return the process ids of our children, with the adopted ones."""
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []  # a host kernel without that file: then only groups are ended


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def remove(run: str) -> None:
    """Remove the run directory, its lock last: until then nobody else takes it. The logs are kept beside it."""
    keep(run)
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(run)):
            if entry.name in (LOCK, FOLDER):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        if not os.path.lexists(os.path.join(run, FOLDER)):
            os.unlink(os.path.join(run, LOCK))
            os.rmdir(run)


def main(arguments: list[str]) -> NoReturn:
    """Prepare everything, serve, clear up."""
    control_number, lock, run = int(arguments[1]), int(arguments[2]), arguments[3]
    for number in ENDING_SIGNALS:  # sent to a whole session or service: the kernel ends us
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    with contextlib.suppress(
        OSError
    ):  # Landlock then keeps programs from connecting there, but not from binding
        leave_network()
    control = socket.socket(fileno=_move_up(control_number))
    control.set_inheritable(False)
    _move_up(lock)
    nursery = Nursery(control, _nest(), run)
    gc.collect()
    gc.freeze()
    try:
        nursery.serve()
    finally:
        nursery.end()
    os._exit(0)


def _nest() -> Nest:
    """Import what programs need, and find out how the host can confine them."""
    os.chdir("/")
    while (number := os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)) < FIRST_FREE:
        pass
    os.close(number)
    gc.disable()
    for name in LIBRARY:
        # One that cannot be imported fails in the program that wants it, where its user sees why.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    held = imports.hold(sys.path)
    host = probe()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    return Nest(os.getpid(), os.getppid(), host, tuple(held.values()), limits)


def _move_up(descriptor: int) -> int:
    """Move *descriptor* out of the numbers that programs use."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(descriptor)
    return moved


if __name__ == "__main__":
    main(sys.argv)

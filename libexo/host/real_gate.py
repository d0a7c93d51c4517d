"""The program's end of the gate: a sequenced-packet socket to the kernel, shared by its strands.

Traps exclude one another, so that each gets its own answer. Upcalls that come with an answer are kept, and the
socket does not tell of them again. `kept` tells a strand that is about to wait; a bell, silenced when they are
taken, tells those that sleep. Once there is a second strand, the descriptor to wait on for the gate is an epoll
descriptor that watches socket and bell; a program of one strand has neither.
"""

import array
import contextlib
import ctypes
import mmap
import os
import select
import socket
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from kernel.abi.gate import Status
from kernel.abi.limits import MAX_INCOMING, MAX_TRAP_BYTES
from libexo.errors import GateClosed
from libexo.forking import refuse
from libexo.host.eventfds import RealWaker
from libexo.transport.base import Descriptor, Source

if TYPE_CHECKING:
    from libexo.host.ring_poll import RingPoll
    from libexo.transport.polling import Poll
    from libexo.transport.zmq_polling import ZmqPoll

_ANSWER_BYTES = 4 * MAX_TRAP_BYTES
_ANCILLARY = socket.CMSG_SPACE(4 * 6 * MAX_INCOMING)
_UPCALL = int(Status.UPCALL)
# Plain numbers: an operation on members of an enum costs more than the system call they are for.
_WAITING = int(socket.MSG_CMSG_CLOEXEC)
_AT_ONCE = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
# Not by `signal.pthread_sigmask`, which makes a set of enum members of each mask: ten times the cost.
_SIG_SETMASK = 2
_SignalSet = ctypes.c_ulong * 16
_ALL_SIGNALS = _SignalSet(*[ctypes.c_ulong(-1).value] * 16)
_set_mask = ctypes.PyDLL(None).pthread_sigmask


class Own:
    """State of each strand: a poll object serves one at a time, and a wait speaks for its own strand."""

    spared = 0
    """How often `upcalls` need not look: a wait has just found nothing there, and the next one looks again."""

    waits = 0
    """How many waits it is in."""

    def __init__(self) -> None:
        """Start with no polls; as `_Owns`, this runs in each strand, when it first comes here."""
        self.polls: dict[tuple[Source, ...], Poll | ZmqPoll | RingPoll | select.poll] = {}


class _Owns(threading.local, Own):
    """The same for each of several strands, at the cost of finding out which one calls."""


class RealGate:
    """The program's end of the gate: a sequenced-packet socket. Implements `libexo.host.base.Gate`."""

    def __init__(self, gate: socket.socket) -> None:
        """Trap through *gate*."""
        self.own: Own = Own()
        """State of the only strand, until there are several."""
        self.kept: list[bytes] = []
        """Upcalls that came with the answers to traps, of which the socket will not tell again."""
        self.watched = gate.fileno()
        """The result of `fileno`."""
        self._socket = gate
        self._lock = threading.RLock()  # a signal's handler may trap, too
        self._buffer = mmap.mmap(-1, _ANSWER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        """Not of the heap: it takes memory only as far as long answers have filled it."""
        self._view = memoryview(self._buffer)
        self.shared = False
        """It is ready for several strands."""
        self.nudge = RealWaker()
        """Among what the main strand waits for: it ends waits that a signal's handler has interrupted."""
        self._bell: RealWaker | None = None
        self._watch: select.epoll | None = None

    def share(self) -> None:
        """Prepare for several strands. The first one calls this before there is another. Raises OSError."""
        with self._lock, contextlib.ExitStack() as opened:
            if self._bell is not None:
                return
            watch = opened.enter_context(select.epoll())
            bell = opened.enter_context(contextlib.closing(RealWaker()))
            watch.register(self._socket, select.EPOLLIN)
            watch.register(bell, select.EPOLLIN)
            opened.pop_all()
            self._watch, self._bell, self.watched = watch, bell, watch.fileno()
            self.shared = True
            self.own = _Owns()  # polls made before do not watch the bell
            if self.kept:
                bell.wake()

    def forked(self, why: str) -> None:
        """Close this process's copy of the gate, so that the kernel sees when the parent ends; and refuse."""
        os.close(self._socket.detach())
        self.nudge.close()
        refuse(self, why)

    def trap(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> tuple[bytes, list[Descriptor]]:
        """Send one trap and return the answer with its descriptors."""
        mask = _SignalSet()
        with self._lock:
            try:
                # A handler that raises between a question and its answer would leave them out of step.
                # One may still run right after this call; if it traps, it restores a mask of its own.
                _set_mask(_SIG_SETMASK, _ALL_SIGNALS, mask)
                try:  # noqa: SIM105 - to suppress it costs more than all the rest that is not the host's
                    self._send(data, descriptors)
                except BrokenPipeError:
                    pass  # the kernel's reason for closing it can still be read
                return self._answer()
            except OSError as error:
                raise GateClosed(f"the kernel closed the gate: {error.strerror}") from error
            finally:
                _set_mask(_SIG_SETMASK, mask, None)

    def post(self, data: bytes) -> None:
        """Send one trap that is not answered."""
        try:
            self._send(data, ())
        except OSError as error:
            raise GateClosed(f"the kernel closed the gate: {error.strerror}") from error

    def _send(self, data: bytes, descriptors: Sequence[Descriptor]) -> None:
        if not descriptors:
            try:
                self._socket.send(data)
            except BlockingIOError:
                self._until(select.POLLOUT)  # as in `_answer`
                self._socket.send(data)
            return
        numbers = cast("Sequence[int]", descriptors)
        try:
            socket.send_fds(self._socket, [data], list(numbers))
        finally:
            for number in numbers:
                os.close(number)

    def _answer(self) -> tuple[bytes, list[Descriptor]]:
        while True:
            try:
                data, descriptors = self._receive(_WAITING)
            except BlockingIOError:
                # An event loop that watches the gate (uvloop) made it one that does not wait.
                self._until(select.POLLIN)
                continue
            if data[0] != _UPCALL:
                return data, descriptors
            self.kept.append(data)
            if self._bell is not None:
                self._bell.wake()
            if self.own.waits:
                self.nudge.wake()

    def _until(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        poll.poll()

    def _receive(self, flags: int) -> tuple[bytes, list[Descriptor]]:
        """Receive one packet. Raises OSError; BlockingIOError when told not to wait and there is none."""
        receive = self._socket.recvmsg_into
        try:
            size, ancillary, _, _ = receive((self._buffer,), _ANCILLARY, flags)
        except ConnectionResetError:
            # The host tells first that our packet was not read, and then what the kernel had sent before.
            size, ancillary, _, _ = receive((self._buffer,), _ANCILLARY, flags)
        if not size:
            raise GateClosed("the kernel is gone, or ended this environment")
        return bytes(self._view[:size]), _numbers(ancillary) if ancillary else []

    def upcalls(self, *, surely: bool = False) -> list[bytes]:
        """Return upcalls that have arrived, without waiting: those kept, and one more."""
        own = self.own
        if (spared := own.spared) and not self.kept and not surely:
            own.spared = spared - 1
            return []
        with self._lock:
            try:
                self.kept.append(self._receive(_AT_ONCE)[0])
                while surely:
                    self.kept.append(self._receive(_AT_ONCE)[0])
            except BlockingIOError:
                pass
            except OSError as error:
                raise GateClosed(f"the kernel closed the gate: {error.strerror}") from error
            if not self.kept:
                return []
            arrived, self.kept = self.kept, []
            if self._bell is not None:
                self._bell.clear()
            return arrived

    def fileno(self) -> int:
        """Return the descriptor to wait on for upcalls."""
        return self.watched

    def close(self) -> None:
        """Leave."""
        self.watched = -1
        self.nudge.close()
        self._socket.close()
        if self._watch is not None and self._bell is not None:
            self._watch.close()
            self._bell.close()


def _numbers(ancillary: Iterable[tuple[int, int, bytes]]) -> list[Descriptor]:
    """Return the descriptors that came with a packet."""
    numbers = array.array("i")
    for _, _, content in ancillary:
        numbers.frombytes(content[: len(content) // 4 * 4])
    return list(numbers)

"""The host layer of a real process: a socket to the kernel, mmap, poll, eventfd."""

import array
import contextlib
import ctypes
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from kernel.abi.gate import Attach, Status
from kernel.abi.limits import MAX_TRAP_BYTES, MAX_TRAP_DESCRIPTORS
from libexo.errors import ExoError, GateClosed
from libexo.host.base import Descriptor, Source

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.transport.zmq import Poll, ZmqTransport

_ANSWER_BYTES = 4 * MAX_TRAP_BYTES
_ANCILLARY = socket.CMSG_SPACE(4 * 2 * MAX_TRAP_DESCRIPTORS)
_UPCALL = int(Status.UPCALL)
SPARED = 32
"""Messages that may be handled between two looks at the gate, where no wait looks at it."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
# Not by `signal.pthread_sigmask`, which makes a set of enum members of each mask: ten times the cost.
_SIG_SETMASK = 2
_SignalSet = ctypes.c_ulong * 16
_ALL_SIGNALS = _SignalSet(*[ctypes.c_ulong(-1).value] * 16)
_set_mask = ctypes.PyDLL(None).pthread_sigmask
_PROT_READ, _PROT_WRITE, _MAP_SHARED, _MAP_FIXED = 1, 2, 1, 16
_MAP_FAILED = ctypes.c_void_p(-1).value


class RealGate:
    """The program's end of the gate: a sequenced-packet socket. Implements `libexo.host.base.Gate`."""

    def __init__(self, gate: socket.socket) -> None:
        """Trap through *gate*."""
        self._socket = gate
        self._lock = threading.RLock()  # a signal's handler may trap, too
        self._upcalls: list[bytes] = []
        self._buffer = bytearray(_ANSWER_BYTES)
        self._view = memoryview(self._buffer)
        self.spared = 0
        """How often `upcalls` need not look: a wait has just found nothing here, and the next one looks again."""
        self._mask = _SignalSet()
        _set_mask(_SIG_SETMASK, None, self._mask)

    def trap(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> tuple[bytes, list[Descriptor]]:
        """Send one trap and return the answer with its descriptors."""
        with self._lock:
            try:
                # A handler that raises between a question and its answer would leave them out of step.
                _set_mask(_SIG_SETMASK, _ALL_SIGNALS, self._mask)
                with contextlib.suppress(BrokenPipeError):  # why the kernel closed it can still be read
                    self._send(data, cast("Sequence[int]", descriptors))
                return self._answer()
            except OSError as error:
                raise GateClosed(f"the kernel closed the gate: {error.strerror}") from error
            finally:
                _set_mask(_SIG_SETMASK, self._mask, None)

    def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        if not descriptors:
            try:
                self._socket.send(data)
            except BlockingIOError:
                self._until(select.POLLOUT)  # as in `_answer`
                self._socket.send(data)
            return
        try:
            socket.send_fds(self._socket, [data], list(descriptors))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _answer(self) -> tuple[bytes, list[Descriptor]]:
        while True:
            try:
                data, descriptors = self._receive(0)
            except BlockingIOError:
                # An event loop that watches the gate (uvloop) made it one that does not wait.
                self._until(select.POLLIN)
                continue
            if data[0] != _UPCALL:
                return data, descriptors
            self._upcalls.append(data)

    def _until(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        poll.poll()

    def _receive(self, flags: int) -> tuple[bytes, list[Descriptor]]:
        """Receive one packet. Raises OSError; BlockingIOError when told not to wait and there is none."""
        receive = self._socket.recvmsg_into
        try:
            size, ancillary, _, _ = receive((self._buffer,), _ANCILLARY, flags | socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # The host tells first that what we sent was not read, and then what the kernel had said before.
            size, ancillary, _, _ = receive((self._buffer,), _ANCILLARY, flags | socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content[: len(content) // 4 * 4])
        if not size:
            raise GateClosed("the kernel is gone, or ended this environment")
        return bytes(self._view[:size]), list(descriptors)

    def upcalls(self, *, surely: bool = False) -> list[bytes]:
        """Return the upcalls that have arrived, without waiting."""
        if self.spared and not self._upcalls and not surely:
            self.spared -= 1
            return []
        with self._lock:
            try:
                while True:
                    self._upcalls.append(self._receive(socket.MSG_DONTWAIT)[0])
            except BlockingIOError:
                pass
            except OSError as error:
                raise GateClosed(f"the kernel closed the gate: {error.strerror}") from error
            arrived, self._upcalls = self._upcalls, []
            return arrived

    @property
    def keeps(self) -> bool:
        """Whether upcalls came in with the answers to traps, so that the socket will not tell of them again."""
        return bool(self._upcalls)

    def fileno(self) -> int:
        """Return what to wait on for upcalls."""
        return self._socket.fileno()

    def close(self) -> None:
        """Leave."""
        self._socket.close()


class RealTicket:
    """One end of a ticket: an eventfd. Reading it takes everything posted, for one reader only."""

    def __init__(self, descriptor: int) -> None:
        """Use eventfd *descriptor*."""
        self._descriptor = descriptor

    def post(self, sequence: int) -> None:
        """Put message *sequence* up."""
        os.eventfd_write(self._descriptor, sequence)

    def claim(self) -> int:
        """Take what is posted, or 0."""
        try:
            return os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Give it up."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealHost:
    """A host process. Implements `libexo.host.base.Host`."""

    def __init__(self, gate: socket.socket, run: Path) -> None:
        """Trap through *gate*; the system's run directory is *run*."""
        self.gate = RealGate(gate)
        self.run = run
        self.environment: Environment | None = None
        self._polls: dict[tuple[Source, ...], Poll | select.poll] = {}
        self._at_gate = self.gate.fileno()

    @property
    def variables(self) -> Mapping[str, str]:
        """The environ the program was started with."""
        return os.environ

    @cached_property
    def transport(self) -> "ZmqTransport":
        """ZeroMQ over Unix sockets in the run directory; imported when first used."""
        from libexo.transport.zmq import ZmqTransport  # noqa: PLC0415

        return ZmqTransport(self.run)

    def now(self) -> int:
        """Return the host's monotonic time in nanoseconds."""
        return time.monotonic_ns()

    def map(self, descriptor: Descriptor, size: int, *, writable: bool) -> memoryview:
        """Map *size* bytes; the view unmaps them when nothing refers to it any more."""
        address = _mmap(None, cast("int", descriptor), size, writable=writable)
        memory = (ctypes.c_ubyte * size).from_address(address)
        weakref.finalize(memory, _libc.munmap, address, size).atexit = False
        view = memoryview(memory).cast("B")
        return view if writable else view.toreadonly()

    def remap(self, view: memoryview, descriptor: Descriptor, *, writable: bool) -> None:
        """Put new memory where *view* is."""
        address = ctypes.addressof(cast("ctypes.Array[ctypes.c_ubyte]", view.obj))
        _mmap(address, cast("int", descriptor), view.nbytes, writable=writable)

    def unmap(self, view: memoryview) -> None:
        """End a mapping: the memory goes with the last reference to it."""
        view.release()

    def ticket(self, descriptor: Descriptor) -> RealTicket:
        """Return the ticket a descriptor stands for."""
        return RealTicket(cast("int", descriptor))

    def close_descriptor(self, descriptor: Descriptor) -> None:
        """Close a descriptor that is not wanted."""
        os.close(cast("int", descriptor))

    def wait(self, sources: Sequence[Source], deadline: int | None) -> None:
        """Sleep until one of *sources* may have something, or until *deadline*."""
        if self.gate.keeps and self.gate in sources:
            self.gate.spared = 0
            return
        key = tuple(sources)
        poll = self._polls.get(key) or self._new_poll(key)
        if deadline is None:
            ready = poll.poll()
        else:
            ready = poll.poll(max(0, -(-(deadline - time.monotonic_ns()) // 1_000_000)))
        is_silent = not ready or self._at_gate not in dict(ready)
        self.gate.spared = SPARED if is_silent and self.gate in key else 0

    def _new_poll(self, key: tuple[Source, ...]) -> "Poll | select.poll":
        if len(self._polls) > 256:  # noqa: PLR2004 - sets of sources that were closed long ago
            self._polls.clear()
        if "transport" in vars(self):
            self._polls[key] = self.transport.poll(key)
            return self._polls[key]
        poll = self._polls[key] = select.poll()
        for source in key:
            poll.register(source.fileno(), select.POLLIN)
        return poll


def _mmap(address: int | None, descriptor: int, size: int, *, writable: bool) -> int:
    """Map *descriptor* and close it; at *address* where given. Raises OSError."""
    protection = _PROT_READ | (_PROT_WRITE if writable else 0)
    flags = _MAP_SHARED | (_MAP_FIXED if address is not None else 0)
    mapped = _libc.mmap(address, size, protection, flags, descriptor, 0)
    error = ctypes.get_errno()
    os.close(descriptor)
    if mapped == _MAP_FAILED:
        raise OSError(error, f"cannot map {size} bytes: {os.strerror(error)}")
    return int(mapped)


def inherited(descriptor: int, run: Path) -> RealHost:
    """Return the host of a process that was started with its gate open at *descriptor*."""
    return RealHost(socket.socket(fileno=descriptor), run)


def attached(run: Path, name: str) -> RealHost:
    """Return the host of a process that connects to the running system at *run* by itself."""
    gate = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        gate.connect(str(run / "gate"))
    except OSError as error:
        gate.close()
        raise ExoError(
            f"no system runs at {run} ({error.strerror}): start one with `exo up`, or set EXO_RUN"
        ) from error
    gate.send(msgspec.msgpack.encode(Attach(name)))
    return RealHost(gate, run)

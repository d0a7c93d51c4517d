"""The host layer of a real process: a socket to the kernel, mmap, poll, eventfd.

*Strands* are host threads; the gate they share is in `real_gate`.
"""

import ctypes
import errno
import os
import resource
import select
import socket
import threading
import time
import weakref
from _thread import _count as _strands  # `threading.active_count`, less the main one, takes a lock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from kernel.abi.gate import Attach
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.operators import OPERATOR_FILE, SECRET_BYTES
from libexo.errors import ExoError
from libexo.host import current
from libexo.host.base import MappedMemory, Opened, Part, Piece, Place, Tenant
from libexo.host.eventfds import RealBell, RealTicket, RealWaker
from libexo.host.guard import guard, zeros
from libexo.host.memory import Renewal, forget, put, sync, touch, unmap
from libexo.host.real_gate import Own, RealGate
from libexo.host.reserved import RealReserved
from libexo.host.ring_sources import is_ring_end
from libexo.transport.base import Descriptor, Source

if TYPE_CHECKING:
    from libexo.host.backing import RealBacking
    from libexo.host.ring_poll import RingPoll
    from libexo.transport.polling import Poll
    from libexo.transport.ring.ends import RingEnd
    from libexo.transport.zmq import ZmqTransport
    from libexo.transport.zmq_polling import ZmqPoll

T = TypeVar("T")

LOOKS = 2000
"""How often to look into a ring before sleeping: about as long as waking a sleeper takes. EXO_SPIN overrides it."""
RESERVE = 64
"""Descriptors kept for the program itself when others take them by binding to it."""
SPARED = 32
"""Messages that may be handled between two looks at the gate, where no wait looks at it."""

LONGEST_POLL = 1 << 30
"""Milliseconds that one wait lasts at most, twelve days: poll(2) takes an int. A longer wait is repeated."""

_PROCESSOR = 36
"""Field of /proc/PID/stat with the core it ran on last, counted from 0 behind the name (proc(5): 39)."""


class RealHost:
    """A host process. Implements `libexo.host.base.Host`."""

    def __init__(self, gate: socket.socket, run: Path) -> None:
        """Trap through *gate*; the system's run directory is *run*."""
        self.gate = RealGate(gate)
        self.run = run
        self.environment: Tenant | None = None
        self._transport: ZmqTransport | None = None
        self._lock = threading.RLock()
        self.spins = _spins(os.environ.get("EXO_SPIN", ""))

    def limited(self, does: Callable[[], T], seconds: float) -> T:
        """Call it, and interrupt it."""
        from libexo.host.patience import limited  # noqa: PLC0415 - one server has somebody else's code

        return limited(does, seconds)

    def imports(self) -> Descriptor | None:
        """Return a descriptor of the directory the program imports from first, to be passed on, if it has one."""
        number = os.environ.get("EXO_IMPORTS")
        return os.dup(int(number)) if number is not None else None

    def backing(self) -> "RealBacking | None":
        """Return the file the program was given to keep pages in, if it was; the variable goes."""
        number = os.environ.pop("EXO_SWAP", None)
        if number is None:
            return None
        from libexo.host.backing import RealBacking  # noqa: PLC0415 - for pagers only

        return RealBacking(int(number))

    @property
    def variables(self) -> Mapping[str, str]:
        """The environ the program was started with."""
        return os.environ

    @property
    def transport(self) -> "ZmqTransport":
        """ZeroMQ over Unix sockets in the run directory; imported when first used."""
        return self._transport or self._make_transport()

    def _make_transport(self) -> "ZmqTransport":
        from libexo.transport.zmq import ZmqTransport  # noqa: PLC0415

        with self._lock:
            if self._transport is None:
                self._transport = ZmqTransport(self.run)
            return self._transport

    now = staticmethod(time.monotonic_ns)
    """Return the host's monotonic time in nanoseconds."""
    consumed = staticmethod(time.process_time_ns)
    """Return the CPU time of this process, in nanoseconds."""

    def map(
        self,
        descriptor: Descriptor,
        size: int,
        *,
        writable: bool,
        opened: Opened | None = None,
        place: Place | None = None,
    ) -> memoryview:
        """Map *size* bytes; the view unmaps them when nothing refers to it any more."""
        number = cast("int", descriptor)
        if place is None:
            return _view_of(put(None, number, size, writable=writable, opened=opened), size, unmap, writable)
        reserved, offset = place
        assert isinstance(reserved, RealReserved)
        address = reserved.address + offset
        try:
            put(address, number, size, writable=writable, opened=opened)
        except BaseException:
            reserved.give_back(address, size)
            raise
        return _view_of(address, size, reserved.give_back, writable)

    def reserve(self, size: int) -> RealReserved:
        """Reserve addresses."""
        return RealReserved(size)

    def map_file(self, path: str, *, writable: bool) -> memoryview:
        """Map a file that the program may open; what is written to it is seen. Raises OSError."""
        access = os.O_RDWR if writable else os.O_RDONLY
        number = os.open(path, access | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        size = os.fstat(number).st_size
        if not size or (writable and os.lseek(number, 0, os.SEEK_HOLE) < size):
            os.close(number)
            if not size:
                return memoryview(b"")
            raise OSError(
                errno.ENOSPC, f"it has holes, for which there may be no room: fill them first: {path}"
            )
        return _view_of(put(None, number, size, writable=writable), size, unmap, writable=writable)

    def sync(self, view: memoryview, offset: int, size: int) -> None:
        """Have what was stored in a file's mapping be on its device. Raises OSError."""
        sync(self.address(view) + offset, size)

    def mapping(self, view: memoryview) -> "RealMapping":
        """Return the mapping of *view*. Raises ValueError."""
        return RealMapping(view)

    def address(self, view: memoryview) -> int:
        """Return where the mapping that *view* is of lies. Raises ValueError."""
        memory = self.mapping(view).memory()
        assert memory is not None
        return ctypes.addressof(memory)

    def store(self, view: memoryview, offset: int, data: bytes | memoryview) -> None:
        """Store *data* in a mapping."""
        view[offset : offset + len(data)] = data

    def touch(self, view: memoryview, offset: int, size: int, *, write: bool) -> None:
        """Load from each page, or add nothing to what is there: the host waits here for what is absent.

        Other strands run meanwhile.
        """
        start = self.address(view)
        for at in range(offset // FRAME_SIZE * FRAME_SIZE, offset + size, FRAME_SIZE):
            touch(start + at, write=write)

    def unsee(self, view: memoryview, offset: int, size: int) -> None:
        """Drop what the host's MMU knows of pages of a mapping."""
        forget(self.address(view) + offset, size)

    def remap(
        self,
        mapping: MappedMemory,
        descriptor: Descriptor,
        *,
        writable: bool,
        opened: Opened | None = None,
        part: Part | None = None,
    ) -> None:
        """Put new memory where *mapping* is, or part of it, if anything still refers to it."""
        assert isinstance(mapping, RealMapping)
        memory = mapping.memory()
        if memory is None:
            os.close(cast("int", descriptor))
        else:
            address, number = ctypes.addressof(memory), cast("int", descriptor)
            offset, size = part or (0, ctypes.sizeof(memory))
            put(address, number, size, writable=writable, opened=opened, offset=offset)

    def watch(
        self,
        view: memoryview,
        renew: Callable[[int], Piece],
        spared: Callable[[], bool],
        opened: Opened | None = None,
    ) -> None:
        """Have an access that finds the memory of *view* taken go on with its replacement, or with zeros."""
        renewal = Renewal(renew, opened)
        denied = renewal.denied if opened is not None else None
        guard(view, lambda *access: renewal(*access) or (spared() and zeros(*access)), denied)

    def unmap(self, view: memoryview) -> None:
        """End a mapping: the memory goes with the last reference to it."""
        view.release()

    def ticket(self, descriptor: Descriptor) -> RealTicket:
        """Return the ticket of a descriptor."""
        return RealTicket(cast("int", descriptor))

    def bell(self, wait: Descriptor, ring: Descriptor) -> RealBell:
        """Return the doorbells of two pipe ends."""
        return RealBell(cast("int", wait), cast("int", ring))

    def close_descriptor(self, descriptor: Descriptor) -> None:
        """Close a descriptor that is not wanted."""
        os.close(cast("int", descriptor))

    def wait(self, sources: Sequence[Source], deadline: int | None) -> bool:
        """Sleep until one of *sources* may have something, or until *deadline*; True: it is messages at most."""
        gate = self.gate
        if not gate.shared and _strands() and self.environment is not None:
            # Another thread may use the environment while we sleep, and take our news: let it wake us, too.
            self.environment.share()
            return False
        own, nudge = gate.own, gate.nudge
        if gate.kept and gate in sources:
            own.spared = 0
            for source in sources:
                if is_ring_end(source):  # a ring end: looking into it alone misses the gate
                    cast("RingEnd", source).found_others = True
            return False
        key = tuple(sources)
        poll = own.polls.get(key) or self._new_poll(key, own)
        if deadline is None:
            ready = poll.poll()
        else:
            left = -(-(deadline - time.monotonic_ns()) // 1_000_000)
            ready = poll.poll(min(max(0, left), LONGEST_POLL))
        if ready is None:
            return False
        own.spared = SPARED if gate in key else 0
        if not ready:
            return True
        for descriptor, _ in ready:
            if descriptor == gate.watched:
                own.spared = 0
            elif descriptor == nudge.fileno():
                nudge.clear()
        return False

    def nudge(self) -> None:
        """End the wait that a signal's handler, which calls this, has interrupted."""
        self.gate.nudge.wake()

    def _new_poll(self, key: tuple[Source, ...], own: Own) -> "Poll | ZmqPoll | RingPoll | select.poll":
        if len(own.polls) > 256:  # noqa: PLR2004 - sets of sources that were closed long ago
            own.polls.clear()
        # Handlers of signals run in the main strand.
        nudge = (self.gate.nudge,) if threading.current_thread() is threading.main_thread() else ()
        if any(map(is_ring_end, key)):
            from libexo.host.ring_poll import RingPoll  # noqa: PLC0415 - few programs have a ring

            own.polls[key] = RingPoll((*key, *nudge), self.now)
            return own.polls[key]
        if self._transport is not None and key:
            own.polls[key] = self._transport.poll((*key, *nudge))
            return own.polls[key]
        poll = own.polls[key] = select.poll()
        for source in (*key, *nudge):
            poll.register(source.fileno(), select.POLLIN)
        return poll

    def source_watch(self) -> "RingPoll":
        """Return a watch for an event loop."""
        from libexo.host.ring_poll import RingPoll  # noqa: PLC0415 - few programs have a loop

        return RingPoll((), self.now)

    def has_room(self, descriptor: Descriptor) -> bool:
        """Say whether more than RESERVE are left: the host gives the lowest free number."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return limit < 0 or cast("int", descriptor) + RESERVE < limit

    def cores(self) -> frozenset[int]:
        """Return the cores the calling strand may run on."""
        return frozenset(os.sched_getaffinity(0))

    def keep_on(self, cores: frozenset[int]) -> None:
        """Confine all threads of the process to *cores*; new ones inherit that."""
        for thread in os.listdir("/proc/self/task"):
            try:
                os.sched_setaffinity(int(thread), cores)
            except ProcessLookupError:
                continue  # it has ended
            except OSError as error:
                where = ", ".join(map(str, sorted(cores)))
                raise ExoError(f"the host does not let it choose core {where}: {error.strerror}") from error
        self.gate.own.polls.clear()  # waits for rings tell the other side our core, and rarely ask for it

    def processor_of(self, pid: int) -> int:
        """Return the core process *pid* ran on last, or -1."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return -1  # it is hidden, or gone
        return int(text.rpartition(")")[2].split()[_PROCESSOR])

    def waker(self) -> RealWaker:
        """Return a new waker."""
        return RealWaker()

    lends = True

    def leave(self) -> None:
        """Close the gate, and what sends."""
        self.gate.close()
        if self._transport is not None:
            self._transport.leave()

    def share(self) -> None:
        """Prepare for several strands."""
        self.gate.share()

    def forked(self, why: str) -> None:
        """Leave the gate to the parent, and refuse."""
        current.put(None)
        os.environ.pop("EXO_TRAP_FD", None)
        self.gate.forked(why)
        if self._transport is not None:
            self._transport.forked()

    def start_strand(self, function: Callable[[], object], name: str) -> None:
        """Start a daemon thread that runs *function*. Raises RuntimeError, OSError when the host has no more."""
        self.gate.share()

        def run() -> None:
            current.put(self)
            function()

        threading.Thread(target=run, name=name, daemon=True).start()


class RealMapping:
    """Mapped memory, by the array that all its views share. Implements `libexo.host.base.MappedMemory`."""

    def __init__(self, view: memoryview) -> None:
        """Be the mapping of *view*. Raises ValueError when it has none, or was released."""
        if not isinstance(view.obj, ctypes.Array):
            raise ValueError("the view is of no mapping of this program")  # noqa: TRY004 - it is a view, as asked
        self.memory = weakref.ref(view.obj)

    @property
    def used(self) -> bool:
        """Whether anything still refers to it."""
        return self.memory() is not None

    def covers(self, view: memoryview) -> bool:
        """Say whether *view* belongs to it."""
        return view.obj is self.memory()


def _view_of(address: int, size: int, gone: Callable[[int, int], object], writable: bool) -> memoryview:  # noqa: FBT001
    """Return a view of what lies there; *gone* is called when nothing refers to it any more."""
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, gone, address, size).atexit = False
    view = memoryview(memory).cast("B")
    return view if writable else view.toreadonly()


def _spins(variable: str) -> int:
    """Return how often to look into a ring, by what EXO_SPIN says. Raises ExoError."""
    if variable and not variable.isdecimal():
        raise ExoError(
            f"EXO_SPIN={variable}: how often to look into a ring before sleeping is a number from 0"
        )
    return int(variable) if variable else LOOKS


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
    gate.send(msgspec.msgpack.encode(Attach(name, _secret(run))))
    return RealHost(gate, run)


def _secret(run: Path) -> bytes:
    """Return the operators' secret; empty: we may not read it, and our uid may be enough."""
    try:
        return (run / OPERATOR_FILE).read_bytes()[:SECRET_BYTES]
    except OSError:
        return b""

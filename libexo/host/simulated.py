"""The host layer of a program on the simulated machine.

libexo does not import the machine: it stands on the `Ground`, the part of a simulated body that its
own program sees. Every wait and trap hands the baton on; nothing here blocks a host thread otherwise.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.program import Program, Role
from libexo.errors import ExoError
from libexo.host import current
from libexo.host.base import Done, MappedMemory, Opened, Part, Place, Tenant
from libexo.host.ground import Doorbells, Ground, Stored
from libexo.host.ring_sources import RingSources
from libexo.host.simulated_bells import SimulatedBell, SimulatedTicket
from libexo.host.simulated_gate import GATE_KEY, SimulatedGate, SimulatedWaker
from libexo.transport.base import Descriptor, Source, Transport

if TYPE_CHECKING:
    from libexo.transport.ring.duplex import Duplex
    from libexo.transport.ring.ends import RingEnd

T = TypeVar("T")

_ONE_CORE = frozenset((0,))


class SimulatedWatch(RingSources):
    """The wait of an event loop. Implements `libexo.host.base.SourceWatch`."""

    def __init__(self, key: int, has_news: Callable[[int], bool], known: "dict[int, SimulatedWatch]") -> None:
        """Use *key*, and be among those *known*; *has_news* tells whether another key has something."""
        self._key = key
        self._has_news = has_news
        self._known = known
        self._others: list[int] = []
        self._bells: list[tuple[RingEnd, int, Duplex]] = []

    def watch(self, sources: Sequence[Source]) -> None:
        """Wait for *sources*, and nothing else, from now on."""
        self._others = [source.fileno() for source in self.part(sources)]

    def prepare_to_sleep(self) -> bool:
        """Announce our sleep. True: there is something to do instead."""
        self._bells = [(ring, key, line) for ring in self._rings for key, line in ring.bells().items()]
        return any(ring.prepare_to_sleep() for ring in self._rings)

    @property
    def has_news(self) -> bool:
        """Whether one of its sources has something."""
        return any(map(self._has_news, self._others)) or any(self._has_news(key) for _, key, _ in self._bells)

    def wake(self) -> None:
        """Announce that we are awake."""
        for ring in self._rings:
            with suppress(ValueError):  # it was closed meanwhile
                ring.wake(0)
            ring.found_others = True
        for ring, key, line in self._bells:
            if self._has_news(key):
                ring.rung(line)

    def fileno(self) -> int:
        """Return its key."""
        return self._key

    def close(self) -> None:
        """Stop watching."""
        del self._known[self._key]


class SimulatedReserved:
    """Addresses on the simulated machine, where mappings have their own and none lies beside another."""

    def view(self, offset: int, size: int, mapped: Sequence[memoryview]) -> memoryview:
        """Raise ExoError: a view is of one mapping."""
        raise ExoError(f"{len(mapped)} mappings in one view: on the simulated machine a view is of one")

    def protect(self, view: memoryview, offset: int, size: int, *, writable: bool) -> None:
        """Do nothing: views that there are stay as they are."""


class SimulatedBacking:
    """A file of the simulated host: all is done at once, and told later. Implements `libexo.host.base.Backing`."""

    def __init__(self, file: Stored, host: "SimulatedHost") -> None:
        """Keep bytes of mappings of *host* in *file*."""
        self.size = len(file.data)
        self._file = file
        self._host = host
        self._waker = host.waker()
        self.fileno = self._waker.fileno
        self._finished: list[tuple[Done, int]] = []

    def read_now(self, _offset: int, _view: memoryview, _at: int, _size: int) -> bool:
        """Have nothing in the host's memory."""
        return False

    def read(self, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Read *size* bytes into *view*."""
        self._do(done, lambda: self._host.store(view, at, self._file.pread(offset, size)))

    def write(self, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Write *size* bytes of *view*."""
        self._do(done, lambda: self._file.pwrite(offset, bytes(view[at : at + size])))

    def _do(self, done: Done, deed: Callable[[], object]) -> None:
        number = 0
        try:
            deed()
        except OSError as error:
            number = error.errno or errno.EIO
        except ValueError:  # the memory was taken
            number = errno.EFAULT
        self._finished.append((done, number))
        self._waker.wake()

    def settle(self) -> None:
        """Tell who asked for what is finished."""
        self._waker.clear()
        finished, self._finished = self._finished, []
        for done, number in finished:
            done(number)


class SimulatedHost:
    """One program's ground. Implements `libexo.host.base.Host`."""

    spins = 0
    lends = False

    def __init__(self, ground: Ground, transport: Transport, ready: Callable[[int], bool]) -> None:
        """Stand on *ground*; *transport* carries its messages, *ready* says whether one of its keys is."""
        self._ground = ground
        self._ready = ready
        self.gate = SimulatedGate(ground)
        self.environment: Tenant | None = None
        self._transport = transport
        self._keys = count(GATE_KEY - 1, -1)
        self._awake: set[int] = set()
        self._doorbells: dict[int, Doorbells] = {}
        self._watches: dict[int, SimulatedWatch] = {}

    @property
    def variables(self) -> Mapping[str, str]:
        """The environ the program was started with."""
        return dict(self._ground.program.environ)

    @property
    def transport(self) -> Transport:
        """The carrier of this program's messages."""
        return self._transport

    @property
    def program(self) -> Program:
        """The program's arguments and environment variables, as it was started."""
        return self._ground.program

    @property
    def name(self) -> str:
        """The name it was started under."""
        return self._ground.name

    def given(self, role: int) -> Descriptor | None:
        """Return the descriptor the program was started with for *role*, if any."""
        return self._ground.given(role)

    def backing(self) -> SimulatedBacking | None:
        """Return the file the program was given to keep pages in, if it was."""
        file = self._ground.file(int(Role.SWAP))
        return SimulatedBacking(file, self) if file is not None else None

    def now(self) -> int:
        """Return virtual time in nanoseconds."""
        return self._ground.now()

    def consumed(self) -> int:
        """Return what the machine accounted to it."""
        return self._ground.consumed()

    def limited(self, does: Callable[[], T], seconds: float) -> T:
        """Return what it *does*: on the simulated machine nothing takes time."""
        del seconds
        return does()

    def imports(self) -> Descriptor | None:
        """Return none: all programs share what is imported."""

    def burn(self, nanoseconds: int) -> None:
        """Compute for that long: the simulated machine's stand-in for a loop."""
        self._ground.burn(nanoseconds)

    def reserve(self, size: int) -> "SimulatedReserved":
        """Reserve nothing: what is mapped lies where the machine puts it."""
        return SimulatedReserved()

    def map_file(self, path: str, *, writable: bool) -> memoryview:
        """Raise ExoError: there are no files."""
        raise ExoError(f"{path}: the simulated machine has no files")

    def sync(self, view: memoryview, offset: int, size: int) -> None:
        """Raise ExoError: there are no files."""
        raise ExoError("the simulated machine has no files")

    def map(
        self,
        descriptor: Descriptor,
        size: int,
        *,
        writable: bool,
        opened: Opened | None = None,
        place: Place | None = None,
    ) -> memoryview:
        """Map *size* bytes; the descriptor is consumed. Memory that is paged has *opened* called."""
        view = self._ground.map(descriptor, size, writable=writable)
        if opened is not None:
            opened(self._ground.address(view))
        return view

    def mapping(self, view: memoryview) -> MappedMemory:
        """Return the mapping of *view*. Raises ValueError."""
        return self._ground.mapping(view)

    def address(self, view: memoryview) -> int:
        """Return where the mapping that *view* is of lies. Raises ValueError when it is of none."""
        return self._ground.address(view)

    def store(self, view: memoryview, offset: int, data: bytes | memoryview) -> None:
        """Store *data* in a mapping, whose pages are there then."""
        self.touch(view, offset, len(data), write=True)
        view[offset : offset + len(data)] = data

    def touch(self, view: memoryview, offset: int, size: int, *, write: bool) -> None:
        """Access each page of *size* bytes of a mapping, from *offset* of it; all are there at once at the end."""
        pages = range(offset // FRAME_SIZE * FRAME_SIZE, offset + size, FRAME_SIZE)
        while absent := [ready for at in pages if (ready := self._ground.touch(view, at, write=write))]:
            self._ground.wait(absent[0], None)

    def unsee(self, view: memoryview, offset: int, size: int) -> None:
        """Drop what the MMU knows of pages of a mapping."""
        self._ground.unsee(view, offset, size)

    def remap(
        self,
        mapping: MappedMemory,
        descriptor: Descriptor,
        *,
        writable: bool,
        opened: Opened | None = None,
        part: Part | None = None,
    ) -> None:
        """Put new memory where *mapping* is, or part of it; the descriptor is consumed."""
        self._ground.remap(mapping, descriptor, part, writable=writable)
        if opened is not None:
            opened(self._ground.place(mapping))

    def watch(self, view: memoryview, renew: object, spared: object, opened: object = None) -> None:
        """Do nothing: an access to memory that was taken raises at once."""

    def unmap(self, view: memoryview) -> None:
        """End a mapping."""
        self._ground.unmap(view)

    def ticket(self, descriptor: Descriptor) -> SimulatedTicket:
        """Return the ticket of a descriptor, which is consumed."""
        return SimulatedTicket(self._ground.ticket(descriptor))

    def bell(self, wait: Descriptor, ring: Descriptor) -> SimulatedBell:
        """Return the doorbells of two descriptors; both are consumed."""
        return SimulatedBell(next(self._keys), self._ground.bell(wait, ring), self._doorbells)

    def close_descriptor(self, descriptor: Descriptor) -> None:
        """Close a descriptor that is not wanted."""
        close = getattr(descriptor, "close", None)
        if close is None:
            raise TypeError(f"{descriptor!r} is not a descriptor")
        close()

    def wait(self, sources: Sequence[Source], deadline: int | None) -> bool:
        """Hand over until one of *sources* has something, or until *deadline*."""
        watch, own = self.source_watch(), self.gate.own
        watch.watch(sources)
        try:
            if not watch.prepare_to_sleep():
                self._ground.wait(lambda: watch.has_news or own.is_nudged, deadline)
        finally:
            own.is_nudged = False
            watch.wake()
            watch.close()
        return False

    def nudge(self) -> None:
        """End the wait of the calling strand."""
        self.gate.own.is_nudged = True

    def source_watch(self) -> "SimulatedWatch":
        """Return a watch for an event loop."""
        key = next(self._keys)
        watch = self._watches[key] = SimulatedWatch(key, self.has_news, self._watches)
        return watch

    def has_news(self, key: int) -> bool:
        """Say whether the source of *key* has something."""
        if key >= GATE_KEY:
            return self.gate.ready() if key == GATE_KEY else self._ready(key)
        known = self._doorbells.get(key) or self._watches.get(key)
        return key in self._awake if known is None else known.has_news

    def has_room(self, descriptor: Descriptor) -> bool:
        """Return True: the simulated host has room for any number."""
        return True

    def cores(self) -> frozenset[int]:
        """Return the one core there is: programs on the simulated machine run one at a time."""
        return _ONE_CORE

    def keep_on(self, cores: frozenset[int]) -> None:
        """Keep the program on the one core there is. Raises ExoError for any other."""
        if cores != _ONE_CORE:
            raise ExoError(f"the simulated machine runs all programs on core 0, not on {sorted(cores)}")

    def processor_of(self, pid: int) -> int:
        """Return the one core there is."""
        return 0

    def waker(self) -> SimulatedWaker:
        """Return a new waker."""
        return SimulatedWaker(next(self._keys), self._awake)

    def leave(self) -> None:
        """Close the gate."""
        self.gate.close()

    def share(self) -> None:
        """Do nothing: strands are always prepared for one another."""

    def forked(self, why: str) -> None:
        """Do nothing: nothing forks here."""
        raise AssertionError(why)

    def start_strand(self, function: Callable[[], object], name: str) -> None:
        """Start a strand that runs *function*; it first runs when another one hands over."""

        def run() -> None:
            current.put(self)
            function()

        self._ground.start_strand(run, name)

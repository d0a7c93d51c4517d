"""The seam between libexo and its ground: trapping, mapping, waiting, and the time.

`libexo.host.real` is a host process with a socket to the kernel; `libexo.host.simulated` is a thread of the
simulated machine. Nothing else in libexo reads a clock, sleeps or opens a descriptor.

A program starts with one thread of execution, its main strand, and may start more *strands*. They share all that
is here. Each waits for itself. A wait that includes the gate ends for every strand when upcalls have arrived,
whichever strand's trap brought them. The program ends with its main strand.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from libexo.transport.base import Bell, Descriptor, Source, Ticket, Transport

T = TypeVar("T")


class Waker(Protocol):
    """Wakes a strand that waits for it. It stays awake until it is cleared.

    The strand that is woken clears it first, and then looks for the reason: a later reason wakes again.
    """

    def fileno(self) -> int:
        """Return the descriptor to wait on. Raises ValueError once it is closed."""

    def wake(self) -> None:
        """End every wait for it; any strand of the program may call it. Harmless when it was closed."""

    def clear(self) -> None:
        """Let waits last again."""

    def close(self) -> None:
        """Give it up; no strand may be waiting for it."""


class MappedMemory(Protocol):
    """Mapped memory: it lasts as long as the view that `Host.map` returned, or anything derived from that."""

    @property
    def used(self) -> bool:
        """Whether anything still refers to it."""

    def covers(self, view: memoryview) -> bool:
        """Say whether *view* belongs to it: the view itself, a slice, a cast. Raises ValueError once released."""


class Own(Protocol):
    """State of one strand at the gate."""

    waits: int
    """How many waits it is in: more than one where the handler of a signal waits, too."""


class Gate(Protocol):
    """The program's end of the trap gate."""

    @property
    def own(self) -> Own:
        """The state of the calling strand."""

    def trap(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> tuple[bytes, list[Descriptor]]:
        """Send one trap and return the answer (status byte first) with its descriptors.

        *descriptors* go along with the trap, and are consumed. Traps of several strands are made one by one.
        Upcalls that arrive meanwhile are kept for `upcalls`. Raises GateClosed when the kernel is gone.
        """

    def post(self, data: bytes) -> None:
        """Send one trap that is not answered. Raises GateClosed when the kernel is gone."""

    def upcalls(self, *, surely: bool = False) -> list[bytes]:
        """Return the packets of upcalls that have arrived, without waiting for more. Each comes out once.

        Unless *surely*, some may be left for next time: the next wait does not last then.
        """

    def fileno(self) -> int:
        """Return the descriptor to wait on for upcalls; another one once the program has several strands."""

    def close(self) -> None:
        """Leave."""


class Tenant(Protocol):
    """The tenant of a host: the environment of its program."""

    def share(self) -> None:
        """Prepare for several threads of the host."""


class SourceWatch(Protocol):
    """The wait of an event loop, in place of `Host.wait`: one descriptor for all sources, rings included."""

    @property
    def has_rings(self) -> bool:
        """Whether there is a ring end among the sources."""

    def watch(self, sources: Sequence[Source]) -> None:
        """Wait for *sources*, and nothing else, from now on."""

    def prepare_to_sleep(self) -> bool:
        """Announce our sleep. True: there is something to do instead."""

    def rings_have_news(self) -> bool:
        """Say whether there is something to do in a ring after all; a closed one counts."""

    def wake(self) -> None:
        """Announce that we are awake."""

    def fileno(self) -> int:
        """Return the descriptor that tells of news; a stable key (simulated)."""

    def close(self) -> None:
        """Stop watching."""


class Reserved(Protocol):
    """Addresses that nothing else gets; what is mapped there lies where it was told to."""

    def view(self, offset: int, size: int, mapped: Sequence[memoryview]) -> memoryview:
        """Return *size* bytes from *offset*, in which *mapped* lie and stay. Raises ExoError."""

    def protect(self, view: memoryview, offset: int, size: int, *, writable: bool) -> None:
        """Have a write to *size* bytes of a mapping that lies here, from its *offset* on, be a fault, or not."""


Place = tuple[Reserved, int]
"""Where to map: an offset from where reserved addresses begin."""
Done = Callable[[int], object]
"""Told that what was asked is done: 0, or the number of the host's error."""


class Backing(Protocol):
    """A file of the host in which a program keeps bytes of mappings. Nothing here waits for it.

    It is a source: a wait ends when something is finished, and `settle` tells who asked. *at* is where the mapping
    of *view* begins to be read into, or written from.
    """

    size: int

    def read_now(self, offset: int, view: memoryview, at: int, size: int) -> bool:
        """Read *size* bytes from *offset* on, if the host has them in its memory; say whether it had."""

    def read(self, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Read *size* bytes from *offset* on; *done* may be called before this returns."""

    def write(self, offset: int, view: memoryview, at: int, size: int, done: Done) -> None:
        """Write *size* bytes from *offset* on; *done* may be called before this returns."""

    def fileno(self) -> int:
        """Return the descriptor to wait on."""

    def settle(self) -> None:
        """Tell who asked for what is finished."""


Opened = Callable[[int], object]
"""Called with the address of memory that is paged, when it lies there and before anybody can touch it."""


Part = tuple[int, int]
"""Of a mapping: where it begins, and how many bytes it has."""


class Piece(NamedTuple):
    """New memory of part of a mapping."""

    descriptor: Descriptor
    writable: bool
    part: Part


class Host(Protocol):
    """The ground."""

    environment: Tenant | None
    """Its tenant, once there is one; `libexo.attach` finds it here."""

    lends: bool
    """Threads of the host that are not strands of ours may use it: they are lent an IPC thread."""

    spins: int
    """How often to look into shared memory before sleeping; 0 where no other program runs meanwhile."""

    @property
    def gate(self) -> Gate:
        """The way into the kernel."""

    @property
    def transport(self) -> Transport:
        """The carrier of messages between threads."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The environ the program was started with."""

    def limited(self, does: Callable[[], T], seconds: float) -> T:
        """Return what somebody else's code *does* in *seconds* of CPU time; in the first thread. Raises TooSlow."""

    def imports(self) -> Descriptor | None:
        """Return a descriptor of the directory the program imports from first, to be passed on, if it has one."""

    def backing(self) -> Backing | None:
        """Return the file the program was given to keep pages in, if it was: once."""

    def now(self) -> int:
        """Return monotonic time in nanoseconds, on the kernel's clock."""

    def consumed(self) -> int:
        """Return the CPU time the program used, in ns, by the account that the kernel goes by."""

    def map(
        self,
        descriptor: Descriptor,
        size: int,
        *,
        writable: bool,
        opened: Opened | None = None,
        place: Place | None = None,
    ) -> memoryview:
        """Map *size* bytes, at *place* or anywhere; the descriptor is consumed. Paged: *opened* is called."""

    def reserve(self, size: int) -> Reserved:
        """Reserve addresses for *size* bytes, as long as anything refers to them. Raises OSError."""

    def map_file(self, path: str, *, writable: bool) -> memoryview:
        """Map a file of the host, to be read or also written. Raises OSError, ExoError where there are none."""

    def sync(self, view: memoryview, offset: int, size: int) -> None:
        """Have what was stored in a file's mapping be on its device. Raises OSError, ExoError, ValueError."""

    def mapping(self, view: memoryview) -> MappedMemory:
        """Return the mapping of *view*, without keeping it. Raises ValueError when there is none."""

    def address(self, view: memoryview) -> int:
        """Return where the mapping that *view* is of lies. Raises ValueError when it is of none."""

    def store(self, view: memoryview, offset: int, data: bytes | memoryview) -> None:
        """Store *data* in a mapping that nobody pages for us."""

    def touch(self, view: memoryview, offset: int, size: int, *, write: bool) -> None:
        """Access each page of *size* bytes of a mapping, so that they are there, writable if asked.

        *offset* is from where the mapping begins. A system call finds what is there only; on the simulated machine
        any use of paged memory comes after this, with nothing between that waits.
        """

    def unsee(self, view: memoryview, offset: int, size: int) -> None:
        """Have whole pages of a mapping that nobody pages for us be found anew when they are touched again.

        Until then it is not us who keeps them from being seen as unused.
        """

    def remap(
        self,
        mapping: MappedMemory,
        descriptor: Descriptor,
        *,
        writable: bool,
        opened: Opened | None = None,
        part: Part | None = None,
    ) -> None:
        """Put new memory where *mapping* is, or part of it, so that every view goes on; consume the descriptor."""

    def watch(
        self,
        view: memoryview,
        renew: "Callable[[int], Piece]",
        spared: "Callable[[], bool]",
        opened: "Opened | None" = None,
    ) -> None:
        """Have an access to *view* that finds its memory taken go on with the memory that *renew* returns.

        *renew* is asked for the piece of memory in which a byte lies. Where it raises ExoError
        the access finds zeros if the program is *spared*, and otherwise ends as it would have. So it does on a
        machine where an access cannot wait, such as the simulated one.
        """

    def unmap(self, view: memoryview) -> None:
        """End a mapping made by `map`."""

    def ticket(self, descriptor: Descriptor) -> Ticket:
        """Return the ticket of a descriptor, which is consumed."""

    def bell(self, wait: Descriptor, ring: Descriptor) -> Bell:
        """Return the doorbells of which *wait* and *ring* are ends; both descriptors are consumed."""

    def close_descriptor(self, descriptor: Descriptor) -> None:
        """Close a descriptor that is not wanted."""

    def wait(self, sources: Sequence[Source], deadline: int | None) -> bool:
        """Sleep until one of *sources* may have something, or until *deadline* (ns); it may end early, after days.

        True: nothing but messages has come; the gate, if it is one of *sources*, has no news.
        Ends of rings (`libexo.transport.ring.ends`) are looked into for a while first, and told of the sleep.
        """

    def nudge(self) -> None:
        """End the wait that the calling strand is in: a signal's handler calls this, which has interrupted it."""

    def source_watch(self) -> SourceWatch:
        """Return what an event loop waits for."""

    def has_room(self, descriptor: Descriptor) -> bool:
        """Say whether the host, which lent *descriptor* last, lends this program more than a few yet."""

    def cores(self) -> frozenset[int]:
        """Return the cores the program may run on."""

    def keep_on(self, cores: frozenset[int]) -> None:
        """Confine the program, all its strands, to *cores*. Raises ExoError when the host does not let it."""

    def processor_of(self, pid: int) -> int:
        """Return the core process *pid* ran on last, or -1 if it cannot be found out."""

    def waker(self) -> Waker:
        """Return a new waker, which `wait` takes as a source."""

    def leave(self) -> None:
        """Leave the system: close the gate, and send what the transport still has to send."""

    def share(self) -> None:
        """Prepare for several strands. The first one calls this before there is another. Raises OSError."""

    def forked(self, why: str) -> None:
        """Refuse, and say *why*: the process was forked from the one of this ground."""

    def start_strand(self, function: Callable[[], object], name: str) -> None:
        """Start a strand that runs *function*, on this same ground; *name* is for people.

        What *function* raises ends that strand alone: it is printed as `threading.excepthook` does, or kept by the
        simulated machine. SystemExit ends it silently.
        """

"""The machine, as the kernel sees it: RAM, processors, a clock, interrupt lines, and bodies to run programs in.

Two machines stand behind these interfaces: `hwmodel.real` (memfds, host processes, signals, epoll) and
`hwmodel.simulated` (byte arrays, threads of which one runs at a time, a virtual clock, a seed). The kernel
never learns which one it has.

A *descriptor* is what the machine lets a program hold and pass on: a host file descriptor, or an object. The
caller that gets one from a method here owns it and closes it; `Port.send` consumes those it is given.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from hwmodel.presence import Presence, Switches
from kernel.abi.errors import Fault
from kernel.abi.program import Activity, Program


class Exhausted(Exception):
    """The host lends no more of what was asked for; nothing has changed."""


Deed = Iterator[None]
"""Host calls that may take long, a piece at each step; the machine does them outside its loop. Raises Exhausted.

While a deed is under way, nobody else touches what it works on: that is for who asked for it to see to.
"""


def do(deed: Deed) -> None:
    """Do a short deed here and now. Raises Exhausted."""
    for _ in deed:
        pass


class Descriptor(Protocol):
    """A right the host enforces."""

    def close(self) -> None:
        """Give it up. Closing twice is harmless."""

    def duplicate(self) -> "Descriptor":
        """Return another descriptor of the same thing."""

    def posted(self) -> bool:
        """Say whether something can be taken from it: of a ticket, that a message is up."""


class Alarm(Protocol):
    """A call at a given time."""

    def cancel(self) -> None:
        """Cancel the call. Harmless afterwards."""


class Clock(Protocol):
    """Monotonic time in nanoseconds."""

    def now(self) -> int:
        """Return the time."""

    def alarm(self, at: int, callback: Callable[[], None]) -> Alarm:
        """Call *callback* once, from the machine's loop, at the time *at* or later."""


class Page(Protocol):
    """Memory of the kernel that programs may map: the KIP, environment pages, the event ring."""

    @property
    def buffer(self) -> memoryview:
        """The bytes, writable."""

    def descriptor(self, *, writable: bool) -> Descriptor:
        """Return a descriptor by which to map it; without *writable* it cannot be mapped for writing."""

    def close(self) -> None:
        """Free it."""


class Backing(Protocol):
    """The memory of one extent."""

    def descriptor(self, *, writable: bool) -> Descriptor:
        """Return a descriptor by which to map it; without *writable* it cannot be mapped for writing."""

    def word(self, at: int) -> int | None:
        """Return the 64-bit word at byte *at*, in one piece; None: it is being taken, or cannot be read."""

    def fill(self) -> Deed:
        """Overwrite what frames used before still hold; comes before anybody maps it."""

    def copy(self) -> Deed:
        """Copy the contents to new memory, for `replace`. Raises Exhausted: then nothing has changed.

        Writes during the copy may be missing from it.
        """

    @property
    def copied(self) -> bool:
        """Whether there is a copy, for `replace`."""

    def forget_copy(self) -> None:
        """Free the copy. Harmless when there is none."""

    def replace(self) -> Deed:
        """Become the copy, or without one empty, and take the old memory from all who have it mapped (SIGBUS)."""

    def split(self, page: int) -> "tuple[Backing, Deed, Deed]":
        """Return new memory for the pages from *page* on, what copies them there, and then takes them from all.

        It has the frames that are behind. Raises Exhausted, as the copying does: then nothing has changed.
        """

    def seal(self) -> tuple[Descriptor, Deed]:
        """Become new, empty memory that nobody can cut, not even the kernel; return a writable descriptor of it.

        The deed then takes the old memory from all. Raises Exhausted: nothing has changed.
        """

    def unseal(self) -> None:
        """Become new, empty memory that can be taken back; sealed memory is left to those who have it mapped."""

    def release(self) -> Deed:
        """Take the memory from all who have it mapped, and free it; sealed memory is left as by `unseal`."""

    def punch(self, first: int, count: int) -> Deed:
        """Take pages *first*.. from everybody who has them mapped; they are absent again. Raises Exhausted."""


class PageFault(NamedTuple):
    """A program touched a page of a watched range that it cannot use; the thread that did waits."""

    address: int
    """Of the page, in the program."""
    write: bool
    protected: bool
    """The page is there, and protected against the write."""


class AddressSpace(Protocol):
    """The memory of one body, as far as the kernel pages it.

    What is asked is done in order, later perhaps: a program can keep waiting who does it, and the kernel does not
    wait. Nothing fails when the body has ended. What lies in a watched range is the program's
    affair; whatever it is, only the program itself sees another thing than it was shown. Addresses and sizes are
    whole pages.
    """

    def watch(
        self, address: int, size: int, done: Callable[[bool | Exhausted], object], *, writable: bool
    ) -> None:
        """Let the faults of a mapping come to the kernel; tell *done* whether there is such a mapping."""

    def unwatch(self, address: int, size: int) -> None:
        """Let the host answer the faults of the range again, and wake who waits there."""

    def place(
        self, address: int, size: int, failed: Callable[[Exhausted | None], object], *, writable: bool
    ) -> None:
        """Show the program what is in the memory mapped there, and wake it.

        Until *writable*, a write is a fault. A page it sees stays. *failed* is told when the host has no room, and
        with None when a page of the memory is absent.
        """

    def protect(self, address: int, size: int, failed: Callable[[Exhausted], object]) -> None:
        """Make a write to pages the program sees a fault; *failed* is told when the host has no room for that."""

    def age(self, address: int, size: int, told: Callable[[bytes | Exhausted], object]) -> None:
        """Take pages from the program's view, not from memory: the next access to each is a fault.

        *told* gets a byte a page: 1 where the program sees it nevertheless, for somebody else does, or the host
        would not. It gets Exhausted where the host does not do that at all.
        """

    def poison(self, address: int, size: int, failed: Callable[[Exhausted | None], object]) -> None:
        """Make every access to an absent page end in SIGBUS, and wake who waits.

        *failed* is told when the host has no room for that, and with None when something is there.
        """

    def wake(self, address: int, size: int) -> None:
        """Have who waits there try again."""

    def settled(self, done: Callable[[], object]) -> None:
        """Call *done* when all that was asked until now has been done."""

    def told(self, pager: "Body") -> None:
        """The fault that was just heard was told to *pager*: the two may be brought together while they talk."""


class Memory(Protocol):
    """Physical RAM: numbered frames."""

    @property
    def frames(self) -> int:
        """The number of frames."""

    def carve(self, first: int, count: int, *, zero: bool, pages: int = 0) -> Backing:
        """Make frames *first*.. into memory of its own: zeros, or what `Backing.fill` makes of it.

        With *pages* it has as many pages, and the kernel sees to it that no more are there than frames.
        """


class Endpoint(Protocol):
    """The receiver's end of one binding: a listening socket that takes one connection."""

    name: str
    """Its name in the run directory until the sender has connected: nobody can list or guess it."""

    def take(self) -> Descriptor:
        """Return the listening socket, at which the one connection waits; the caller owns it."""

    def close(self) -> None:
        """Remove it, unless it was taken. Twice is harmless."""


class Interrupts(Protocol):
    """The interrupt controller: numbered lines. A line that is raised while masked stays pending."""

    @property
    def lines(self) -> int:
        """The number of lines."""

    def connect(self, handler: Callable[[int], None]) -> None:
        """Call *handler* with the line's number for each interrupt that gets through."""

    def mask(self, line: int) -> None:
        """Hold the line's interrupts back. All lines start masked."""

    def unmask(self, line: int) -> None:
        """Let them through; a pending one follows at once."""

    def trigger(self, line: int) -> None:
        """Raise the line, as its device does."""


class Port(Protocol):
    """The kernel's end of one gate."""

    def send(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> bool:
        """Send one packet, without waiting; the descriptors are consumed. False: the peer does not read.

        A peer that is gone counts as one that has read it: it ends for a reason of its own.
        Raises Exhausted for limits of the host that are no fault of the peer's.
        """

    def offer(self, data: bytes) -> bool:
        """Send one packet that may wait: only while half of the room is left, for answers. False: not now."""

    def has_asked(self) -> bool:
        """Say whether the peer has sent a packet that is not answered: it waits to be read, or the port is held."""

    def hold(self) -> None:
        """Read no packet until `resume`: what the peer sends waits."""

    def resume(self) -> None:
        """Read packets again. Harmless when it is closed."""

    def close(self) -> None:
        """Close this end."""


class Body(Protocol):
    """An environment on the machine: a host process, or a simulated thread."""

    port: Port
    uid: int
    pid: int
    """Host process id; 0 until it is started."""
    owned: bool
    """The machine started it, and ends it; otherwise it attached by itself."""
    space: AddressSpace | None
    """Its memory, where the kernel can page it; known when it has started."""
    presence: Presence | None
    """Whether it wants its core, as of the last `Switches.read`; None: nobody tells."""

    def pause(self) -> None:
        """Take its processor away until `resume`."""

    def resume(self) -> None:
        """Let it run."""

    def move(self, core: int) -> Deed:
        """Confine it to host *core* from now on; the deed moves what runs already."""

    def signal(self, number: int) -> None:
        """Send host signal *number*, for a caller that may command it.

        A stop holds, whatever `resume` lets run, until a continue comes this way; a paused body stays paused.
        """

    def kill(self) -> None:
        """End it, whatever it is doing; `Supervisor.ended` follows for an owned one."""

    def consumed(self) -> int:
        """Return the CPU time it used, in nanoseconds, by the host's own account."""

    def activity(self) -> Activity:
        """Its activity. A paused body counts as running, unless a signal has stopped it."""

    def traced(self) -> bool:
        """Whether a debugger has it, running or not."""

    def discard(self) -> None:
        """Forget it: its port is closed, its process id and uid may be used again."""


class Supervisor(Protocol):
    """The kernel, as the machine sees it. All calls come from the machine's loop, one at a time."""

    def trap(self, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
        """A packet came through the gate of *body*. The kernel owns the descriptors."""

    def broke(self, body: Body, fault: Fault, detail: str) -> None:
        """*body* did what no program may: it sent a packet longer than a trap, or kept the machine waiting."""

    def started(self, body: Body) -> None:
        """The program of *body* runs; its `pid` is known."""

    def failed(self, body: Body, reason: str) -> None:
        """The program of *body* could not be started."""

    def ended(self, body: Body, status: int) -> None:
        """*body* ended; *status* as `os.waitstatus_to_exitcode` counts."""

    def faulted(self, body: Body, fault: PageFault) -> None:
        """A thread of *body* waits for a page."""

    def attached(self, body: Body, data: bytes) -> None:
        """A program connected to the gate and sent its first packet; by the host, its uid is `body.uid`."""

    def stop(self) -> None:
        """The host asks the system to end."""


class Machine(Protocol):
    """The whole machine."""

    uid: int
    """The host's user id of the kernel itself."""
    pid: int
    """The host's process id of the kernel itself."""
    secret: bytes
    """The operators' secret: unguessable, and readable only to those who may read the kernel's own files."""

    @property
    def clock(self) -> Clock:
        """Its clock."""

    @property
    def memory(self) -> Memory:
        """Its RAM."""

    @property
    def interrupts(self) -> Interrupts:
        """Its interrupt controller."""

    @property
    def cores(self) -> Sequence[int]:
        """The host core of each processor; its index is the processor's number."""

    def switches(self, core: int) -> Switches[Body]:
        """Return the record of the switches of *core*."""

    @property
    def grace(self) -> float | None:
        """Seconds that the host's request to end gives for it; None: it names none."""

    @property
    def frequencies(self) -> Sequence[tuple[int, int]]:
        """Internal and external frequency of each processor in kHz; 0: the host does not tell."""

    def soon(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, in a later turn of the loop: one such call a turn, in order."""

    def late(self) -> bool:
        """Say whether this turn of the loop should end: whatever can wait is left to a later one."""

    def measure(self, turns: memoryview) -> None:
        """Keep in *turns* how long turns of the loop take (`Head.TURN_TRAP`); its owner writes the first word."""

    def work(self, deed: Deed, done: Callable[[Exhausted | None], None]) -> None:
        """Do *deed* outside the loop, in turn with others; then call *done* from the loop with its outcome."""

    def spare(self) -> None:
        """Raise Exhausted when the host lends hardly more than the restart of a server needs."""

    def file(self, path: str, size: int = 0) -> Descriptor:
        """Return a descriptor by which to read the file or directory *path* of the host. Raises OSError.

        With a *size*, one of a new file of so many bytes in that directory, which has no name.
        """

    def page(self, name: str, size: int) -> Page:
        """Return zeroed memory of the kernel."""

    def publish(self, name: str, page: Page) -> None:
        """Let every user of the host read *page* under *name* in the run directory."""

    def endpoint(self, connected: Callable[[], None]) -> Endpoint:
        """Return a new listening socket. Raises Exhausted.

        *connected* is called from the machine's loop, once a sender has connected: then the name is gone.
        """

    def console(self) -> Descriptor:
        """Return the listening socket that operators connect to: `console` in the run directory."""

    def ticket(self) -> tuple[Descriptor, Descriptor]:
        """Return a new ticket for two parties, from which exactly one takes what either posted. Raises Exhausted.

        Neither can change how the other's descriptor works, or make it wait.
        """

    def bell(self) -> tuple[Descriptor, Descriptor]:
        """Return a new doorbell: the end to wait on, and the end to ring. Raises Exhausted.

        Neither end can silence the other, keep it full, or take what is for it. When all descriptors of one
        end are closed, the other one knows.
        """

    def token(self) -> bytes:
        """Return 16 unguessable bytes, the first not zero."""

    def launch(
        self,
        number: int,
        name: str,
        program: Program,
        descriptors: list[Descriptor],
        *,
        cpu: int,
        urgent: bool = False,
    ) -> Body:
        """Start a program as environment *number*; under a plan (*cpu* >= 0) it starts paused.

        Others wait for an *urgent* one: the host is asked to prefer it to programs.
        Returns at once; `Supervisor.started` or `failed` follows. It raises Exhausted, or consumes the descriptors.
        """

    def run(self, supervisor: Supervisor) -> None:
        """Run until `stop`."""

    def stop(self) -> None:
        """Make `run` return."""

    def close(self) -> None:
        """End every body and remove every trace of the machine from the host."""

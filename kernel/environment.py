"""The records of environments, threads and bindings: each names the other two.

An environment is the unit of protection: one body on the machine, one uid, one table of capabilities, its threads.
Life: created (its program is being started), ready, dead. One made by ThreadControl is an X.2 address space: it
no body before its first thread is activated. When it ends, everything it had returns: frames, handles,
threads, end points, slices, bindings, names, uid. Only an environment that `keeps` leaves its capabilities and
its thread number to a successor. The record of its end stays while a capability to it exists.

A thread sends, and can be sent to. Every environment has a first thread, the main thread of its host process, and
ends with it. It may have more: each has its own number and bindings, and shares everything else.
A thread may do what its environment may do; the kernel does not ask which of them made a trap.
An *inactive* thread has a number and a space, and cannot be reached. Its first pager makes it active.
"""

from collections import deque
from copy import copy
from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import NIL_THREAD, ThreadId, show_thread, thread_number
from kernel.abi.kip import UTCB_SIZE, WAIT_WORDS, EnvironmentState, Page, ThreadState, Wait
from kernel.abi.limits import MAX_SPACE_THREADS
from kernel.abi.messages import STATUS_BIAS
from kernel.abi.program import Activity
from kernel.abi.rights import Kind, Rights
from kernel.abi.space import UTCB_AREA
from kernel.budget import Budget
from kernel.capability import Capability, Owed, Resource, Table
from kernel.errors import Refused
from kernel.jobs import Latch
from kernel.rings import Ring
from kernel.starts import Starts

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwmodel.machine import Body, Descriptor, Machine
    from hwmodel.machine import Page as MachinePage

_REPOSSESSED = Page.SLICE_BEGAN - Page.REPOSSESSED_LIST
_WORD = (1 << 64) - 1
DESCRIPTORS, RING_DESCRIPTORS = 4, 6
"""What the kernel holds for a binding at the most: its end point, the receiver's tickets, and a look into one of
them; with a ring, the receiver's ends of the doorbells as well."""


class Thread:
    """One thread of one environment."""

    __slots__ = (
        "active", "arrived", "environment", "id", "incoming", "living", "pager", "row", "scheduler", "told",
        "utcb",
    )  # fmt: skip

    def __init__(self, thread: ThreadId, environment: "Environment") -> None:
        """Make *thread*, inactive, in *environment*; it lives when `Threads.enter` has taken it."""
        self.id = thread
        self.environment = environment
        self.pager = NIL_THREAD
        self.scheduler = NIL_THREAD
        self.utcb = 0
        """Address of its UTCB, which is its local id; 0: none yet."""
        self.row = -1
        """Its row in its environment's page, which says for whom it waits; -1: it is not active."""
        self.living = False
        self.active = False
        self.incoming: dict[bytes, Binding] = {}
        """Bindings to it."""
        self.arrived: dict[bytes, Binding] = {}
        """Those that have connected and were not handed over yet, oldest first."""
        self.told = False
        """It was told of such bindings, and has not asked for them since."""

    def __repr__(self) -> str:
        """Show id and environment."""
        return f"<Thread {show_thread(self.id)} of {self.environment.name}>"

    def record(self) -> "Thread":
        """Return its record once it is gone, which is of no environment."""
        left = copy(self)
        del left.environment
        return left

    @property
    def number(self) -> int:
        """Its number, which it keeps when it is renamed."""
        return thread_number(self.id)

    @property
    def exposed(self) -> tuple[int, ...]:
        """Its row in the exposed table."""
        environment, state = self.environment, ThreadState.ACTIVE if self.active else ThreadState.INACTIVE
        redirector = environment.redirector.id if environment.redirector is not None else NIL_THREAD
        return self.id, environment.number + 1, state, self.pager, self.scheduler, redirector


class Binding:
    """One thread's right to send to another."""

    __slots__ = (
        "endpoint", "home", "intended", "look", "receiver", "receivers", "ring", "sender", "senders", "token",
    )  # fmt: skip

    def __init__(
        self,
        machine: "Machine",
        sender: Thread,
        receiver: Thread,
        intended: Thread,
        connected: "Callable[[Binding], None]",
    ) -> None:
        """Bind *sender* to *receiver*, to reach *intended*; *connected* is called when the sender has connected.

        Raises Exhausted.
        """
        self.sender = sender
        self.home = sender.environment
        """The table it is in, also when its sender has been moved."""
        self.receiver = receiver
        self.intended = intended
        self.token = machine.token()
        self.ring: Ring | None = None
        self.senders: list[Descriptor] = []
        self.receivers: list[Descriptor] = []
        """Both tickets of both sides, for sending and for answering, until they are handed over."""
        self.look: list[Descriptor] = []
        """The send ticket, which tells whether a message is up: a copy, once the tickets are handed over."""
        self.endpoint = machine.endpoint(lambda: connected(self))
        try:
            for _ in range(2):
                one, other = machine.ticket()
                self.senders.append(one)
                self.receivers.append(other)
        except Exhausted:
            self.close()
            raise
        self.look = self.receivers[:1]

    @property
    def descriptors(self) -> int:
        """Descriptors the kernel holds for it."""
        return DESCRIPTORS if self.ring is None else RING_DESCRIPTORS

    @property
    def ring_size(self) -> int:
        """Bytes of its ring memory; 0: it has none."""
        return self.ring.size if self.ring is not None else 0

    @property
    def identity(self) -> traps.Identified:
        """What its receiver is told of it."""
        sender, environment = self.sender, self.sender.environment
        redirected = self.receiver is not self.intended
        family = environment.budget.family or -1 - environment.number
        return traps.Identified(sender.id, environment.number, redirected, self.ring_size, family)

    def hand_over(self) -> "list[Descriptor]":
        """Return the receiver's descriptors, once. Raises Exhausted: then they are still here."""
        if self.look == self.receivers[:1]:
            self.look = [self.look[0].duplicate()]
        ring = self.ring.share() if self.ring is not None else []
        receivers, self.receivers = self.receivers, []
        return [self.endpoint.take(), *receivers, *ring]

    def close(self) -> None:
        """Close what was not handed over."""
        self.endpoint.close()
        for ticket in (*self.senders, *self.receivers, *self.look):
            ticket.close()
        if self.ring is not None:
            self.ring.close()


class Environment(Resource):
    """One environment; also the resource an ENVIRONMENT capability is to."""

    kind = Kind.ENVIRONMENT

    launched = False
    """It has a body."""
    serves = False
    """It was started as a server."""
    ending = False
    """Its first thread was deleted: its further traps are not done."""

    def __init__(
        self,
        number: int,
        name: str,
        thread: ThreadId,
        cpu: int,
        may_bind: frozenset[int],
        budget: Budget,
        on_unwatched: "Callable[[Environment], None]",
    ) -> None:
        """Make environment *number* without a body; *on_unwatched* is called when its last watcher is gone."""
        self.number = number
        self.name = name
        self.first = Thread(thread, self)
        """The main thread of its program: the environment ends with it."""
        self.threads: dict[int, Thread] = {}
        """Its living threads, by number."""
        self.redirector: Thread | None = None
        """The thread that gets what its threads send to others; once that is gone, they can send to nobody."""
        self.utcb_area: range | None = UTCB_AREA
        """Where the UTCBs of its threads are; None: the space is not initialised."""
        self.kip_area = range(0)
        self.cpu = cpu
        self.may_bind = may_bind
        self.family: object = object()
        """Common to the spaces that ThreadControl made of each other: they may send to one another."""
        self.budget = budget
        self.owes = Owed()
        """The offers that count against its budget."""
        self.keeps = False
        self.table = Table(self)
        self.offered: dict[Capability, None] = {}
        """The offers made to it."""
        self.frames = 0
        self.outgoing: dict[bytes, Binding] = {}
        self.backlog: deque[bytes] = deque()
        self.state = EnvironmentState.STARTING
        self.status = 0
        self.fault = 0
        self.detail = ""
        self.started = 0
        self.starts = Starts()
        """What its programs were started with, for a successor."""
        self.held = False
        """The boot loader promised it a successor, which comes later."""
        self.over = False
        """Its end is complete: from now on only its watchers keep the record."""
        self.ended = Latch()
        """Opens then."""
        self.watchers: dict[Capability, None] = {}
        self._on_unwatched = on_unwatched
        self.body: Body
        self.shared: MachinePage
        """The environment page."""
        self.page: memoryview
        """The environment page, as words."""

    def __repr__(self) -> str:
        """Show number, name and state."""
        return f"<Environment {self.number} {self.name} {self.state.name.lower()}>"

    @property
    def thread(self) -> ThreadId:
        """The id of its first thread, its name to others."""
        return self.first.id

    @property
    def uid(self) -> int:
        """The host's user id of the body, 0 while there is none."""
        return self.body.uid if self.launched else 0

    @property
    def pid(self) -> int:
        """The host process id of the body, 0 before it is started."""
        return self.body.pid if self.launched else 0

    @property
    def consumed(self) -> int:
        """CPU time used under a plan, in ns; of others, readers ask the host."""
        return self.body.consumed() if self.cpu >= 0 and self.alive and self.launched else 0

    @property
    def activity(self) -> Activity:
        """What it does, as the machine sees it."""
        if not (self.alive and self.launched):
            return Activity.WAITS if self.alive else Activity.ENDED
        doing = Activity.TRACED if self.body.traced() else self.body.activity()
        return Activity.RUNS if doing is Activity.WAITS and self.body.port.has_asked() else doing

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.state is not EnvironmentState.DEAD

    @property
    def end(self) -> tuple[int, ...]:
        """How it ended, as PARTNER_GONE tells it; empty while it lives."""
        return () if self.alive else (self.status + STATUS_BIAS, int(self.fault))

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return thread, activity, and how it ended."""
        text = f"{self.name}: {self.detail}" if self.detail else self.name
        return self.thread, int(self.activity), self.status, self.fault, text

    def exposed(self, traps: int) -> tuple[int | bytes, ...]:
        """Return its row in the exposed table; *traps* is how many it made."""
        row = self.state, self.uid, self.pid, self.cpu, self.thread, self.started, self.consumed, traps
        return *row, self.frames, self.table.used, self.fault, self.budget.family or 0, self.name.encode()

    def gained(self, capability: Capability) -> None:
        """Note one watcher more."""
        self.watchers[capability] = None

    def lost(self, capability: Capability) -> None:
        """Note one watcher less; with the last, the record of a dead environment goes."""
        del self.watchers[capability]
        if self.over:
            self._on_unwatched(self)

    @property
    def privileged(self) -> bool:
        """Whether it may do what X.2 leaves to privileged threads: it may create environments."""
        return any(c.resource.kind is Kind.FACTORY and c.rights & Rights.CONTROL for c in self.table)

    # ---------------------------------------------------------------------------------- whom it may send to

    def check_may_bind(self, other: "Environment") -> None:
        """Refuse unless this environment may send to *other*. Answers go back over the caller's binding."""
        self.check_list(other)
        if self.leads(other.first) is not other.first:
            raise Refused(Refusal.MAY_NOT_BIND, f"what {self.name} sends to {other.name} is redirected")

    def check_list(self, other: "Environment") -> None:
        """Refuse unless *other* has a thread that this environment may call by its list.

        It may always call its own family, and the environments it commands.
        """
        if not self.may_bind or other.family is self.family or self.commands(other):
            return
        if self.may_bind.isdisjoint(other.threads):
            raise Refused(Refusal.MAY_NOT_BIND, f"{self.name} may not call {other.name}")

    def commands(self, other: "Environment") -> bool:
        """Say whether this environment may end *other*; if so, it may also ask for its heartbeat."""
        return any(c.holder is self and c.rights & Rights.CONTROL for c in other.watchers)

    def route(self, thread: Thread) -> Thread:
        """Return the thread that gets what this environment sends to *thread*. Raises Refused if there is none."""
        receiver = self.leads(thread)
        if receiver is None:
            raise Refused(Refusal.NO_REDIRECTOR, self.name)
        return receiver

    def leads(self, thread: Thread) -> Thread | None:
        """Return the thread that gets what this environment sends to *thread*; None: the redirector is gone."""
        redirector = self.redirector
        if redirector is None or thread.environment is self:
            return thread
        if not redirector.living:
            return None
        return thread if thread.environment is redirector.environment else redirector

    def calls(self, other: "Environment") -> bool:
        """Say whether this environment is bound to *other*, which may then answer it."""
        return any(binding.receiver.environment is other for binding in self.outgoing.values())

    # ------------------------------------------------------------------------------------------ its threads

    def free_utcb(self) -> int:
        """Return the first free location of the UTCB area. Raises Refused when there is none."""
        taken = {thread.utcb for thread in self.threads.values()}
        area = self.utcb_area or range(0)
        free = (location for location in range(area.start, area.stop, UTCB_SIZE) if location not in taken)
        if (location := next(free, None)) is None:
            raise Refused(Refusal.BAD_UTCB, f"the UTCB area of {self.name} is full")
        return location

    def keep(self, starts: Starts) -> None:
        """Keep *starts* for its successors from now on, and close the others it kept."""
        self.budget.hold(Item.DESCRIPTORS, starts.held - self.starts.held)
        self.starts.close(but=starts)
        self.starts = starts

    # ------------------------------------------------------------------------------------------ its page

    def give_row(self, thread: Thread, awaits: int) -> None:
        """Give *thread*, active from now on, a row of the page, with *awaits*, from which it receives at first."""
        taken = {other.row for other in self.threads.values()}
        thread.row = next(row for row in range(MAX_SPACE_THREADS) if row not in taken)
        self.write_row(thread, thread.id, awaits)

    def take_row(self, thread: Thread) -> None:
        """Take the row of *thread*, which is gone from here."""
        if thread.row >= 0:
            self.write_row(thread, 0, 0)
        thread.row = -1

    def write_row(self, thread: Thread, number: int, awaits: int) -> None:
        """Write for whom *thread* waits, and, last, whose row it is."""
        at = Page.WAITS + thread.row * WAIT_WORDS
        self.page[at + Wait.FOR], self.page[at + Wait.SENDS], self.page[at + Wait.THREAD] = awaits, 0, number

    def repossess(self, capability: Capability) -> None:
        """Write what was taken by force into the environment page."""
        if not self.alive:
            return
        count = self.page[Page.REPOSSESSED]
        self.page[Page.REPOSSESSED_LIST + count % _REPOSSESSED] = capability.handle
        self.add(Page.REPOSSESSED)

    def add(self, word: Page) -> None:
        """Add one to *word* of the environment page, in which the program may have written anything."""
        self.page[word] = (self.page[word] + 1) & _WORD

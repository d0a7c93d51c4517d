"""One IPC of one thread: a send phase, a receive phase, or both; and the one function by which each goes on.

    while not operation.advance():
        host.wait(operation.sources(), operation.deadline)        # `Operation.run`

A face says what to send, from which thread to receive, and what becomes of a message (`accept`, `answered`):
`libexo.ipc` waits as above, `libexo.aio` advances many as its event loop comes round, X.2 (`libexo.l4`) has a
time-out for each phase and may be aborted. In which order to look at what came back, at the gate, the inbox, an
abort and the time is decided here, and nowhere else.

A call goes over from sending to receiving when it is known to be taken. Its receiver answers it, or another thread,
or, if only the link fell, the receiver by a message of its own.
"""

from typing import TYPE_CHECKING, Any, NoReturn

from kernel.abi.ids import (
    ANY_LOCAL_THREAD,
    ANY_THREAD,
    KERNEL_PREDICATES,
    NIL_THREAD,
    USER_BASE,
    is_local,
    show_thread,
    thread_number,
    thread_version,
)
from kernel.abi.messages import IpcCode, PacketKind, Phase
from libexo.errors import IpcError, IpcTimeout, NoPartner, NoRedirector
from libexo.ipc.exchange import Exchange, Outgoing, State
from libexo.ipc.standing import LOOK

if TYPE_CHECKING:
    from libexo.ipc.rendezvous import Rendezvous
    from libexo.transport.base import Source

LOOK_AGAIN = 5_000_000
"""How often to look after a partner whose end the kernel does not report, as behind a redirector, in ns."""
SOON = 25_000
"""Half of how long it is waited before the first of such looks, in ns."""
_OPEN = (ANY_THREAD, ANY_LOCAL_THREAD)
_BOTH = {Phase.SEND, Phase.RECEIVE}


class Operation:
    """One IPC. This one takes messages as they are, with all their items."""

    is_eager = False
    """Other threads of the environment may interfere: the gate is looked at before it is waited for, too."""
    # What an ordinary one need not set.
    aborted: frozenset[Phase] = frozenset()
    """The phases another thread asked to abort."""
    told = False
    """The receiver of the call reports when it takes it."""
    holds = False
    """When the time is over, a receiver that waits is held on to for a while, until it says that it took it."""
    brings_items = False
    """The message is taken in more than one step: an abort meanwhile is no time-out."""
    polls = 0
    """When a receive phase of almost no time is over: a message on its way is waited for a little longer."""
    woken = False
    """It was waited for."""
    watch: "tuple[Source, ...]" = ()
    """It is over when one of these may have something, too."""
    result: Any = None
    _bound: int = NIL_THREAD
    """The partner of a closed receive to which we are bound, so as to hear of its end."""
    _heard = True
    """The kernel reports that end; else we look."""
    _look = 0
    """When to look again, whatever happens."""
    _pause = SOON
    """How long it was waited before such a look, in ns."""
    _changes = 0
    """Of the core, before the last look."""

    def __init__(
        self,
        core: "Rendezvous",
        exchange: Exchange | None = None,
        source: int = NIL_THREAD,
        until: int | None = None,
        why: str = "",
        *,
        accepts: int | None = None,
    ) -> None:
        """Send *exchange*, if that is something, then receive from *source* (nilthread: what answers it, only).

        *until*: when the time is over, *why* in an error; *accepts*: how many capabilities a message may bring.
        """
        self.core = core
        self.exchange = exchange
        self.source = source
        self.until = until
        self.why = why
        self.accepts = accepts
        self.phase = Phase.RECEIVE if exchange is None else Phase.SEND

    # --------------------------------------------------------------------------------------------- for a driver

    def advance(self) -> bool:
        """Go on as far as that goes without waiting; True: it is over, with a result. Raises IpcError."""
        exchange, self._changes = self.exchange, self.core.changes
        if isinstance(exchange, Outgoing):
            if self.woken or self.is_eager or not exchange.link.shows_all:
                self.core.pump_link(exchange.link)
                if exchange.reply is not None:
                    self.result = exchange.to, exchange.reply
                    return True
            elif exchange.state is State.POSTED:
                return False  # to wait is to look
        elif exchange is not None:
            self.core.look()
        if exchange is not None and exchange.state is State.OVER:
            return self.settle()
        if self.woken or self.is_eager or (exchange is None and self.core.must_look()):
            self.core.pump_gate()
        return self.settle()

    def settle(self) -> bool:
        """Go on with what was taken in already; otherwise as `advance`."""
        exchange = self.exchange
        if self._look:
            self._look = 0
        if exchange is not None and self._has_ended(exchange):
            return True
        if self.aborted:
            self._check_abort()
        source = self.awaited
        if source and self._received(source):
            return True
        if self.watch and self.woken:
            return True
        self._look_after()
        exchange = self.exchange
        return exchange is not None and exchange.state is State.OVER and self.settle()

    @property
    def deadline(self) -> int | None:
        """When to go on even though nothing has happened."""
        look, until = self._look, self.until
        return look if look and (until is None or look < until) else until

    def sources(self) -> "tuple[Source, ...]":
        """Return the sources that may bring what it waits for."""
        core, exchange = self.core, self.exchange
        if not isinstance(exchange, Outgoing):
            return (*core.outside, core.inbox or core.open_inbox(), *self.watch)
        if exchange.state is State.FORWARDED or (self.source and exchange.kind == PacketKind.CALL):
            return (exchange.link.channel, *core.outside, core.open_inbox())
        return (exchange.link.channel, *core.outside)

    def run(self) -> Any:  # noqa: ANN401 - whatever its face makes of a message
        """Wait until it is over; return its result. Raises IpcError, GateClosed, Ended."""
        try:
            while not self.advance():
                self.sleep()
        except IpcError:
            self.abandon()
            raise
        return self.result

    def sleep(self) -> None:
        """Wait until it may go on."""
        self.core.sleep(self.sources(), self.deadline, self._changes)
        self.woken = True

    @property
    def finds_no_room(self) -> bool:
        """Whether its message did not go: there are too many on the way, or too long ones."""
        error = self.exchange.error if self.exchange is not None else None
        return error is not None and error.code == IpcCode.OVERFLOW

    # ---------------------------------------------------------------------------- what differs from face to face

    def accept(self, source: int) -> bool:
        """Take a message from *source*; say whether there was one."""
        received = self.core.take(source, self.accepts)
        self.result = received
        return received is not None

    def answered(self, call: Outgoing) -> None:
        """Take the answer to *call*."""
        self.result = call.to, call.reply

    def sent(self) -> None:
        """The message was taken as a whole."""

    def begin_receiving(self) -> None:
        """The send phase is over, and well."""
        self.phase = Phase.RECEIVE
        self.aborted -= {Phase.SEND}

    # ------------------------------------------------------------------------------------------------ another's

    def abort(self, phases: set[Phase]) -> None:
        """Abort it, for another thread, if it is in one of *phases*: what comes now is too late."""
        self.aborted |= {phase for phase in phases if self.phase is phase}
        exchange = self.exchange
        if self.aborted and isinstance(exchange, Outgoing):
            exchange.claim(self._known_phase(exchange))

    def check_abort(self, phase: Phase) -> None:
        """Raise IpcError where *phase* was aborted."""
        if phase in self.aborted:
            self._cancel(phase)

    def abandon(self) -> None:
        """End it: its message is withdrawn if it can be."""
        exchange, self.exchange = self.exchange, None
        if isinstance(exchange, Outgoing) and exchange.state is not State.OVER:
            self.core.abandon(exchange)

    # ------------------------------------------------------------------------------------------------ send phase

    @property
    def awaited(self) -> int:
        """The thread whose message would end it now; nilthread: none."""
        exchange = self.exchange
        if exchange is None:
            return self.source
        return exchange.forwarded_to if exchange.state is State.FORWARDED else NIL_THREAD

    @property
    def partner(self) -> int:
        """Who is to take its message, to answer, or to send it one (X.2); nilthread: nobody."""
        exchange = self.exchange
        return exchange.to if isinstance(exchange, Outgoing) else self.source

    def _has_ended(self, exchange: Exchange) -> bool:
        """Look at the state of our message; True: the operation is over. Raises its error."""
        state = exchange.state
        if state is State.OVER:
            if exchange.error is not None and not self._comes_otherwise(exchange):
                raise exchange.error
            return self._go_over(exchange)
        if not isinstance(exchange, Outgoing):
            return False
        if state is not State.POSTED and self.phase is Phase.SEND:
            self.begin_receiving()
        if state is State.FORWARDED:
            self.sent()
        elif self.source and exchange.kind == PacketKind.CALL and self._is_overtaken(exchange):
            self.source = exchange.to
            return self._go_over(exchange)
        return False

    def _go_over(self, exchange: Exchange) -> bool:
        """The message was taken: the receive phase begins, if there is one. True: there is none left."""
        self.sent()
        if isinstance(exchange, Outgoing) and (exchange.reply or exchange.answer) is not None:
            self.phase = Phase.RECEIVE
            self.answered(exchange)
            return True
        if self.phase is Phase.SEND and self.source:
            self.begin_receiving()
        self.exchange = None
        return not self.source

    def _is_overtaken(self, call: Outgoing) -> bool:
        """Say whether a message that satisfies the receive phase came before the answer to *call*.

        A third thread may have sent it in the partner's name. The answer will come as a message of its own.
        """
        if not self.core.has(call.to):
            return False
        phase = self.core.withdraw(call, Phase.RECEIVE)
        if phase is Phase.SEND:  # taken back by the thread that aborted it
            self._cancel(phase)
        return phase is not None

    def _comes_otherwise(self, call: Exchange) -> bool:
        """Say whether *call*, which failed, only lost its link: the thread that will answer can still send to us.

        A binding falls when the redirector changes. The answer will come as a message of its own.
        """
        error = call.error
        if not self.source or call.kind != PacketKind.CALL or not isinstance(error, NoPartner):
            return False
        answers = call.forwarded_to or call.to
        if error.phase is Phase.SEND or not isinstance(call, Outgoing) or not call.link.fallen:
            return False
        if self.core.kip.thread(answers) is None:
            return False
        self.source = answers
        return True

    # ----------------------------------------------------------------------------------------------- receive phase

    def _received(self, source: int) -> bool:
        """Look for a message from *source*; True: it is taken. Raises NoPartner if none can come."""
        core = self.core
        closed = source not in _OPEN and source != core.thread
        if closed and self._bound != source:
            self._keep_bound(source)
        if (self.woken or core.must_look()) and self.accept(source):
            self.abandon()
            return True
        if closed and not (self._heard and self._is_known(source)):
            self._keep_bound(source)
        if not self._heard:
            self._look = core.now() + LOOK_AGAIN
        return False

    def _is_known(self, source: int) -> bool:
        return thread_number(source) < USER_BASE or self.core.links.known(source) is not None

    def _keep_bound(self, source: int) -> None:
        """Bind to the one partner of a closed receive, so that the kernel says when it is gone.

        Raises NoPartner when there is none. Behind a redirector, or if a forwarded call's partner takes no binding
        of ours, we look after it ourselves.
        """
        self._bound, self._heard = source, True
        number = thread_number(source)
        if number < USER_BASE and (thread_version(source) == 1 or number == KERNEL_PREDICATES):
            return
        if is_local(source):
            raise NoPartner(Phase.RECEIVE, f"no thread here has local id {source:#x}")
        self._heard = False
        try:
            self._heard = self.core.link(source).receiver == source
        except NoRedirector:
            pass
        except NoPartner as gone:
            if self.exchange is None:
                raise NoPartner(Phase.RECEIVE, str(gone)) from gone
        if not self._heard and self.core.kip.thread(source) is None:
            raise NoPartner(Phase.RECEIVE, f"there is no thread {show_thread(source)}")

    # ---------------------------------------------------------------------------------------------- aborts and time

    def _check_abort(self) -> None:
        """End it if its phase was aborted, or plan the next try."""
        exchange = self.exchange
        if exchange is None or exchange.state is State.FORWARDED:
            self.check_abort(Phase.RECEIVE)
        elif not isinstance(exchange, Outgoing):
            if Phase.SEND in self.aborted:
                raise IpcError(IpcCode.ABORTED, Phase.SEND, "aborted while the answer was taken")
        elif self.aborted & (_BOTH if (only := self._known_phase(exchange)) is None else {only}):
            try:
                again = self.core.give_up(exchange, "before it was aborted", only)
            except IpcTimeout as withdrawn:
                self._cancel(withdrawn.phase)
            if self.phase is Phase.SEND and self.brings_items:
                self.abandon()
                raise IpcError(IpcCode.ABORTED, Phase.SEND, "aborted while the message was taken")
            self._look = self.core.now() + again

    def _known_phase(self, exchange: Outgoing) -> Phase | None:
        """Return the phase of *exchange*; None: its receiver does not report it, and only the tickets know."""
        return self.phase if self.told or exchange.kind != PacketKind.CALL else None

    def _look_after(self) -> None:
        """Check whether anything can still come, and whether there is time left."""
        core, exchange, until = self.core, self.exchange, self.until
        if isinstance(exchange, Outgoing) and exchange.link.fallen and exchange.state is not State.FORWARDED:
            core.look_after(exchange)
            self._look_soon()
        elif exchange is not None and not isinstance(exchange, Outgoing):
            core.recheck_answers()
            self._look_soon()
        if until is not None and (self.woken or self.phase is Phase.SEND) and (now := core.now()) >= until:
            self.until = now + self._late(exchange)

    def _look_soon(self) -> None:
        """Look again soon, and then less and less often."""
        self._pause = min(2 * self._pause, LOOK_AGAIN)
        self._look = self.core.now() + self._pause

    def _late(self, exchange: Exchange | None) -> int:
        """The time is over: give up, or return how soon to try again, in ns."""
        core, source = self.core, self.awaited
        if self.polls and source and core.comes(source, self.polls):
            return LOOK
        if exchange is None:
            raise IpcTimeout(Phase.RECEIVE, f"no message from {show_thread(source)} {self.why}")
        if not isinstance(exchange, Outgoing):
            raise IpcError(IpcCode.XFER_TIMEOUT_HERE, Phase.SEND, "the answer was not taken in time")
        if exchange.state is State.OVER:
            return 0
        holds = core.hold(exchange) if self.holds and self.phase is Phase.SEND else 0
        return holds or core.give_up(exchange, self.why, self._known_phase(exchange))

    def _cancel(self, phase: Phase) -> NoReturn:
        self.aborted = frozenset()
        self.abandon()
        text = f"thread {show_thread(self.core.thread)} was told to stop waiting"
        raise IpcError(IpcCode.CANCELLED, phase, text)

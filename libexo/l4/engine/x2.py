"""The X.2 engine of a thread: its virtual registers, and the system call Ipc over the rendezvous.

Send phase, then receive phase, with nothing in between: a caller's packet says that it waits for the answer, so a
partner can answer it at once. Errors do not raise: the tag's E bit is set, and ErrorCode says what went wrong in
which phase (L4 X.2 reference manual, rev. 7).

*Time.* A period of the send phase starts with the call, one of the receive phase when the message was taken: a
call with finite time-outs asks its receiver to tell. *Abort.* Another thread of the environment may abort either
phase; what was being sent or awaited is withdrawn by its ticket, as at a time-out. *Sending to one that waits for
just that*, a caller or an interrupt, is over at once; an answer that brings items is when the caller says how much
of it was taken, because a cut message is an error of both.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD, USER_BASE, is_local, show_thread, thread_number
from kernel.abi.messages import IpcCode, PacketKind, Phase
from libexo.errors import IpcError, IpcTimeout, NoPartner, NoRedirector, TrapRefused
from libexo.ipc.exchange import Exchange, Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.operation import Operation
from libexo.ipc.sending import OVERDUE
from libexo.l4.engine import preemption, propagation, transfer
from libexo.l4.engine.context import READY_NS, Context
from libexo.l4.engine.paging import Paging
from libexo.l4.errors import sender_word
from libexo.l4.format.tag import FAILED, MsgTag
from libexo.l4.format.times import Never, split_timeouts

if TYPE_CHECKING:
    from libexo.ipc import Thread


class Ipc(Operation):
    """One system call Ipc: what comes goes into the registers."""

    is_eager = True

    def __init__(self, engine: "Engine", to: int, specifier: int, timeouts: int) -> None:
        """Have *engine* send to *to*, if that is somebody, then receive from *specifier*."""
        super().__init__(engine.thread.core, source=specifier, why="in time")
        send_time, self.receive_time = split_timeouts(timeouts)
        self.engine = engine
        self.to = to
        self.phase = Phase.SEND if to else Phase.RECEIVE
        self.until = engine.expiry(send_time) if to else None
        self.receive_point = engine.expiry(self.receive_time) if self.receive_time.is_point else None
        """When the receive phase ends, if that is a point in time: what it means is known best at the start."""
        self.result: tuple[int, MsgTag] = int(NIL_THREAD), MsgTag(0)

    def do(self) -> tuple[int, MsgTag]:
        """Do both phases; return the sender and the tag. Raises IpcError."""
        if self.to:
            self._send()
        elif self.source:
            self.begin_receiving()
            self.run()
        return self.result

    def settle(self) -> bool:
        """Take a message that another thread delivered; else go on as any operation."""
        engine, awaited = self.engine, self.awaited
        if awaited and (
            engine.delivered is not None
            or ((self.woken or self.aborted or self.core.must_look()) and engine.awaits_nobody())
        ):
            self.result = engine.take_delivered()
            self.abandon()
            return True
        return super().settle()

    def sleep(self) -> None:
        """Wait; meanwhile, a thread of this environment may deliver a message."""
        engine, awaited = self.engine, self.awaited
        if awaited:
            with engine.environment.lock:
                engine.awaits = awaited
        super().sleep()
        if awaited:
            engine.awaits_nobody()

    def accept(self, source: int) -> bool:
        """Take a message from *source* into the registers."""
        arrival = self.core.next(source)
        if arrival is None:
            return False
        self.result = transfer.receive(self.engine, arrival)
        return True

    def answered(self, call: Outgoing) -> None:
        """Take the answer to *call* into the registers."""
        assert call.answer is not None
        packet, frames = call.answer
        try:
            tag = transfer.incoming(self.engine, packet, frames, call.to)
        except IpcError as error:
            self.core.acknowledge(call.link, packet, refused=sender_word(error))
            raise
        self.core.acknowledge(call.link, packet)
        self.result = transfer.answered(self.engine, packet, call.to, tag)

    def sent(self) -> None:
        """Give up the memory that the message granted."""
        transfer.sent(self.engine)

    def begin_receiving(self) -> None:
        """Show in the row from which thread we receive, and start the time of the receive phase."""
        super().begin_receiving()
        exchange, core = self.exchange, self.core
        calls = isinstance(exchange, Outgoing) and exchange.kind == PacketKind.CALL
        source = (exchange.forwarded_to or exchange.to) if exchange is not None and calls else self.source
        core.row.receives(source)
        at = self.receive_point
        if at is None:
            at = self.engine.expiry(self.receive_time)
        sleeps, soon = source == core.thread, core.now() + READY_NS
        self.polls = soon if at is not None and not sleeps and at < soon else 0
        self.until = self.polls or at

    # ------------------------------------------------------------------------------------------- send phase

    def _send(self) -> None:
        """Send the message in the registers, then receive, if from somebody."""
        engine, to = self.engine, self.to
        message = transfer.outgoing(engine)
        if is_local(to):
            raise NoPartner(Phase.SEND, f"no thread of this environment has local id {to:#x}")
        if thread_number(to) < USER_BASE:
            self._answer(Origin(None, to, 0, answers=True), message, NIL_THREAD)
            return
        if to == engine.thread.id:
            raise NoPartner(Phase.SEND, f"thread {show_thread(to)} is the caller itself")
        virtual, turned = propagation.speak_for(engine, to)
        caller = engine.thread.callers.pop(to, None)
        try:
            if caller is None or not self._answer(caller, message, virtual):
                self._carry(message, virtual)
        except IpcError as error:
            if turned is not None and error.phase == Phase.SEND:
                propagation.turn(engine, turned, engine.thread.id)
                engine.thread.remember(turned)
            raise

    def _answer(self, caller: Origin, message: Message, virtual: int) -> bool:
        """Answer *caller*. False: it waits for no answer, and may be sent to as any thread.

        The caller itself keeps to the transfer time-out, from its first page fault on, and says what it took.
        """
        core, engine = self.core, self.engine
        until = engine.deadline(split_timeouts(engine.registers.xfer_timeouts)[0])
        core.recheck(caller)  # one that was deleted this moment took its ticket along unclaimed
        try:
            answer = core.answer(caller, message, tells=bool(message.typed), virtual=virtual)
        except IpcTimeout:
            return False
        except NoPartner:
            if core.kip.thread(caller.sender) is None:
                raise
            return False  # its binding fell, for it has another redirector
        except TrapRefused as refused:
            if caller.peer is None:
                text = f"thread {show_thread(caller.sender)}: {refused}"
                raise NoPartner(Phase.SEND, text) from refused
            raise IpcError(IpcCode.OVERFLOW, Phase.SEND, str(refused)) from refused
        self.until = None if until is None else until + OVERDUE
        self._await(answer)
        return True

    def _carry(self, message: Message, virtual: int) -> None:
        """Send *message*; again, where the way to its receiver changed (another redirector) before it was taken."""
        core, to, until = self.core, self.to, self.until
        self.holds = until is not None and until < core.now() + READY_NS
        self.brings_items = bool(message.typed)
        core.row.sends(to, self.source)
        while True:
            self.until = until
            exchange = self._post(message, virtual)
            if self.source == to != exchange.to:
                core.row.sends(to, exchange.to)  # a redirector is to answer
            try:
                self._await(exchange)
            except NoPartner as gone:
                if self.phase is Phase.RECEIVE or gone.phase is Phase.RECEIVE or core.kip.thread(to) is None:
                    raise
            else:
                return

    def _post(self, message: Message, virtual: int) -> Outgoing:
        """Put *message* on its way; while there is no redirector, wait for another."""
        core, to, told = self.core, self.to, False
        kind = PacketKind.SEND
        if self.source == to:
            kind = PacketKind.CALL
            told = self.until is not None or self.receive_time != Never or core.waker is not None
        self.told = told
        while True:
            try:
                return core.post(to, message, kind, timed=True, tells=told, virtual=virtual, apart=True)
            except NoRedirector as gone:
                core.row.rests()  # no message of ours is up, and nobody may think that it was taken
                propagation.await_redirector(self.engine, self, to, gone)
                core.row.sends(to, self.source)
            except TrapRefused as refused:
                raise IpcError(IpcCode.OVERFLOW, Phase.SEND, str(refused)) from refused

    def _await(self, exchange: Exchange) -> None:
        self.exchange, self.woken = exchange, False
        self.run()


class Engine(Context):
    """The system call Ipc of one thread."""

    operation: Ipc | None

    def __init__(self, thread: "Thread", local: int) -> None:
        """Be the engine of *thread*, whose UTCB is at *local*."""
        super().__init__(thread, local)
        self.paging = Paging(self)

    def ipc(self, to: int, specifier: int, timeouts: int) -> tuple[int, MsgTag]:
        """Do the system call Ipc on the virtual registers; return the sender, nilthread on error, and the tag.

        It may be in the middle of another one: that goes on then as it was.
        """
        registers, row = self.registers, self._core.row
        if registers.preempt_flags:
            preemption.tell(self)
        self.stop_if_halted()
        operation = Ipc(self, self.global_id(to), self.global_id(specifier), timeouts)
        before, grants = self.operation, self.grants
        said = row.said() if before is not None else (NIL_THREAD, NIL_THREAD)
        self.operation, self.grants = operation, []
        try:
            sender, tag = operation.do()
        except IpcError as error:
            registers.error_code = error.word
            cut = error.code >= IpcCode.OVERFLOW and error.phase == Phase.RECEIVE
            sender, tag = NIL_THREAD, MsgTag((registers.mr[0] if cut else 0) | FAILED)
        finally:
            self.operation = before
            row.sends(*said)
            if self.grants:
                transfer.failed(self)
            self.grants = grants
        registers.mr[0] = int(tag)
        self.stop_if_halted()
        return sender, tag

    def abort(self, phases: set[Phase]) -> None:
        """Abort the IPC under way, for another thread, if it is in one of *phases*."""
        if self.operation is not None:
            self.operation.abort(phases)

    def take_delivered(self) -> tuple[int, MsgTag]:
        """Take the message that another thread of this environment delivered."""
        assert self.delivered is not None
        (sender, words), self.delivered = self.delivered, None
        self.registers.mr[: len(words)] = words
        return self.local_id(sender), MsgTag(words[0])

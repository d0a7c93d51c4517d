"""The X.2 engine of a thread: its virtual registers, and the system call Ipc over the rendezvous.

Send phase, then receive phase, with nothing in between: a caller's packet says that it waits for the answer, so a
partner can answer it at once. Errors do not raise: the tag's E bit is set, and ErrorCode says what went wrong in
which phase (L4 X.2 reference manual, rev. 7).

*Time.* A period of the send phase starts with the call, one of the receive phase when the message was taken: a
call with finite time-outs asks its receiver to tell. *Abort.* Another thread of the environment may abort either
phase; what was being sent or awaited is withdrawn by its ticket, as at a time-out. *Turning.* A call whose
receiver propagates it is answered by another thread, with a message of its own.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import (
    ANY_LOCAL_THREAD,
    ANY_THREAD,
    NIL_THREAD,
    USER_BASE,
    is_local,
    show_thread,
    thread_number,
)
from kernel.abi.messages import IpcCode, PacketKind, Phase
from libexo.errors import IpcError, IpcTimeout, NoPartner, NoRedirector, TrapRefused
from libexo.ipc.exchange import Outgoing, State
from libexo.ipc.message import Message
from libexo.ipc.standing import LOOK
from libexo.l4.engine import answering, preemption, propagation, transfer
from libexo.l4.engine.context import READY_NS, Context
from libexo.l4.engine.paging import Paging
from libexo.l4.errors import sender_word
from libexo.l4.format.tag import FAILED, MsgTag
from libexo.l4.format.times import Never, split_timeouts

if TYPE_CHECKING:
    from libexo.ipc import Thread
    from libexo.transport.base import Source

_OPEN = (ANY_THREAD, ANY_LOCAL_THREAD)
_BOTH = {Phase.SEND, Phase.RECEIVE}


class Engine(Context):
    """The system call Ipc of one thread."""

    def __init__(self, thread: "Thread", local: int) -> None:
        """Be the engine of *thread*, whose UTCB is at *local*."""
        super().__init__(thread, local)
        self.paging = Paging(self)

    # -------------------------------------------------------------------------------------------------- Ipc

    def ipc(self, to: int, specifier: int, timeouts: int) -> tuple[int, MsgTag]:
        """Do the system call Ipc on the virtual registers; return the sender, nilthread on error, and the tag."""
        registers = self.registers
        if registers.preempt_flags:
            preemption.tell(self)
        self.stop_if_halted()
        self.aborted.clear()
        to, specifier = self.global_id(to), self.global_id(specifier)
        send_time, self._receive_time = split_timeouts(timeouts)
        self._receive_point = self._expiry(self._receive_time) if self._receive_time.is_point else None
        sender, tag = int(NIL_THREAD), MsgTag(0)
        try:
            call = self._send(to, specifier, send_time) if to else None
            if call is not None:
                sender, tag = self._take_answer(call)
            elif specifier:
                self._begin_receiving(specifier)
                sender, tag = self._receive(specifier, None)
        except IpcError as error:
            registers.error_code = error.word
            cut = error.code >= IpcCode.OVERFLOW and error.phase == Phase.RECEIVE
            sender, tag = NIL_THREAD, MsgTag((registers.mr[0] if cut else 0) | FAILED)
        finally:
            self.phase = None
            self._core.row.rests()
            if self.grants:
                transfer.failed(self)
        registers.mr[0] = int(tag)
        self.stop_if_halted()
        return sender, tag

    def abort(self, phases: set[Phase]) -> None:
        """Abort the IPC under way, for another thread, if it is in one of *phases*: what comes now is too late."""
        self.aborted |= {phase for phase in phases if self.phase is phase}
        exchange = self._under_way
        if self.aborted and exchange is not None:
            exchange.claim(self.phase if self._told else None)

    # ------------------------------------------------------------------------------------------- send phase

    def _send(self, to: int, specifier: int, send_time: int) -> Outgoing | None:
        """Send the message in the registers; return the call, answered or turned, if it is one."""
        self.phase = Phase.SEND
        message = transfer.outgoing(self)
        self.deadline_at = self._expiry(send_time)
        if is_local(to):
            raise NoPartner(Phase.SEND, f"no thread of this environment has local id {to:#x}")
        if thread_number(to) < USER_BASE:
            answering.acknowledge(self, to, message)
            return None
        if to == self.thread.id:
            raise NoPartner(Phase.SEND, f"thread {show_thread(to)} is the caller itself")
        virtual, turned = propagation.speak_for(self, to)
        caller = self.thread.callers.pop(to, None)
        try:
            if caller is not None and answering.answer(self, caller, message, virtual):
                return None
            return self._carry(to, specifier, message, virtual)
        except IpcError as error:
            if turned is not None and error.phase == Phase.SEND:
                propagation.turn(self, turned, self.thread.id)
                self.thread.remember(turned)
            raise

    def _carry(self, to: int, specifier: int, message: Message, virtual: int) -> Outgoing | None:
        """Send *message*; again, where the way to its receiver changed (another redirector) before it was taken."""
        soon = self._host.now() + READY_NS
        self._holds = self.deadline_at is not None and self.deadline_at < soon
        self._core.row.sends(to, specifier)
        while True:
            exchange = self._post(to, specifier, message, virtual)
            if specifier == to != exchange.link.receiver:
                self._core.row.sends(to, exchange.link.receiver)  # a redirector is to answer
            try:
                return self._finish(exchange)
            except NoPartner as gone:
                if gone.phase is Phase.RECEIVE or self.environment.kip.thread(to) is None:
                    raise

    def _post(self, to: int, specifier: int, message: Message, virtual: int) -> Outgoing:
        """Put the message on its way; while there is no redirector, wait for another."""
        kind = PacketKind.CALL if specifier == to else PacketKind.SEND
        finite = self.deadline_at is not None or self._receive_time != Never
        self._told = kind is PacketKind.CALL and (finite or self._core.waker is not None)
        while True:
            try:
                return self._core.post(
                    to, message, kind, timed=True, tells=self._told, virtual=virtual, apart=True
                )
            except NoRedirector as gone:
                self._core.row.rests()  # no message of ours is up, and nobody may think that it was taken
                propagation.await_redirector(self, to, gone)
                self._core.row.sends(to, specifier)
            except TrapRefused as refused:
                raise IpcError(IpcCode.OVERFLOW, Phase.SEND, str(refused)) from refused

    def _finish(self, exchange: Outgoing) -> Outgoing | None:
        """Wait until the message was taken; if it is a call, until it is answered or turned. Raises its error."""
        core, link = self._core, exchange.link
        self._under_way = exchange
        while True:
            core.pump_link(link)
            if not exchange.done:
                core.pump_gate()
            if exchange.state in (State.TAKEN, State.FORWARDED) and self.phase is Phase.SEND:
                self._core.row.receives(exchange.forwarded_to or link.receiver)
                self._begin_receiving()
            if exchange.done or exchange.forwarded_to or self._overtaken(exchange):
                break
            again = self._interrupted(exchange) or propagation.look_after(self, exchange)
            if exchange.sequence not in link.exchanges:
                continue  # its partner was given up, and the link closed
            at = self.deadline_at if again is None else self._host.now() + again
            sources: tuple[Source, ...] = (link.channel,)
            if exchange.kind == PacketKind.CALL:
                sources += (core.open_inbox(),)  # a send does not look there, and would not sleep
            self.pause(*sources, deadline=at)
        self._under_way = None
        if exchange.error is not None and not propagation.goes_on(self, exchange):
            raise exchange.error
        transfer.sent(self)
        return exchange if exchange.kind == PacketKind.CALL else None

    def _overtaken(self, exchange: Outgoing) -> bool:
        """Say whether the call is over because a message of its own satisfies the receive phase before an answer.

        Somebody may speak for the partner, or be sent to in its stead. Waiting for the answer is then given up; it
        comes as a message, like any other.
        """
        if exchange.kind != PacketKind.CALL or not self._core.receiving.has(exchange.link.receiver):
            return False
        phase = self._core.withdraw(exchange, Phase.RECEIVE)
        if phase is Phase.SEND:  # taken back by who aborted it
            self._cancel(phase)
        return phase is not None

    def _interrupted(self, exchange: Outgoing) -> int | None:
        """Give *exchange* up where its phase was aborted, or its time is over; return how soon to try again.

        Whose receiver does not tell is in either phase for all we know; the ticket knows, and then that is it.
        """
        only = self.phase if self._told or exchange.kind == PacketKind.SEND else None
        if self.aborted & ({only} if only is not None else _BOTH):
            try:
                again = self._core.give_up(exchange, "before it was aborted", only)
            except IpcTimeout as withdrawn:
                self._cancel(withdrawn.phase)
            if self.phase is Phase.SEND and MsgTag(self.registers.mr[0]).t:
                self._core.abandon(exchange)
                raise IpcError(IpcCode.ABORTED, Phase.SEND, "aborted while the message was taken")
            return again
        if self.deadline_at is not None and self._host.now() >= self.deadline_at:
            again = self._core.hold(exchange) if self._holds and self.phase is Phase.SEND else 0
            return again or self._core.give_up(exchange, "in time", only)
        return None

    # ----------------------------------------------------------------------------------------- receive phase

    def _begin_receiving(self, specifier: int = NIL_THREAD) -> None:
        self.phase = Phase.RECEIVE
        self.aborted.discard(Phase.SEND)
        at = self._receive_point
        if at is None:
            at = self._expiry(self._receive_time)
        sleeps, soon = specifier == self.thread.id, self._host.now() + READY_NS
        self._polls = at is not None and not sleeps and at < soon
        self.deadline_at = soon if self._polls else at

    def _take_answer(self, call: Outgoing) -> tuple[int, MsgTag]:
        """Take what answers *call* into the registers, whoever is to answer it by now."""
        while call.answer is None:
            if self.phase is Phase.SEND:
                self._begin_receiving()
            if call.done:
                return self._receive(call.forwarded_to or call.link.receiver, None)
            if call.forwarded_to:
                received = self._receive(call.forwarded_to, call)
                if received[0]:
                    self._core.abandon(call)
                    return received
            else:
                self._finish(call)
        packet, frames = call.answer
        sending, link = self._core.sending, call.link
        self.phase = Phase.RECEIVE
        try:
            tag = transfer.incoming(self, packet, frames, link.receiver)
        except IpcError as error:
            sending.acknowledge(link, packet, refused=sender_word(error))
            raise
        sending.acknowledge(link, packet)
        return transfer.answered(self, packet, link.receiver, tag)

    def _receive(self, specifier: int, call: Outgoing | None) -> tuple[int, MsgTag]:
        """Receive from *specifier*, in the time left; for a turned *call*, until it is turned on (nilthread)."""
        core = self._core
        core.row.receives(specifier)
        closed = specifier not in _OPEN and specifier != self.thread.id
        told = closed and propagation.keep_bound(self, specifier)
        woken = call is not None
        while True:
            core.pump_gate()
            if self.delivered is not None:
                return self._take_delivered()
            if Phase.RECEIVE in self.aborted and not self.awaits_nobody():
                self._cancel(Phase.RECEIVE)
            arrival = None
            if woken or core.must_look():
                if self.awaits_nobody():
                    return self._take_delivered()
                arrival = core.receiving.next(specifier)
            if arrival is not None:
                return transfer.receive(self, arrival)
            if call is not None:
                core.pump_link(call.link)
                if call.forwarded_to != specifier:
                    return NIL_THREAD, MsgTag(0)
            if closed and not (told and self._is_known(specifier)):
                told = propagation.keep_bound(self, specifier)
            if woken and self.deadline_at is not None and self._host.now() >= self.deadline_at:
                if self.awaits_nobody():
                    return self._take_delivered()
                if self._polls and core.comes(specifier, self.deadline_at):
                    self.pause(core.open_inbox(), deadline=self._host.now() + LOOK)
                    continue
                raise IpcTimeout(Phase.RECEIVE, f"no message from {show_thread(specifier)} in time")
            self._sleep(specifier, call, told=told or not closed)
            woken = True

    def _sleep(self, specifier: int, call: Outgoing | None, *, told: bool) -> None:
        """Wait for news; meanwhile, a thread of this environment may put a message into our hands.

        Nobody has *told* us of the partner's end when messages to it are redirected: then it is looked after.
        """
        deadline = self.deadline_at
        if not told:
            look = self._host.now() + propagation.LOOK_AGAIN
            deadline = look if deadline is None else min(look, deadline)
        sources: tuple[Source, ...] = (self._core.open_inbox(), *((call.link.channel,) if call else ()))
        with self.environment.lock:
            self.awaits = specifier
        self._host.wait((*self._core.wait_for(), *sources), deadline)
        self.awaits_nobody()

    def _take_delivered(self) -> tuple[int, MsgTag]:
        assert self.delivered is not None
        (sender, words), self.delivered = self.delivered, None
        self.registers.mr[: len(words)] = words
        return self.local_id(sender), MsgTag(words[0])

    def _is_known(self, specifier: int) -> bool:
        return thread_number(specifier) < USER_BASE or self._core.known(specifier) is not None

"""The server of an interface: its loop, the requests it serves, and who asked for them.

`libexo.stub` is the interface itself, and its clients. A server waits for messages, for what it was told to watch,
and for its alarms; clients that have a ring (`libexo.ipc.rings`) are looked at first, a few requests at a time.
"""

import heapq
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

from kernel.abi.gate import UNDECODABLE
from kernel.abi.ids import ANY_THREAD, FIRST_PROGRAM, USER_BASE, show_thread, thread_id, thread_number
from kernel.abi.kip import Head
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import Label, Packet
from libexo import timeouts
from libexo.environment import attached
from libexo.errors import BadArgument, BrokenRing, ExoError, GateClosed, TrapRefused
from libexo.ipc.message import Message, Origin
from libexo.ipc.packing import CALL, REPLY, WITHDRAWABLE, handles
from libexo.stub.call import DEFERRED, DONE, ENCODE, UNSERVED, Call, adopt, refuse, reply_to, spurn
from libexo.stub.failure import Failure, Reports, failure_of
from libexo.transport.ring.layout import short

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.ipc.peer import Peer
    from libexo.stub.interface import Interface
    from libexo.stub.operation import Operation
    from libexo.transport.base import Source
    from libexo.transport.ring.duplex import Duplex
    from libexo.transport.ring.ends import RingInbox

_USERS = thread_id(USER_BASE, 0)
"""Thread ids below are the kernel's."""
AT_ONCE = 32
"""Requests served through rings before the server looks elsewhere: at its gate, sockets, what it watches."""
_DONE = short(REPLY, DONE)
_EPOCH = int(Head.BINDING_EPOCH)
HELD = 8 << 20
"""Bytes a server holds for its clients, of requests that are not complete, and of answers that are not read."""


class Server:
    """Serves one implementation: its thread's loop, one request at a time."""

    def __init__(self, environment: "Environment", implementation: "Interface") -> None:
        """Serve *implementation*, which gets `environment` and, during an operation, `call`."""
        self.environment = environment
        self._implementation: Any = implementation
        self._stopping = False
        for each in implementation.operations.values():
            each.prepare()
        self._implementation.environment = environment
        self._thread = environment.thread
        self._core = environment.thread.core
        self._core.window = self._accepts
        self._core.holds = HELD
        self._words = environment.kip.words
        self._watched: dict[Source, Callable[[], None]] = {}
        self._alarms: list[tuple[int, int, Callable[[], object]]] = []
        self._serial = count()
        self.reports = Reports(type(implementation).__name__)
        self.keeps: Callable[[], int] = lambda: 0
        """Says how many callers wait for answers that come later, within seconds: see `_say_so`."""
        self._methods = {
            each.mark: (each, each.arguments.decode, getattr(implementation, each.name))
            for each in implementation.operations.values()
            if each.mark and not each.extents
        }
        """What plain requests ask for, by their mark."""

    def _operation(self, label: int, words: tuple[int, ...]) -> "Operation | None":
        """Return the operation a message asks for; None: it is no request of this interface."""
        implementation = self._implementation
        return implementation.operations.get(words[0]) if words and label == implementation.label else None

    def _accepts(self, packet: Packet) -> int:
        """Return how many capabilities *packet* may bring: as many as its operation takes extents."""
        operation = self._operation(packet.label, packet.words)
        return len(operation.extents) if operation is not None else 0

    def watch(self, source: "Source", ready: Callable[[], None]) -> None:
        """Call *ready* whenever *source* may have something, between requests."""
        self._watched[source] = ready

    def unwatch(self, source: "Source") -> None:
        """Look at *source* no more."""
        self._watched.pop(source, None)

    def after(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call *callback* in *seconds*, between requests. Raises ValueError when that is no time-out."""
        at = self.environment.host.now() + timeouts.nanoseconds(seconds)
        heapq.heappush(self._alarms, (at, next(self._serial), callback))

    def _strike(self) -> None:
        """Call what is due."""
        now = self.environment.host.now()
        while self._alarms and self._alarms[0][0] <= now:
            heapq.heappop(self._alarms)[2]()

    def stop(self) -> None:
        """Make `run` return after the current request."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`, or until the kernel is gone (GateClosed)."""
        self.environment.own()
        core = self._core
        while not self._stopping:
            if self._alarms:
                self._strike()
            if core.rings is not None:
                self._serve_rings(core.rings)
            else:
                self._serve()

    def _serve(self) -> None:
        """Serve the next request, or look at what is watched, or find that the time is up."""
        core, row, changes = self._core, self._core.row, self._core.changes
        row.receives(ANY_THREAD)  # before it looks: see `libexo.ipc.standing`
        plain = received = None
        if core.news or core.held or not core.shows_all:
            core.pump_gate()
            plain = core.get()
        if plain is None and not core.held:
            inbox = core.inbox or core.open_inbox()
            if not core.sleep((*core.outside, inbox, *self._watched), self._next_alarm(), changes):
                core.pump_gate()
            if core.news or not getattr(inbox, "is_quiet", False):
                plain = core.get()
        if plain is None and core.held:
            received = core.take(ANY_THREAD)
        row.rests()
        if plain is not None:
            self._do(*plain)
        elif received is not None:
            self.environment.thread.remember(received[1].origin)
            self.handle(*received)
        if self._watched:
            self._look_at_watched()

    def _serve_rings(self, inbox: "RingInbox") -> None:
        """Do the same where some clients have a ring: for theirs we look, all else is waited for."""
        served = self._serve_lines(inbox)
        if self._core.held:
            inbox.found_others = True
        if served == AT_ONCE:
            self._wait(inbox, self.environment.host.now())  # how long it pays to look is found out there
        elif not inbox.found_others and (served or not inbox.ready()):
            self._wait(inbox, self._next_alarm())
            return
        inbox.found_others = False
        self._glance(inbox)

    def _serve_lines(self, inbox: "RingInbox") -> int:
        """Serve the plain requests that are in rings, AT_ONCE at most; return how many that were."""
        lines, peers, words = inbox.lines, self._core.peers, self._words
        spins = inbox.spinning.spins
        served = 0
        while served < AT_ONCE:
            turn = lines[0] if len(lines) == 1 else inbox.next_duplex(spins)
            if turn is None:
                break
            token, line = turn
            try:
                found = line.get(spins)
            except BrokenRing as error:
                inbox.broken(token, error)
                continue
            if found is None:
                if not self._serve_other(inbox, token, line):
                    break
                served += 1
                continue
            served += 1
            mark, sequence, label, string = found
            peer = peers.known[token]
            if peer.epoch != words[_EPOCH] and peers.identify(token) is None:
                continue
            if sequence <= peer.last:
                self._core.statistics["duplicate"] += 1
                continue
            peer.last = sequence
            self._do(peer, mark, sequence, label, string)
        inbox.looked = served < AT_ONCE
        return served

    def _serve_other(self, inbox: "RingInbox", token: bytes, line: "Duplex") -> bool:
        """Serve what `get` leaves in *line*, as a rule what is TIMED. False: there is none, or it is held."""
        receiving = self._core
        if receiving.held:
            return False
        try:
            frames = line.receive()
        except BrokenRing as error:
            inbox.broken(token, error)
            return True
        if frames is None:
            return False
        plain = receiving.plain(token, frames)
        if plain is not None:
            self._do(*plain)
        return not receiving.held

    def _next_alarm(self) -> int | None:
        """Return when the next alarm is due: asked at the last moment, for what was done meanwhile may set one."""
        return self._alarms[0][0] if self._alarms else None

    def _wait(self, inbox: "RingInbox", until: int | None) -> None:
        if not self._stopping:
            core = self._core
            core.sleep((*core.outside, inbox, *self._watched), until, core.changes)

    def _glance(self, inbox: "RingInbox") -> None:
        """Serve what has come elsewhere than in the rings, or is not abbreviated, some at most."""
        core = self._core
        core.pump_gate()
        for _ in range(AT_ONCE):
            with inbox.sparing_shorts():
                received = core.take(ANY_THREAD)
            if received is None:
                break
            self.environment.thread.remember(received[1].origin)
            self.handle(*received)
        else:
            inbox.found_others = True  # more was taken in than was served, which no wait would show
        self._look_at_watched()

    def _look_at_watched(self) -> None:
        for ready in tuple(self._watched.values()):
            ready()

    def _do(self, peer: "Peer", mark: int, sequence: int, label: int, string: bytes) -> None:
        """Do what a plain request of *peer* asks for (`libexo.ipc.plain`), and answer it."""
        implementation, timed = self._implementation, mark >= WITHDRAWABLE
        if timed:
            mark -= WITHDRAWABLE
        method = self._methods.get(mark) if label == implementation.label else None
        if method is None:
            origin = Origin(peer, peer.thread, sequence, mark >> 48 == CALL, timed)
            self.handle(peer.thread, Message(label, (mark >> 16 & 0xFFFF,), (string,), origin))
            return
        operation, decode, do = method
        implementation.asking = self._thread, operation, peer, sequence, label, timed, self.reports
        try:
            arguments = decode(string)
        except UNDECODABLE as error:
            implementation.call.fail(BadArgument(f"{operation.name}: {error}"))
            return
        try:
            result = do(*arguments)
            if operation.oneway or result is DEFERRED:
                return
            data = ENCODE(result)
            if timed and not operation.gives_extent and len(data) <= SHORT_STRING:
                self._answer_timed(peer, sequence, label, data)
                return
            if (
                operation.gives_extent
                or len(data) > SHORT_STRING
                or not peer.put(_DONE, sequence, label, data)
            ):
                implementation.call.answer(result)
        except BaseException as error:  # noqa: BLE001 - whatever an implementation raises
            self.surprised(implementation.call, error)

    def _answer_timed(self, peer: "Peer", sequence: int, label: int, data: bytes) -> None:
        """Answer a plain request of *peer* with *data*, unless its sender waits no more."""
        if not peer.tickets.pay(sequence):
            self._core.statistics["unanswered"] += 1
        elif not peer.put(_DONE, sequence, label, data):
            peer.tickets.owe(sequence)
            reply_to(self._thread, self._implementation.call.message, Message(label, (DONE,), (data,)))

    def handle(self, sender: int, message: Message) -> None:
        """Serve one message."""
        begun = self.begin(sender, message)
        if begun is not None and begun[1] is not DEFERRED and not begun[0].oneway:
            begun[0].answer(begun[1])

    def begin(self, sender: int, message: Message) -> tuple[Call, Any] | None:
        """Do what *message* asks for, and return the call with its result; None: nothing is left to answer.

        What an operation raises is its caller's to hear, and no reason to stop.
        """
        if sender < _USERS:
            listener = getattr(self._implementation, "kernel_message", None)
            if listener is not None:
                listener(sender, message)
            return None
        if message.label == Label.HEARTBEAT:
            self._say_so(sender, message)
            return None
        operation = self._operation(message.label, message.words)
        if operation is None:
            if not self._foreign(sender, message):
                self._refuse(sender, message)
            return None
        call = self._implementation.asking = Call(
            self.environment.thread, operation, sender, message, self.reports
        )
        if operation.extents:
            self.environment.views.lent(handles(message.items))
        try:
            arguments = _arguments(operation, message)
        except (*UNDECODABLE, ExoError) as error:
            spurn(self.environment, message)
            call.fail(BadArgument(f"{operation.name}: {error}"))
            return None
        try:
            return call, getattr(self._implementation, operation.name)(*arguments)
        except BaseException as error:  # noqa: BLE001 - whatever an implementation raises
            self.surprised(call, error)
            return None

    def surprised(self, call: Call, error: BaseException) -> None:
        """Tell the caller that its operation raised *error*; where that ends us, tell those who wait, too."""
        try:
            surprised(call, error)
        finally:
            if type(error) is SystemExit:  # no signal's, which may have come in the middle of anything
                self._turn_away()

    def _turn_away(self) -> None:
        """Tell those whose requests wait that this server ends, and has not begun them."""
        thread, core = self.environment.thread, self.environment.thread.core
        failure = Failure(UNSERVED, f"{type(self._implementation).__name__} ends, and has not begun this")
        with suppress(ExoError):
            thread.core.pump_gate(surely=True)  # who was bound just now waits, too
            while (arrival := core.next(ANY_THREAD)) is not None:
                origin = core.origin(arrival)
                if origin.answers:
                    refuse(thread, Message(arrival.packet.label, origin=origin), failure)

    def _say_so(self, sender: int, message: Message) -> None:
        """Answer who asks whether we are there, and how many wait for us: servers among them do not hang.

        Asked by a server, give up some who are not there any more.
        """
        if thread_number(sender) < FIRST_PROGRAM:
            core = self.environment.thread.core
            core.peers.sweep()
        if message.origin is not None and message.origin.answers:
            reply_to(self.environment.thread, message, Message(message.label, (DONE, self.keeps())))

    def _foreign(self, sender: int, message: Message) -> bool:
        """Have the implementation answer a message of no interface, if it knows any; say whether it did."""
        listener = getattr(self._implementation, "foreign_message", None)
        try:
            answered = listener(sender, message) if listener is not None else None
        except GateClosed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an implementation raises
            failure = failure_of(error)
            self.reports.report("foreign_message", error, failure)
            if message.origin is not None and message.origin.answers:
                refuse(self.environment.thread, message, failure)
            return True
        if answered is None or answered is DEFERRED:
            return answered is DEFERRED
        try:
            if message.origin is not None and message.origin.answers:
                reply_to(self.environment.thread, message, answered)
        except TrapRefused:
            return False  # what it brings could not be put on offer
        return True

    def _refuse(self, sender: int, message: Message) -> None:
        """Answer what is no operation of ours, so that nobody waits for ever."""
        self.environment.thread.core.statistics["no_operation"] += 1
        if message.origin is None or not message.origin.answers:
            return
        server, what = type(self._implementation).__name__, f"{message.words[:1]} of label {message.label:#x}"
        text = f"{server} has no operation {what}, asked for by {show_thread(sender)}"
        refuse(self.environment.thread, message, Failure("NoSuchOperation", text))


def surprised(call: Call, error: BaseException) -> None:
    """Tell the caller that its operation raised *error*; raise it here too where it is to end the server.

    What ends coroutines and generators says nothing of the server that runs them. To exit, or Ctrl-C, ends it: as
    asked, once the caller knows. Anything else that is no Exception is about the thread, as that it was deleted.
    """
    if isinstance(error, GateClosed):
        raise error
    if isinstance(error, Exception | GeneratorExit | BaseExceptionGroup) or is_cancelled(error):
        call.fail(error)
        return
    if isinstance(error, SystemExit | KeyboardInterrupt):
        call.fail(error)
    raise error


def is_cancelled(error: BaseException) -> bool:
    """Say whether *error* is asyncio's CancelledError, without importing asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _arguments(operation: "Operation", message: Message) -> tuple[Any, ...]:
    if not message.items or not isinstance(message.items[0], bytes):
        raise ExoError(f"{operation.name}: the arguments are missing")
    arguments: tuple[Any, ...] = operation.arguments.decode(message.items[0])
    for place, index in enumerate(operation.extents):
        adopt(arguments[index], message.items[1 + place : 2 + place])
    return arguments


def serve(implementation: "Interface", name: str = "", environment: "Environment | None" = None) -> None:
    """Serve *implementation* under *name* (default: the interface's own) until the system ends."""
    environment = environment or attached()
    environment.own()  # the name is to be that of the thread that serves
    name = name or implementation.default_name
    if name and environment.kip.lookup(name) != environment.thread.id:
        publish(environment, name)
    server = getattr(
        implementation, "server", None
    )  # one that has alarms or descriptors to watch made it itself
    (server if isinstance(server, Server) else Server(environment, implementation)).run()


def publish(environment: "Environment", name: str) -> None:
    """Have the process server publish *name* for the calling thread. Raises RemoteError when it is taken."""
    environment.services.publish(name)

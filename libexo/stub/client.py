"""A server as its stubs see it: found by name, asked by message, found again when it was restarted.

What travels, and the operations themselves, are told in `libexo.stub`.
"""

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec

from kernel.abi.gate import UNDECODABLE
from kernel.abi.messages import Phase
from libexo import timeouts
from libexo.errors import ExoError, NoPartner, NotFound, RemoteError
from libexo.ipc.message import Item, Message
from libexo.ipc.thread import READY
from libexo.stub.call import DONE, UNSERVED, adopt, item, spurn
from libexo.stub.failure import Failure
from libexo.stub.repeating import Repeats

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.ipc import Thread
    from libexo.ipc.exchange import Link
    from libexo.ipc.plain import Plain
    from libexo.stub.operation import Operation

TRANSPORTS = ("zmq", "ring")
"""What may carry the messages of a stub: sockets, or memory shared with the server."""

PATIENCE = 5.0
"""How long a stub waits for a server that is being restarted to be back under its name, in seconds."""
_LEAVES = (UNSERVED, "SystemExit", "KeyboardInterrupt")
"""Kinds of failures after which a server serves nobody any more."""
_WELL = (DONE,)
_FAILURE = msgspec.msgpack.Decoder(Failure)


class Face(Protocol):
    """How a client finds its server, and waits: `Waiting`, or for an event loop `libexo.aio.Thread`."""

    goes_plainly: bool
    """Ordinary calls are made by `libexo.ipc.plain`, which waits by itself."""

    def speaker(self, name: str, server: int) -> "Thread":
        """Return the thread that calls *server*, found as *name*. Raises NotFound if it would wait for itself."""

    async def find(self, name: str, timeout: float | None, but: int) -> int:
        """Return the thread called *name* that is not *but*, within *timeout* seconds. Raises NotFound."""

    async def call(self, to: int, message: Message, timeout: float | None, *, accepts: int) -> Message:
        """Send *message* to *to* and return its answer, which brings *accepts* capabilities at most."""

    async def oneway(self, to: int, message: Message, timeout: float | None, *, is_plain: bool) -> None:
        """Send what nobody answers; *is_plain*: nobody need say that it was taken either."""


class Waiting:
    """The face that waits: its coroutines never come back before they are done."""

    goes_plainly = True

    def __init__(self, environment: "Environment") -> None:
        """Call as the thread of *environment* that asks."""
        self._environment = environment

    def speaker(self, name: str, server: int) -> "Thread":
        """Return the calling thread. Raises NotFound where *server* is this very thread: so nobody serves."""
        thread = self._environment.current
        if server == thread.id:
            raise NotFound(
                f"nobody serves {name!r}: the only one of that name is this program itself. Start the server "
                f"first ('exo serve --name {name} module:Class'), or this program under another name "
                "('exo run --name NAME')"
            )
        return thread

    async def find(self, name: str, timeout: float | None, but: int) -> int:
        """Return the thread called *name* that is not *but*, within *timeout* seconds. Raises NotFound."""
        return self._environment.lookup(name, timeout, but)

    async def call(self, to: int, message: Message, timeout: float | None, *, accepts: int) -> Message:
        """Send *message* to *to* and return its answer, which brings *accepts* capabilities at most."""
        return self._environment.current.call(to, message, timeout, accepts=accepts)

    async def oneway(self, to: int, message: Message, timeout: float | None, *, is_plain: bool) -> None:
        """Send what nobody answers, and return when it was taken."""
        self._environment.current.send(to, message, timeout)


class Remote:
    """A server somewhere, found by name; found again when it was restarted."""

    def __init__(
        self,
        environment: "Environment",
        label: int,
        name: str,
        timeout: float | None,
        patience: float | None = PATIENCE,
        transport: str = TRANSPORTS[0],
        face: "Face | None" = None,
    ) -> None:
        """Call the server called *name* with messages of *label*, over *transport*. Raises ValueError.

        *face*: how it waits, if not as `libexo.ipc` does.
        """
        if transport not in TRANSPORTS:
            raise ValueError(f"transport {transport!r}: there are {' and '.join(map(repr, TRANSPORTS))}")
        self.timeout = timeouts.seconds(timeout)
        self._wants_ring = transport == "ring"
        self._link: Link | None = None
        """That with the ring, once there is one."""
        self._plain: Plain | None = None
        """Ordinary calls to the server, by the stub's first strand, once there was another."""
        self._ringing: Thread | None = None
        """Whose ring it is."""
        self._face: Face = face or Waiting(environment)
        self._patience = timeouts.seconds(patience)
        self._environment = environment
        self._label = label
        self._name = name
        self._thread = 0
        self._leaving = 0
        """The thread that last answered so that it ends."""
        self._ends = 0
        """The thread that last said so itself, and serves nobody."""

    def call(self, operation: "Operation", arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any operation
        """Do *operation* there. Raises BadArgument, RemoteError, NoPartner, IpcTimeout, NotFound."""
        string = operation.encode(arguments)
        repeats = None
        plain = self._plain
        if plain is not None and operation.is_plain:
            try:
                if operation.oneway:
                    if plain.tell(self._label, operation.mark, string):
                        return None
                else:
                    found = plain.call(self._label, operation.mark, string)
                    if type(found) is bytes:
                        return operation.result.decode(found)
                    if isinstance(found, Message):
                        return self.result(operation, found)
            except NoPartner as gone:
                repeats = Repeats(self._environment.host.now)
                self.lost(operation, gone, repeats)
            except UNDECODABLE as error:
                raise self._bad_answer(operation, error) from error
        return self._call(operation, self.request(operation, arguments, string), repeats)

    def _call(self, operation: "Operation", request: Message, repeats: Repeats | None) -> Any:  # noqa: ANN401
        """Do the same in the ordinary way; *repeats*: what went before, if anything."""
        steps = self.converse(operation, request, repeats)
        try:
            steps.send(None)  # its face waits by itself, so it never comes back before the end
        except StopIteration as ended:
            return ended.value
        raise AssertionError

    async def converse(self, operation: "Operation", request: Message, repeats: Repeats | None = None) -> Any:  # noqa: ANN401
        """Do *operation*, which *request* asks for, with the server of today. Raises as `call`."""
        repeats, face = repeats or Repeats(self._environment.host.now), self._face
        while True:
            known = self._thread = self._thread or await face.find(self._name, self._patience, self._ends)
            thread = face.speaker(self._name, known)
            try:
                if self._wants_ring:
                    self._ring(thread, known)
                if operation.oneway:
                    is_plain = operation.is_plain and self.timeout is None
                    return await face.oneway(known, request, self.timeout, is_plain=is_plain)
                reply = await face.call(known, request, self.timeout, accepts=operation.accepts)
                if face.goes_plainly:
                    self._go_plainly(thread, known)
                return self.result(operation, reply)
            except NoPartner as gone:
                self.lost(operation, gone, repeats)

    def _ring(self, thread: "Thread", server: int) -> None:
        """Have a ring to *server*, and the short way over it once it is in use; one for the stub's first thread."""
        from libexo.ipc.ring import open_ring  # noqa: PLC0415 - few programs need one

        if thread.is_lent or (self._ringing not in (None, thread)):
            return  # the ring is its thread's alone; others' calls go over sockets
        if self._link is None or self._link.fallen:
            self._ringing = thread
            self._link = open_ring(thread, server)

    def _go_plainly(self, thread: "Thread", server: int) -> None:
        """Have ordinary calls to *server* made as such from now on, by the strand of *thread*."""
        link = self._link or thread.core.links.known(server)
        if thread.is_lent or link is None or link.rings < self._wants_ring:
            return
        if self.timeout is not None and self.timeout < READY:
            return  # of such a call its receiver says when it takes it
        from libexo.ipc.plain import Plain  # noqa: PLC0415 - it belongs to those who call

        self._plain = Plain(thread, link, self.timeout)

    def request(self, operation: "Operation", arguments: tuple[Any, ...], string: bytes) -> Message:
        """Return the message that asks for *operation*; *string*: the arguments, encoded."""
        items: tuple[Item, ...] = (string,)
        if operation.extents:
            items += tuple(item(arguments[index]) for index in operation.extents)
        return Message(self._label, (operation.number,), items)

    def lost(self, operation: "Operation", gone: NoPartner, repeats: Repeats) -> None:
        """The server is gone: it is looked for again. Raises NoPartner where the call must not be repeated."""
        if self._thread == self._leaving != 0:
            text = f"{gone}: it was ending already, by an earlier call"
            gone = NoPartner(gone.phase, text)  # as it ended is told to who asked for that
        self._thread, self._link, self._plain = 0, None, None
        repeats.judge(self._name, operation, gone)

    def result(self, operation: "Operation", reply: Message) -> Any:  # noqa: ANN401 - any operation
        """Return what *reply* says. Raises RemoteError; then no capability that came with it is kept."""
        items = reply.items
        try:
            if reply.words != _WELL or not items or not isinstance(items[0], bytes):
                self._failed(reply)
            result = operation.result.decode(items[0])
            if operation.gives_extent:
                adopt(result, items[1:])
        except (ExoError, *UNDECODABLE) as error:
            spurn(self._environment, reply)
            if isinstance(error, ExoError):
                raise
            raise self._bad_answer(operation, error) from error
        return result

    def _bad_answer(self, operation: "Operation", error: Exception) -> RemoteError:
        return RemoteError("BadAnswer", f"{self._name} answers {operation.name} with {error}")

    def _failed(self, reply: Message) -> NoReturn:
        """Raise what *reply* says."""
        if len(reply.words) != 1 or not reply.items or not isinstance(reply.items[0], bytes):
            raise RemoteError("BadAnswer", f"{self._name} does not speak this interface")
        failure = _FAILURE.decode(reply.items[0])
        if failure.kind in _LEAVES:
            self._leaving = self._thread
        if failure.kind == UNSERVED:
            self._ends = self._thread
            raise NoPartner(Phase.SEND, failure.text)
        raise RemoteError(failure.kind, failure.text, failure.traceback)

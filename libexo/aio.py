"""IPC for programs with many conversations: the awaiting face over the same core as `libexo.ipc`.

    async def main() -> None:
        thread = aio.Thread(libexo.attach())
        one, two = await asyncio.gather(thread.call(a, Message(1)), thread.call(b, Message(2)))
        counter = aio.connect(Counter, thread, "counter")
        print(await counter.add(2))

    aio.run(main())

`run` uses uvloop where it is installed. The two faces share the environment's thread: use one at a time.

*Rings.* A loop that waits for a ring sleeps at once, where `libexo.ipc` would look for a while first: its other
tasks may have work to do.

*Room.* Many messages may be under way on one binding, so it may be full, or busy with a long one: then requests
wait here until it is not.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from kernel.abi.ids import ANY_THREAD, show_thread
from kernel.abi.limits import MAX_OFFERS, SHORT_STRING
from kernel.abi.messages import IpcCode, PacketKind, Phase
from libexo import timeouts
from libexo.errors import (
    BrokenRing,
    Ended,
    GateClosed,
    IpcTimeout,
    NoPartner,
    NotFound,
)
from libexo.host.loopwatch import AGAIN, LoopWatch
from libexo.ipc import READY
from libexo.ipc.exchange import Exchange, Link, Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.ring import open_ring
from libexo.ipc.wire import TELL
from libexo.stub import Interface, Operation, Server
from libexo.stub.call import DEFERRED
from libexo.stub.client import PATIENCE, TRANSPORTS, Remote
from libexo.stub.repeating import Repeats
from libexo.stub.server import surprised
from libexo.transport.ring.layout import WORDS, short

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.stub import Call
    from libexo.transport.base import Source

T = TypeVar("T")
Received = tuple[int, Message]
_LOOK_AGAIN = 0.005
"""How often a name that is not there yet is looked up again, in seconds."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run *main* on uvloop, or on the standard loop where that is not installed."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


class Thread:
    """The thread of an environment, for one event loop."""

    def __init__(self, environment: "Environment") -> None:
        """Serve *environment*'s thread on the running loop."""
        self.environment = environment
        self.core = environment.thread.core
        self.id = environment.thread.id
        self._loop = asyncio.get_running_loop()
        environment.own()
        if environment.host.lends:
            environment.share()  # asyncio.to_thread may bring other threads at any time
        self._exchanges: dict[Outgoing, asyncio.Future[None]] = {}
        self._receivers: list[tuple[int, asyncio.Future[Received]]] = []
        self._watch = LoopWatch(self._loop, self._pump)
        self._watch.doze(self.core.outside)
        self.core.answer = self._answer

    async def call(
        self, to: int, message: Message, timeout: float | None = None, *, accepts: int = MAX_OFFERS
    ) -> Message:
        """Send *message* to *to* and return its answer; *timeout* bounds both phases together, in seconds.

        *accepts* is how many capabilities the answer may bring.
        """
        timeout = timeouts.seconds(timeout)
        exchange, left = await self._post(to, message, PacketKind.CALL, timeout, accepts)
        await self._finish(exchange, timeout, left)
        assert exchange.reply is not None
        return exchange.reply

    async def send(self, to: int, message: Message, timeout: float | None = None) -> None:
        """Send *message* to *to*; return when it was taken."""
        timeout = timeouts.seconds(timeout)
        exchange, left = await self._post(to, message, PacketKind.SEND, timeout)
        await self._finish(exchange, timeout, left)

    async def tell(self, to: int, label: int, number: int, string: bytes) -> None:
        """Send a message of one word and one string that nobody answers. Raises NoPartner.

        Over a ring it returns as soon as the message is on its way; else, when it was taken.
        """
        link = self.core.link(to)
        if not link.rings or link.exchanges or len(string) > SHORT_STRING or number >= WORDS:
            await self.send(to, Message(label, (number,), (string,)))
            return
        assert link.line is not None
        try:
            while not link.line.put(short(TELL, number), next(link.sequence), label, string):
                await asyncio.sleep(AGAIN)
                if self.core.link(to) is not link:
                    raise NoPartner(Phase.SEND, f"thread {show_thread(to)} ended meanwhile", *link.end)
        except BrokenRing as error:
            self.core.sending.break_link(link)
            raise NoPartner(Phase.SEND, f"thread {show_thread(to)} does not keep to the rules") from error

    async def wait(self, timeout: float | None = None) -> Received:
        """Receive from anybody."""
        return await self.receive(ANY_THREAD, timeout)

    async def receive(self, sender: int, timeout: float | None = None) -> Received:
        """Receive from *sender* only. Several may wait at once; the first whose sender it is gets a message."""
        timeout = timeouts.seconds(timeout)
        self.core.open_inbox()
        future: asyncio.Future[Received] = self._loop.create_future()
        self._receivers.append((sender, future))
        self._pump()
        try:
            return await asyncio.wait_for(future, None if timeout is None else max(timeout, READY))
        except TimeoutError:
            text = f"no message from {show_thread(sender)} within {timeout} s"
            raise IpcTimeout(Phase.RECEIVE, text) from None
        finally:
            self._receivers = [entry for entry in self._receivers if entry[1] is not future]

    def reply(self, to: Message, message: Message) -> None:
        """Answer the received message *to*. Raises NoPartner, IpcTimeout when its sender waits no longer."""
        self.environment.thread.reply(to, message)

    def close(self) -> None:
        """Leave the loop; the thread itself goes on."""
        self._watch.close()
        if self.core.answer == self._answer:
            self.core.answer = self.core.receiving.answer

    async def _post(
        self, to: int, message: Message, kind: PacketKind, timeout: float | None, accepts: int = MAX_OFFERS
    ) -> tuple[Outgoing, float | None]:
        """Send *message* on its way, waiting for room if need be; return how long is left of *timeout*, too."""
        end = None if timeout is None else self._loop.time() + max(timeout, READY)
        while True:
            exchange = self.core.post(to, message, kind, timed=timeout is not None, accepts=accepts)
            left = None if end is None else end - self._loop.time()
            if exchange.error is None or exchange.error.code != IpcCode.OVERFLOW:
                return exchange, left
            self._watch.soon()  # to look for room may have brought answers
            if left is not None and left <= 0:
                raise IpcTimeout(Phase.SEND, f"no room for a message to {show_thread(to)} within {timeout} s")
            await asyncio.sleep(AGAIN)

    async def _finish(self, exchange: Outgoing, timeout: float | None, patience: float | None) -> None:
        """Wait for the end of *exchange*, for *patience* seconds at first. Raises its error, or IpcTimeout."""
        future = self._exchanges[exchange] = self._loop.create_future()
        self._watch.soon()
        try:
            while not exchange.done:
                await asyncio.wait([future], timeout=patience)
                if not exchange.done:
                    patience = self.core.give_up(exchange, f"within {timeout} s") / 1e9
        except asyncio.CancelledError:
            self.core.abandon(exchange)
            raise
        finally:
            del self._exchanges[exchange]
        if exchange.error is not None:
            raise exchange.error

    def _answer(self, origin: Origin, message: Message, *, tells: bool = False, virtual: int = 0) -> Exchange:
        """Answer, in the place of the core: what must wait for room in a ring is looked after from now on."""
        if origin.peer is not None and origin.peer.line is not None:
            self._watch.soon()
        return self.core.receiving.answer(origin, message, tells=tells, virtual=virtual)

    def _pump(self) -> None:
        """Something may have arrived: take it in, wake who waited for it, and look at what to watch next."""
        self._watch.wake()
        try:
            self.core.pump()
            delivered = self._deliver()
        except (GateClosed, Ended) as gone:
            self._fail(gone)
            return
        sources = self._sources()
        self._watch.doze(sources)
        if delivered or any(getattr(source, "is_ready", False) for source in sources):
            self._watch.soon()  # to take it may have been a trap: upcalls that came meanwhile are kept

    def _sources(self) -> "list[Source]":
        """Return what may bring something that somebody waits for."""
        sources = self.core.sources()
        if not self._receivers and not any(exchange.forwarded_to for exchange in self._exchanges):
            inbox = self.core.receiving.inbox
            return [source for source in sources if source is not inbox]
        return sources

    def _deliver(self) -> bool:
        """Wake who has what it waited for; say whether anybody has."""
        delivered = False
        for exchange, waiting in self._exchanges.items():
            if exchange.forwarded_to and not exchange.done:
                self._await_turned(exchange)
            if exchange.done and not waiting.done():
                waiting.set_result(None)
                delivered = True
        for sender, future in self._receivers:
            if not future.done() and (received := self.core.take(sender)) is not None:
                future.set_result(received)
                delivered = True
        return delivered

    def _await_turned(self, exchange: Outgoing) -> None:
        """The answer comes as a message of another thread: take it, if it is there."""
        self.core.open_inbox()
        received = self.core.take(exchange.forwarded_to, exchange.accepts)
        if received is not None:
            self.core.abandon(exchange)
            exchange.reply = received[1]

    def _fail(self, error: GateClosed | Ended) -> None:
        """Nothing will come any more: the kernel is gone, or the thread was deleted."""
        self.close()
        futures: list[asyncio.Future[Any]] = [*self._exchanges.values(), *(f for _, f in self._receivers)]
        for future in futures:
            if not future.done():
                future.set_exception(error)


class _Stub:
    """The awaitable operations of an interface."""

    def __init__(
        self, interface: type[Interface], thread: Thread, name: str, timeout: float | None, transport: str
    ) -> None:
        for each in interface.operations.values():
            each.prepare()
        self._operations = {each.name: each for each in interface.operations.values()}
        self._thread = thread
        self._remote = Remote(
            thread.environment, interface.label, name or interface.default_name, timeout, transport=transport
        )
        self._label = interface.label
        self._wants_ring = transport == "ring"
        self._link: Link | None = None
        """That with the ring, once there is one."""

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_") or name not in self._operations:
            raise AttributeError(name)
        operation = self._operations[name]

        async def method(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any operation
            return await self._call(operation, operation.arguments_of(arguments, named))

        return method

    async def _find(self) -> int:
        """Return the server's thread; one that is being restarted is waited for."""
        end = self._thread.environment.host.now() + int(PATIENCE * 1e9)
        while True:
            try:
                return self._remote.find()
            except NotFound:
                if self._thread.environment.host.now() >= end:
                    raise
                await asyncio.sleep(_LOOK_AGAIN)

    async def _call(self, operation: Operation, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        remote, repeats = self._remote, Repeats(self._thread.environment.host.now)
        request = remote.request(operation, arguments, operation.encode(arguments))
        while True:
            try:
                server = await self._find()
                if self._wants_ring and (self._link is None or self._link.fallen):
                    self._link = open_ring(self._thread.environment.thread, server)
                if operation.oneway:
                    return await self._tell(server, operation, request)
                reply = await self._thread.call(server, request, remote.timeout, accepts=operation.accepts)
                return remote.result(operation, reply)
            except NoPartner as gone:
                self._link = None
                remote.lost(operation, gone, repeats)

    async def _tell(self, server: int, operation: Operation, request: Message) -> None:
        """Send *request*, which nobody answers."""
        string = request.items[0]
        if operation.is_plain and self._remote.timeout is None and isinstance(string, bytes):
            await self._thread.tell(server, self._label, operation.number, string)
        else:
            await self._thread.send(server, request, self._remote.timeout)


def connect(
    interface: type[Interface],
    thread: Thread,
    name: str = "",
    *,
    timeout: float | None = None,
    transport: str = TRANSPORTS[0],
) -> Any:  # noqa: ANN401
    """Return a stub whose operations are awaited; as `Interface.connect` otherwise."""
    return _Stub(interface, thread, name, timeout, transport)


async def serve(implementation: Interface, thread: Thread) -> None:
    """Serve *implementation*, whose operations may be coroutines and then run side by side, until cancelled."""
    server = Server(thread.environment, implementation)
    running: set[asyncio.Task[None]] = set()
    while True:
        begun = server.begin(*await thread.wait())
        if begun is None:
            continue
        call, result = begun
        if not asyncio.iscoroutine(result):
            if result is not DEFERRED and not call.oneway:
                call.answer(result)
            continue
        task = asyncio.create_task(_answer(call, result))
        running.add(task)
        task.add_done_callback(running.discard)


async def _answer(call: "Call", result: Coroutine[Any, Any, Any]) -> None:
    try:
        answer = await result
        if not call.oneway:
            call.answer(answer)
    except BaseException as error:  # noqa: BLE001 - whatever an implementation raises is the caller's to hear
        surprised(call, error)

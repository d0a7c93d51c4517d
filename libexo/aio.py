"""IPC for programs with many conversations: the awaiting face over the same core as `libexo.ipc`.

    async def main() -> None:
        thread = aio.Thread(libexo.attach())
        one, two = await asyncio.gather(thread.call(a, Message(1)), thread.call(b, Message(2)))
        counter = aio.connect(Counter, thread, "counter")
        print(await counter.add(2))

    aio.run(main())

`run` uses uvloop where it is installed. The two faces share the environment's thread: use one at a time.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from kernel.abi.ids import ANY_THREAD, show_thread
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import PacketKind, Phase
from libexo.errors import GateClosed, IpcTimeout, NoPartner, NotFound
from libexo.exchange import Exchange
from libexo.ipc import READY
from libexo.message import Message
from libexo.remote import DEFERRED, PATIENCE, Remote
from libexo.stub import Interface, Operation, Server
from libexo.wire import ENCODE

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.stub import Call

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
        self._exchanges: dict[Exchange, asyncio.Future[None]] = {}
        self._receivers: list[tuple[int, asyncio.Future[Received]]] = []
        self._readers: set[int] = set()
        self._watch()

    async def call(
        self, to: int, message: Message, timeout: float | None = None, *, accepts: int = MAX_OFFERS
    ) -> Message:
        """Send *message* to *to* and return its answer; *timeout* bounds both phases together, in seconds.

        *accepts* is how many capabilities the answer may bring.
        """
        exchange = self.core.post(to, message, PacketKind.CALL, timed=timeout is not None, accepts=accepts)
        await self._finish(exchange, timeout)
        assert exchange.reply is not None
        return exchange.reply

    async def send(self, to: int, message: Message, timeout: float | None = None) -> None:
        """Send *message* to *to*; return when it was taken."""
        exchange = self.core.post(to, message, PacketKind.SEND, timed=timeout is not None)
        await self._finish(exchange, timeout)

    async def wait(self, timeout: float | None = None) -> Received:
        """Receive from anybody."""
        return await self.receive(ANY_THREAD, timeout)

    async def receive(self, sender: int, timeout: float | None = None) -> Received:
        """Receive from *sender* only. Several may wait at once; the first whose sender it is gets a message."""
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
        for descriptor in self._readers:
            self._loop.remove_reader(descriptor)
        self._readers.clear()

    async def _finish(self, exchange: Exchange, timeout: float | None) -> None:
        future = self._exchanges[exchange] = self._loop.create_future()
        self._loop.call_soon(self._pump)
        patience = None if timeout is None else max(timeout, READY)
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

    def _pump(self) -> None:
        """Something may have arrived: take it in, wake who waited for it, and look at what to watch next."""
        try:
            self.core.pump()
            self._deliver()
        except GateClosed as gone:
            self._fail(gone)
            return
        self._watch()

    def _deliver(self) -> None:
        for exchange, waiting in self._exchanges.items():
            if exchange.turned and not exchange.done:
                self._await_turned(exchange)
            if exchange.done and not waiting.done():
                waiting.set_result(None)
        for sender, future in self._receivers:
            if not future.done() and (received := self.core.take(sender)) is not None:
                future.set_result(received)

    def _await_turned(self, exchange: Exchange) -> None:
        """The answer comes as a message of another thread: take it, if it is there."""
        self.core.open_inbox()
        received = self.core.take(exchange.turned, exchange.accepts)
        if received is not None:
            self.core.abandon(exchange)
            exchange.reply, exchange.done = received[1], True

    def _fail(self, error: GateClosed) -> None:
        self.close()
        futures: list[asyncio.Future[Any]] = [*self._exchanges.values(), *(f for _, f in self._receivers)]
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def _watch(self) -> None:
        """Have the loop watch what the core waits for, and nothing else."""
        wanted = {source.fileno() for source in self.core.sources()}
        for descriptor in self._readers - wanted:
            self._loop.remove_reader(descriptor)
        for descriptor in wanted - self._readers:
            self._loop.add_reader(descriptor, self._pump)
        self._readers = wanted


class _Stub:
    """The awaitable operations of an interface."""

    def __init__(self, interface: type[Interface], thread: Thread, name: str, timeout: float | None) -> None:
        for each in interface.operations.values():
            each.prepare()
        self._operations = {each.name: each for each in interface.operations.values()}
        self._thread = thread
        self._remote = Remote(thread.environment, interface.label, name or interface.default_name, timeout)

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
        remote = self._remote
        request = remote.request(operation, arguments, ENCODE(arguments))
        while True:
            try:
                server = await self._find()
                accepts = int(operation.gives_extent)
                reply = await self._thread.call(server, request, remote.timeout, accepts=accepts)
                return remote.result(operation, reply)
            except NoPartner as gone:
                remote.lost(operation, gone)


def connect(
    interface: type[Interface], thread: Thread, name: str = "", *, timeout: float | None = None
) -> Any:  # noqa: ANN401
    """Return a stub whose operations are awaited; as `Interface.connect` otherwise."""
    return _Stub(interface, thread, name, timeout)


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
            if result is not DEFERRED:
                call.answer(result)
            continue
        task = asyncio.create_task(_answer(call, result))
        running.add(task)
        task.add_done_callback(running.discard)


async def _answer(call: "Call", result: Coroutine[Any, Any, Any]) -> None:
    try:
        call.answer(await result)
    except Exception as error:  # noqa: BLE001 - whatever an implementation raises is the caller's to hear
        call.fail(error)

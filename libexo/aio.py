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

from kernel.abi.ids import ANY_THREAD, NIL_THREAD, show_thread
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import PacketKind, Phase
from libexo import ipc, timeouts
from libexo.errors import Ended, GateClosed, IpcError, IpcTimeout, NotFound
from libexo.host.loopwatch import AGAIN, LoopWatch
from libexo.ipc.message import Message
from libexo.ipc.operation import Operation
from libexo.ipc.packing import TELL
from libexo.ipc.plain import Plain
from libexo.stub import Interface, Server
from libexo.stub.call import DEFERRED
from libexo.stub.client import PATIENCE, TRANSPORTS, Remote
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
        self._thread = environment.thread
        self.core = self._thread.core
        self.id = environment.thread.id
        self._loop = asyncio.get_running_loop()
        environment.own()
        if environment.host.lends:
            environment.share()  # asyncio.to_thread may bring other threads at any time
        self._operations: dict[Operation, asyncio.Future[Any]] = {}
        self._watch = LoopWatch(self._loop, self._pump, environment.host)
        self._watch.prepare_to_sleep(self.core.outside)
        self.core.on_ring = self._watch.soon

    async def call(
        self, to: int, message: Message, timeout: float | None = None, *, accepts: int = MAX_OFFERS
    ) -> Message:
        """Send *message* to *to* and return its answer; *timeout* bounds both phases together, in seconds.

        *accepts* is how many capabilities the answer may bring.
        """
        reply: Message
        _, reply = await self._run(await self._post(to, message, PacketKind.CALL, timeout, accepts))
        return reply

    async def send(self, to: int, message: Message, timeout: float | None = None) -> None:
        """Send *message* to *to*; return when it was taken."""
        await self._run(await self._post(to, message, PacketKind.SEND, timeout))

    async def tell(self, to: int, label: int, number: int, string: bytes) -> None:
        """Send a message of one word and one string that nobody answers. Raises NoPartner.

        Over a ring it returns as soon as the message is on its way; else, when it was taken.
        """
        link = self.core.link(to)
        if link.rings and number < WORDS:
            plain = Plain(self._thread, link)
            while (written := plain.post(label, short(TELL, number), string)) is not None:
                if written:
                    return
                await asyncio.sleep(AGAIN)
        await self.send(to, Message(label, (number,), (string,)))

    async def oneway(self, to: int, message: Message, timeout: float | None, *, is_plain: bool) -> None:
        """Send *message* to *to*, which nobody answers; *is_plain*: as `tell`."""
        (word,), string = message.words, message.items[0]
        if is_plain and isinstance(string, bytes):
            await self.tell(to, message.label, word, string)
        else:
            await self.send(to, message, timeout)

    goes_plainly = False

    def speaker(self, _name: str, _server: int) -> ipc.Thread:
        """Return the thread that calls: there is one."""
        return self._thread

    async def find(self, name: str, timeout: float | None, but: int) -> int:
        """Return the thread called *name* that is not *but*, within *timeout* seconds. Raises NotFound."""
        end = timeouts.after(self.core.now(), timeout)
        while True:
            try:
                return self.environment.lookup(name, 0, but)
            except NotFound:
                if end is not None and self.core.now() >= end:
                    raise
                await asyncio.sleep(_LOOK_AGAIN)

    async def wait(self, timeout: float | None = None) -> Received:
        """Receive from anybody."""
        return await self.receive(ANY_THREAD, timeout)

    async def receive(self, sender: int, timeout: float | None = None) -> Received:
        """Receive from *sender* only. Several may wait at once; the first whose sender it is gets a message."""
        self.core.open_inbox()
        received: Received = await self._run(self._thread.listen(sender, timeout))
        return received

    def reply(self, to: Message, message: Message) -> None:
        """Answer the received message *to*. Raises NoPartner, IpcTimeout when its sender waits no longer."""
        self.environment.thread.reply(to, message)

    def close(self) -> None:
        """Leave the loop; the thread itself goes on."""
        self._watch.close()
        self.core.on_ring = None

    async def _post(
        self, to: int, message: Message, kind: PacketKind, timeout: float | None, accepts: int = MAX_OFFERS
    ) -> Operation:
        """Send *message* on its way, waiting for room if need be; return what waits for its end."""
        until = None
        while True:
            self._watch.soon()  # to look for room, or for a way, may bring answers, and fail
            operation = self._thread.post(to, message, kind, timeout, accepts)
            until = operation.until = until or operation.until
            if not operation.finds_no_room:
                return operation
            if until is not None and self.core.now() >= until:
                raise IpcTimeout(Phase.SEND, f"no room for a message to {show_thread(to)} within {timeout} s")
            await asyncio.sleep(AGAIN)

    async def _run(self, operation: Operation) -> Any:  # noqa: ANN401 - as of the operation
        """Wait until *operation* is over; return its result. Raises IpcError, GateClosed, Ended."""
        future = self._operations[operation] = self._loop.create_future()
        operation.woken = True
        self._watch.soon()
        try:
            return await future
        except asyncio.CancelledError:
            operation.abandon()
            raise
        finally:
            del self._operations[operation]

    def _pump(self) -> None:
        """Something may have happened: let every operation go on, and look at what to watch next."""
        self._watch.wake()
        try:
            self.core.pump()
            some_ended = sum([self._goes_on(*each) for each in self._operations.items()])
        except (GateClosed, Ended) as gone:
            self._fail(gone)
            return
        self.core.row.awaits(self._partner())
        sources = self._sources()
        deadlines = [at for one in self._operations if (at := one.deadline) is not None]
        self._watch.prepare_to_sleep(sources, min(deadlines, default=None))
        if some_ended or any(getattr(source, "is_ready", False) for source in sources):
            self._watch.soon()  # to take it may have been a trap: upcalls that came meanwhile are kept

    def _partner(self) -> int:
        """Return for whom all operations wait: one thread, any of several, or none."""
        partners = {operation.partner for operation in self._operations}
        return partners.pop() if len(partners) == 1 else ANY_THREAD if partners else NIL_THREAD

    def _goes_on(self, operation: Operation, future: "asyncio.Future[Any]") -> bool:
        """Let *operation* go on, and wake the task that waits for it if it is over: True."""
        if future.done():
            return False
        try:
            if not operation.settle():
                return False
            future.set_result(operation.result)
        except IpcError as error:
            operation.abandon()
            future.set_exception(error)
        return True

    def _sources(self) -> "list[Source]":
        """Return what may bring something that somebody waits for."""
        sources = self.core.sources()
        if not any(operation.awaited for operation in self._operations):
            inbox = self.core.inbox
            return [source for source in sources if source is not inbox]
        return sources

    def _fail(self, error: GateClosed | Ended) -> None:
        """Nothing will come any more: the kernel is gone, or the thread was deleted."""
        self.close()
        for future in self._operations.values():
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
        self._remote = Remote(
            thread.environment,
            interface.label,
            name or interface.default_name,
            timeout,
            PATIENCE,
            transport,
            thread,
        )

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_") or name not in self._operations:
            raise AttributeError(name)
        operation = self._operations[name]

        async def method(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any operation
            values = operation.arguments_of(arguments, named)
            request = self._remote.request(operation, values, operation.encode(values))
            return await self._remote.converse(operation, request)

        return method


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

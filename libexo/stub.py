"""Typed interfaces: one class is the operations, the client's stub and the server's dispatch.

    class Counter(Interface, label=0x41):
        @operation(1)
        def add(self, n: int) -> int: ...

    class CounterServer(Counter):            # the server: implement the methods
        total = 0
        def add(self, n: int) -> int:
            self.total += n
            return self.total

    serve(CounterServer(), name="counter")
    Counter.connect(env, "counter").add(2)   # the client: the same class, connected

On the wire a request is a message of the interface's label: word 1 is the operation's number, a string item
the msgpack of its arguments. The answer's word 1 is 0 and its string the result, or 1 and (exception, text).
An `Extent` as an argument or a result travels as a Map item: the receiver gets a capability of its own. Neither
side takes more capabilities than the operation has extents, so that no table fills up unasked.
"""

import heapq
import inspect
import typing
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import msgspec

from kernel.abi.ids import ANY_THREAD, USER_BASE, show_thread, thread_id
from kernel.abi.messages import Packet
from libexo import environment as environments
from libexo.errors import ExoError, IpcError, IpcTimeout, TrapRefused
from libexo.extent import Extent
from libexo.message import Item, Message
from libexo.remote import DONE, FAILED, PATIENCE, Remote, adopt, item, spurn

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.host.base import Source
    from libexo.ipc import Thread

_USERS = thread_id(USER_BASE, 0)
"""Thread ids below are the kernel's."""
_LONGEST = 4096
"""Characters of an error's text that travel."""

F = TypeVar("F", bound=Callable[..., Any])
_ENCODE = msgspec.msgpack.Encoder().encode
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Operation:
    """One operation: its number, and how its arguments and its result are encoded."""

    def __init__(self, function: Callable[..., Any], number: int, *, repeatable: bool) -> None:
        """Read the signature of *function*. Raises TypeError when a parameter has no annotation."""
        self.number = number
        self.name = function.__name__
        self.repeatable = repeatable
        self.doc = function.__doc__
        self._function = function
        self._signature = inspect.signature(function)
        self.arity = len(self._signature.parameters) - 1

    def arguments_of(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Return the arguments of a call in order, defaults filled in. Raises TypeError as Python would."""
        bound = self._signature.bind(None, *arguments, **named)
        bound.apply_defaults()
        return bound.args[1:]

    def prepare(self) -> None:
        """Resolve the annotations; later than the decorator, so that they may name what stands further down."""
        hints = typing.get_type_hints(self._function, include_extras=True)
        names = list(self._signature.parameters)[1:]
        missing = [name for name in (*names, "return") if name not in hints]
        if missing:
            raise TypeError(
                f"operation {self._function.__qualname__}: no annotation for {', '.join(missing)}"
            )
        odd = [each.name for each in self._signature.parameters.values() if each.kind not in _BY_PLACE]
        if odd:
            raise TypeError(f"operation {self._function.__qualname__}: {', '.join(odd)} cannot go by place")
        kinds = tuple(hints[name] for name in names)
        self.extents = tuple(index for index, kind in enumerate(kinds) if kind is Extent)
        self.gives_extent = hints["return"] is Extent
        self.accepts = int(self.gives_extent)
        """How many capabilities its answer may bring."""
        self.arguments = msgspec.msgpack.Decoder(tuple[kinds] if kinds else tuple[()])  # type: ignore[valid-type]
        self.result = msgspec.msgpack.Decoder(hints["return"])


def operation(number: int, *, repeatable: bool = False) -> Callable[[F], F]:
    """Make a method operation *number* (from 1) of its interface.

    A *repeatable* one may be done twice without harm, so a stub repeats it when the server was restarted
    during the call; the caller of any other gets NoPartner, for it may or may not have been done.
    """

    def mark(function: F) -> F:
        function.__operation__ = Operation(function, number, repeatable=repeatable)  # type: ignore[attr-defined]
        return function

    return mark


class Interface:
    """The base of interfaces. Subclass with `label=` to define one; subclass that to implement it."""

    label: ClassVar[int]
    default_name: ClassVar[str] = ""
    operations: ClassVar[dict[int, Operation]]
    environment: "Environment"
    """Where it runs: the client's, in a stub; the server's own, in an implementation."""
    call: "Call"
    """In an implementation, during an operation: who asked."""
    _stub: ClassVar[type]

    def __init_subclass__(cls, *, label: int | None = None, name: str = "", **rest: object) -> None:
        """Collect the operations of an interface; an implementation is a plain subclass."""
        super().__init_subclass__(**rest)
        if label is None:
            return
        found = [getattr(member, "__operation__", None) for member in vars(cls).values()]
        inherited = dict(getattr(cls, "operations", {}))
        cls.label, cls.default_name = label, name
        cls.operations = inherited | _by_number(cls, [each for each in found if each is not None])
        cls._stub = type(cls.__name__, (cls,), {"__init__": _connect, **_methods(cls.operations)})

    @classmethod
    def connect(
        cls,
        environment: "Environment",
        name: str = "",
        *,
        timeout: float | None = None,
        patience: float = PATIENCE,
    ) -> Self:
        """Return a stub for the server published under *name* (default: the interface's own).

        *timeout* bounds each call, in seconds; *patience* how long a server that is being restarted is
        waited for. The server is looked up at the first call.
        """
        stub: Self = cls._stub(environment, name or cls.default_name, timeout, patience)
        return stub


def _by_number(cls: type, found: list[Operation]) -> dict[int, Operation]:
    operations: dict[int, Operation] = {}
    for each in found:
        if operations.setdefault(each.number, each) is not each:
            raise TypeError(
                f"{cls.__name__}: operations {operations[each.number].name} and {each.name} share a number"
            )
    return operations


# ------------------------------------------------------------------------------------------------- the client


def _connect(
    self: Any,  # noqa: ANN401 - a stub of any interface
    environment: "Environment",
    name: str,
    timeout: float | None,
    patience: float,
) -> None:
    for each in self.operations.values():
        each.prepare()
    self.environment = environment
    self._remote = Remote(environment, self.label, name, timeout, patience)


def _methods(operations: dict[int, Operation]) -> dict[str, Callable[..., Any]]:
    return {each.name: _method(each) for each in operations.values()}


def _method(operation: Operation) -> Callable[..., Any]:
    """Return the stub method of *operation*."""
    arity = operation.arity

    def method(self: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any operation
        if named or len(arguments) != arity:
            arguments = operation.arguments_of(arguments, named)
        return self._remote.call(operation, arguments)

    method.__name__ = operation.name
    method.__doc__ = operation.doc
    return method


# ------------------------------------------------------------------------------------------------- the server


class Deferred:
    """What an operation returns whose answer comes later, by the `Call` it kept."""


DEFERRED: Any = Deferred()


class Call:
    """One request being served: who asked, and the way to answer."""

    def __init__(self, thread: "Thread", operation: Operation, sender: int, message: Message) -> None:
        """Serve *message* of *sender*."""
        self.sender = sender
        self._thread = thread
        self._operation = operation
        self._message = message

    def answer(self, result: Any) -> None:  # noqa: ANN401 - any operation
        """Send the result. A caller that is gone is no error; of a result that cannot be sent, it is told."""
        try:
            items: tuple[Item, ...] = (_ENCODE(result),)
        except (TypeError, ValueError) as error:
            self.fail(error)
            return
        if self._operation.gives_extent:
            items += (item(result),)
        try:
            reply_to(self._thread, self._message, Message(self._message.label, (DONE,), items))
        except (ValueError, TrapRefused) as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Send *error*: the caller's stub raises it as a RemoteError."""
        refused = (type(error).__name__, str(error)[:_LONGEST])
        reply_to(self._thread, self._message, Message(self._message.label, (FAILED,), (_ENCODE(refused),)))


def reply_to(thread: "Thread", to: Message, message: Message) -> None:
    """Answer *to*. A caller that is gone, gave up, or takes no answer is counted, and no error of the server's."""
    try:
        thread.reply(to, message)
    except IpcError:
        thread.core.statistics["unanswered"] += 1


class Server:
    """Serves one implementation: its thread's loop, one request at a time."""

    def __init__(self, environment: "Environment", implementation: Interface) -> None:
        """Serve *implementation*, which gets `environment` and, during an operation, `call`."""
        self.environment = environment
        self._implementation: Any = implementation
        self._stopping = False
        for each in implementation.operations.values():
            each.prepare()
        self._implementation.environment = environment
        environment.thread.core.receiving.window = self._accepts
        self._watched: dict[Source, Callable[[], None]] = {}
        self._alarms: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = count()

    def _operation(self, label: int, words: tuple[int, ...]) -> Operation | None:
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

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call *callback* in *seconds*, between requests."""
        at = self.environment.host.now() + int(seconds * 1e9)
        heapq.heappush(self._alarms, (at, next(self._serial), callback))

    def _ring(self) -> float | None:
        """Call what is due; return how long until the next alarm, in seconds."""
        if not self._alarms:
            return None
        now = self.environment.host.now()
        while self._alarms and self._alarms[0][0] <= now:
            heapq.heappop(self._alarms)[2]()
        return max(0.0, (self._alarms[0][0] - now) / 1e9) if self._alarms else None

    def stop(self) -> None:
        """Make `run` return after the current request."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`, or until the kernel is gone (GateClosed)."""
        thread = self.environment.thread
        while not self._stopping:
            try:
                timeout = self._ring() if self._alarms else None
                received = thread.receive_or_watch(ANY_THREAD, tuple(self._watched), timeout)
            except IpcTimeout:
                continue
            if received is not None:
                self._handle(*received)
            if self._watched:
                for ready in tuple(self._watched.values()):
                    ready()

    def _handle(self, sender: int, message: Message) -> None:
        """Serve one message."""
        begun = self.begin(sender, message)
        if begun is not None and begun[1] is not DEFERRED:
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
        operation = self._operation(message.label, message.words)
        if operation is None:
            if not self._foreign(sender, message):
                self._refuse(sender, message)
            return None
        call = self._implementation.call = Call(self.environment.thread, operation, sender, message)
        arguments = None
        try:
            arguments = _arguments(operation, message)
            return call, getattr(self._implementation, operation.name)(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever an implementation raises
            if arguments is None:
                spurn(self.environment, message)
            call.fail(error)
            return None

    def _foreign(self, sender: int, message: Message) -> bool:
        """Have the implementation answer a message of no interface, if it knows any; say whether it did."""
        listener = getattr(self._implementation, "foreign_message", None)
        answered = listener(sender, message) if listener is not None else None
        if answered is None:
            return False
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
        refused = _ENCODE(("NoSuchOperation", text))
        reply_to(self.environment.thread, message, Message(message.label, (FAILED,), (refused,)))


def _arguments(operation: Operation, message: Message) -> tuple[Any, ...]:
    if not message.items or not isinstance(message.items[0], bytes):
        raise ExoError(f"{operation.name}: the arguments are missing")
    arguments: tuple[Any, ...] = operation.arguments.decode(message.items[0])
    for place, index in enumerate(operation.extents):
        adopt(arguments[index], message.items[1 + place : 2 + place])
    return arguments


def serve(implementation: Interface, name: str = "", environment: "Environment | None" = None) -> None:
    """Serve *implementation* under *name* (default: the interface's own) until the system ends."""
    environment = environment or environments.attach()
    name = name or implementation.default_name
    if name and environment.kip.lookup(name) != environment.thread.id:
        publish(environment, name)
    server = getattr(
        implementation, "server", None
    )  # one that has alarms or descriptors to watch made it itself
    (server if isinstance(server, Server) else Server(environment, implementation)).run()


def publish(environment: "Environment", name: str) -> None:
    """Have the process server publish *name* for the calling thread. Raises RemoteError when it is taken."""
    from servers.process.api import Processes  # noqa: PLC0415 - the name registry is a server like any other

    Processes.connect(environment).register(name)

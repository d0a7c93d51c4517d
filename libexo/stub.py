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
the msgpack of its arguments. The answer's word 1 is 0 and its string the result, or 1 and a `libexo.failure`.
An `Extent` as an argument or a result travels as a Map item: the receiver gets a capability of its own. Neither
side takes more capabilities than the operation has extents, so that no table fills up unasked.
"""

import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import msgspec

from libexo.checking import encode_arguments
from libexo.extent import Extent, Ram
from libexo.remote import DEFERRED, PATIENCE, TRANSPORTS, Remote
from libexo.serving import Asking, Call, Server, publish, serve, short_call
from libexo.transport.ring.layout import WORDS, short
from libexo.wire import CALL, TELL

if TYPE_CHECKING:
    from libexo.environment import Environment

__all__ = ["DEFERRED", "Call", "Interface", "Operation", "Server", "operation", "publish", "serve"]

F = TypeVar("F", bound=Callable[..., Any])
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Operation:
    """One operation: its number, and how its arguments and its result are encoded."""

    def __init__(self, function: Callable[..., Any], number: int, *, repeatable: bool, oneway: bool) -> None:
        """Read the signature of *function*. Raises TypeError when a parameter has no annotation."""
        self.number = number
        self.oneway = oneway
        self.name = function.__name__
        self.repeatable = repeatable
        self.doc = function.__doc__
        self._function = function
        self._signature = inspect.signature(function)
        self.names = tuple(self._signature.parameters)[1:]
        """Of its arguments."""
        self.arity = len(self.names)

    def arguments_of(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Return the arguments of a call in order, defaults filled in. Raises TypeError as Python would."""
        bound = self._signature.bind(None, *arguments, **named)
        bound.apply_defaults()
        return bound.args[1:]

    def encode(self, arguments: tuple[Any, ...]) -> bytes:
        """Return *arguments* as they travel. Raises BadArgument where they do not fit the annotations."""
        return encode_arguments(self.name, self.names, arguments, self.arguments.decode)

    @property
    def defaults(self) -> dict[str, Any]:
        """Of the arguments that have one."""
        parameters = self._signature.parameters.values()
        return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}

    def hints(self) -> dict[str, Any]:
        """Return the annotations, with their ranges; the result's is `return`."""
        return typing.get_type_hints(self._function, include_extras=True)

    def prepare(self) -> None:
        """Resolve the annotations; later than the decorator, so that they may name what stands further down."""
        hints = self.hints()
        missing = [name for name in (*self.names, "return") if name not in hints]
        if missing:
            raise TypeError(
                f"operation {self._function.__qualname__}: no annotation for {', '.join(missing)}"
            )
        odd = [each.name for each in self._signature.parameters.values() if each.kind not in _BY_PLACE]
        if odd:
            raise TypeError(f"operation {self._function.__qualname__}: {', '.join(odd)} cannot go by place")
        kinds = tuple(hints[name] for name in self.names)
        self.extents = tuple(index for index, kind in enumerate(kinds) if kind is Extent)
        self.gives_extent = hints["return"] in (Extent, Ram)
        if self.oneway and hints["return"] is not type(None):
            raise TypeError(f"operation {self._function.__qualname__}: nobody answers it, so it returns None")
        self.mark = short(TELL if self.oneway else CALL, self.number) if self.number < WORDS else 0
        """That of its abbreviated requests over a ring; 0: there are none."""
        self.is_plain = bool(self.mark) and not (self.extents or self.gives_extent)
        self.accepts = int(self.gives_extent)
        """How many capabilities its answer may bring."""
        self.arguments = msgspec.msgpack.Decoder(tuple[kinds] if kinds else tuple[()])  # type: ignore[valid-type]
        self.result = msgspec.msgpack.Decoder(hints["return"])


def operation(number: int, *, repeatable: bool = False, oneway: bool = False) -> Callable[[F], F]:
    """Make a method operation *number* (from 1) of its interface.

    A *repeatable* one may be done twice without harm, so a stub repeats it when the server was restarted
    during the call; the caller of any other gets NoPartner, for it may or may not have been done.

    A *oneway* one is not answered: the stub goes on as soon as the message is on its way over a ring, or was taken
    over a socket. What it raises is counted at the server.
    """

    def mark(function: F) -> F:
        function.__operation__ = Operation(function, number, repeatable=repeatable, oneway=oneway)  # type: ignore[attr-defined]
        return function

    return mark


class Interface:
    """The base of interfaces. Subclass with `label=` to define one; subclass that to implement it."""

    label: ClassVar[int]
    default_name: ClassVar[str] = ""
    operations: ClassVar[dict[int, Operation]]
    environment: "Environment"
    """Where it runs: the client's, in a stub; the server's own, in an implementation."""
    asking: Call | Asking
    """What `call` is made of, when somebody wants it."""
    _stub: ClassVar[type]

    @property
    def call(self) -> Call:
        """In an implementation, during an operation: who asked."""
        if not isinstance(self.asking, Call):
            self.asking = short_call(*self.asking)
        return self.asking

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
        patience: float | None = PATIENCE,
        transport: str = TRANSPORTS[0],
    ) -> Self:
        """Return a stub for the server published under *name* (default: the interface's own).

        *timeout* bounds each call, in seconds; *patience* how long a server that is being restarted is
        waited for. *transport* is "zmq", or "ring": through memory shared with the server, many times faster for
        who calls often (`libexo.rings`). The server is looked up at the first call.
        """
        stub: Self = cls._stub(environment, name or cls.default_name, timeout, patience, transport)
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
    patience: float | None,
    transport: str,
) -> None:
    for each in self.operations.values():
        each.prepare()
    self.environment = environment
    self._remote = Remote(environment, self.label, name, timeout, patience, transport)


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

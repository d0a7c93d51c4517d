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
the msgpack of its arguments. The answer's word 1 is 0 and its string the result, or 1 and a `libexo.stub.failure`.
An `Extent` as an argument or a result travels as a Map item: the receiver gets a capability of its own. Neither
side takes more capabilities than the operation has extents, so that no table fills up unasked.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from libexo.stub.call import Asking, Call, short_call
from libexo.stub.client import PATIENCE, TRANSPORTS, Remote
from libexo.stub.operation import Operation

if TYPE_CHECKING:
    from libexo.environment import Environment


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
        who calls often (`libexo.ipc.ring`). The server is looked up at the first call.
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

"""One trap on its way: its caller, its arguments, its answer.

A handler (`kernel.traps`) returns the result of the trap. One that may have much to do is, or returns, a generator
(`kernel.jobs`) that returns the result in the end. The caller may have ended meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from kernel.abi.traps import Trap
from kernel.capability import Capability, Resource

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor
    from kernel.environment import Environment

T = TypeVar("T", bound=Trap)
R = TypeVar("R", bound=Resource)


class Answer:
    """The answer to one trap: the bytes, and the call whose descriptors go with them."""

    __slots__ = ("call", "data")

    def __init__(self, data: bytes, call: "Call[Any] | None" = None) -> None:
        """Answer with *data*; *call* is a trap that was done, which, or whose parts, may give descriptors."""
        self.data = data
        self.call = call

    def gives(self) -> "list[Descriptor]":
        """Return the descriptors, in order."""
        call = self.call
        if call is None or not call.parts:
            return call.gives if call is not None else []
        return [each for part in call.parts for each in part.gives()]


class Call(Generic[T]):
    """A call of a trap T."""

    __slots__ = ("caller", "descriptors", "gives", "parts", "trap", "undo")

    def __init__(self, caller: "Environment", trap: T, descriptors: "list[Descriptor]") -> None:
        """Start with nothing to give."""
        self.caller = caller
        self.trap = trap
        self.descriptors = descriptors
        self.gives: list[Descriptor] = []
        self.undo: Callable[[], object] = bool
        """Called when its descriptors cannot be sent; returns something true if the trap stands without them."""
        self.parts: Sequence[Answer] = ()
        """Of a batch: the answers of its traps."""


class CallTo(Call[T], Generic[T, R]):
    """A call of a trap whose first argument is a handle: the gate has looked it up, and found it to be to an R."""

    __slots__ = ("capability",)

    capability: Capability

    @property
    def resource(self) -> R:
        """The resource of the capability."""
        return cast("R", self.capability.resource)


Handlers = Mapping[type[Trap], Callable[[Any, Any], Any]]
"""The handler of each trap: it is given the kernel, and the call of that trap."""

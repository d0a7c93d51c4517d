"""One trap on its way: who called, with what, and what goes back.

A handler (`kernel.traps`) returns the result of the trap; one that may have much to do is, or returns, a generator
(`kernel.jobs`) that returns it in the end. While that is under way, the caller may have ended.
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
    """What goes back for one trap: the bytes, and with them what its call gives, or the parts of a batch do."""

    __slots__ = ("call", "data")

    def __init__(self, data: bytes, call: "Call[Any] | None" = None) -> None:
        """Answer with *data*; the *call* of a trap that was done may give descriptors, or have parts that do."""
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
        self.undo: Callable[[], bool] = bool
        """Called when what it gives cannot be sent; says whether the trap stands without that."""
        self.parts: Sequence[Answer] = ()
        """Of a batch: the answers of its traps."""


class CallTo(Call[T], Generic[T, R]):
    """A call of a trap whose first argument is a handle: the gate looks it up, and checks that it is to an R."""

    __slots__ = ("capability",)

    capability: Capability

    @property
    def resource(self) -> R:
        """What the capability is to."""
        return cast("R", self.capability.resource)


Handlers = Mapping[type[Trap], Callable[[Any, Any], Any]]
"""By trap, what does it: it is given the kernel, and the call of that trap."""

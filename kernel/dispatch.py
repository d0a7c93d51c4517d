"""The table from traps to handlers, filled by the modules that own the objects.

A handler returns the result of the trap; one that may have much to do is, or returns, a generator (`kernel.jobs`)
that returns it in the end. While that is under way, the caller may have ended.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kernel.abi.traps import Trap
from kernel.errors import Panic

if TYPE_CHECKING:
    from hwmodel.machine import Descriptor
    from kernel.capability import Capability
    from kernel.environment import Environment
    from kernel.kernel import Kernel

T = TypeVar("T", bound=Trap)


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
    """One trap on its way: who called, with what, and what goes back beside the result."""

    __slots__ = ("caller", "capability", "descriptors", "gives", "parts", "trap", "undo")

    def __init__(self, caller: "Environment", trap: T, descriptors: "list[Descriptor]") -> None:
        """Start a call; `capability` is set when the trap's first argument is a handle."""
        self.caller = caller
        self.trap = trap
        self.descriptors = descriptors
        self.gives: list[Descriptor] = []
        self.undo: Callable[[], bool] = bool
        """Called when what it gives cannot be sent; says whether the trap stands without that."""
        self.parts: Sequence[Answer] = ()
        """Of a batch: the answers of its traps."""
        self.capability: Capability = NO_CAPABILITY


Handler = Callable[["Kernel", Call[Any]], Any]
HANDLERS: dict[type[Trap], Handler] = {}
NO_CAPABILITY: "Capability" = None  # type: ignore[assignment]  # read only by handlers of traps that need one


def handles(trap: type[Trap]) -> Callable[[Handler], Handler]:
    """Make a function the handler of *trap*."""

    def register(function: Handler) -> Handler:
        if trap in HANDLERS:
            raise Panic(f"{trap.__name__} has two handlers")
        HANDLERS[trap] = function
        return function

    return register

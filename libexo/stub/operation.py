"""An operation of an interface: its number, the types of its arguments and its result, and how it may be called."""

import inspect
import typing
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec

from libexo.checking import encode_arguments
from libexo.extent import Extent
from libexo.ipc.packing import CALL, TELL
from libexo.transport.ring.layout import WORDS, short

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
        self.gives_extent = isinstance(hints["return"], type) and issubclass(hints["return"], Extent)
        if self.oneway and hints["return"] is not type(None):
            raise TypeError(f"operation {self._function.__qualname__}: nobody answers it, so it returns None")
        self.mark = short(TELL if self.oneway else CALL, self.number) if self.number < WORDS else 0
        """That of its abbreviated requests over a ring; 0: there are none."""
        self.is_plain = bool(self.mark) and not (self.extents or self.gives_extent)
        self.accepts = int(self.gives_extent)
        """How many capabilities its answer may bring."""
        self.arguments = msgspec.msgpack.Decoder(tuple[kinds] if kinds else tuple[()])  # type: ignore[valid-type]
        self.encode = partial(encode_arguments, self.name, self.names, self.arguments.decode)
        """Returns arguments as they travel. Raises BadArgument where they do not fit the annotations."""
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

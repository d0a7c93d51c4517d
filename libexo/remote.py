"""A server as its stubs see it: found by name, asked by message, found again when it was restarted.

What travels, and the operations themselves, are told in `libexo.stub`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from libexo.errors import ExoError, NoPartner, RemoteError
from libexo.extent import Extent, GrantedExtent
from libexo.message import GrantItem, Item, MapItem, Message
from libexo.packing import handles, take_back

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.stub import Operation

DONE, FAILED = 0, 1
PATIENCE = 5.0
"""How long a stub waits for a server that is being restarted to be back under its name, in seconds."""
_WELL = (DONE,)
_ENCODE = msgspec.msgpack.Encoder().encode
_FAILURE = msgspec.msgpack.Decoder(tuple[str, str])


class Remote:
    """A server somewhere, found by name; found again when it was restarted."""

    def __init__(
        self,
        environment: "Environment",
        label: int,
        name: str,
        timeout: float | None,
        patience: float = PATIENCE,
    ) -> None:
        """Call the server called *name* with messages of *label*."""
        self.timeout = timeout
        self._patience = patience
        self._environment = environment
        self._label = label
        self._name = name
        self._thread = 0

    def call(self, operation: "Operation", arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any operation
        """Do *operation* there. Raises RemoteError, NoPartner, IpcTimeout, NotFound."""
        request = self.request(operation, arguments)
        while True:
            known = self._thread or self.find(self._patience)
            try:
                thread = self._environment.current
                reply = thread.call(known, request, self.timeout, accepts=operation.accepts)
            except NoPartner as gone:
                self.lost(operation, gone)
            else:
                return self.result(operation, reply)

    def request(self, operation: "Operation", arguments: tuple[Any, ...]) -> Message:
        """Return the message that asks for *operation*."""
        items: tuple[Item, ...] = (_ENCODE(arguments),)
        if operation.extents:
            items += tuple(item(arguments[index]) for index in operation.extents)
        return Message(self._label, (operation.number,), items)

    def find(self, timeout: float = 0) -> int:
        """Return the server's thread, waiting up to *timeout* seconds for its name. Raises NotFound."""
        self._thread = self._thread or self._environment.lookup(self._name, timeout)
        return self._thread

    def lost(self, operation: "Operation", gone: NoPartner) -> None:
        """The server is gone: it is looked for again, unless it may have done what must not be repeated."""
        self._thread = 0
        if gone.phase and not operation.repeatable:
            raise gone

    def result(self, operation: "Operation", reply: Message) -> Any:  # noqa: ANN401 - any operation
        """Return what *reply* says. Raises RemoteError; then no capability that came with it is kept."""
        items = reply.items
        try:
            if reply.words != _WELL or not items or not isinstance(items[0], bytes):
                self._failed(reply)
            result = operation.result.decode(items[0])
            if operation.gives_extent:
                adopt(result, items[1:])
        except (ExoError, msgspec.DecodeError, RecursionError) as error:
            spurn(self._environment, reply)
            if isinstance(error, ExoError):
                raise
            raise RemoteError("BadAnswer", f"{self._name} answers {operation.name} with {error}") from error
        return result

    def _failed(self, reply: Message) -> NoReturn:
        """Raise what *reply* says."""
        if len(reply.words) != 1 or not reply.items or not isinstance(reply.items[0], bytes):
            raise RemoteError("BadAnswer", f"{self._name} does not speak this interface")
        raise RemoteError(*_FAILURE.decode(reply.items[0]))


def item(extent: Extent) -> MapItem | GrantItem:
    """Return the item by which *extent* travels."""
    kind = GrantItem if isinstance(extent, GrantedExtent) else MapItem
    return kind(extent.handle, extent.rights)


def adopt(extent: Extent, items: Sequence[Item]) -> None:
    """Give *extent*, which came in a message, the handle that came with it."""
    if not items or not isinstance(items[0], MapItem | GrantItem):
        raise RemoteError("BadAnswer", "an extent without its capability")
    extent.handle, extent.rights = items[0].handle, items[0].rights


def spurn(environment: "Environment", message: Message) -> None:
    """Give up what came with *message*, which nobody will use."""
    take_back(environment.sys, handles(message.items))

"""A request being served, and how it is answered; with it, what both sides of a stub put into messages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from libexo.errors import GateClosed, IpcError, RemoteError
from libexo.extent import Extent, GrantedExtent
from libexo.ipc.message import GrantItem, Item, MapItem, Message, Origin
from libexo.ipc.packing import handles, take_back
from libexo.stub.failure import Failure, Reports, failure_of

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.ipc.peer import Peer
    from libexo.ipc.thread import Thread
    from libexo.stub.operation import Operation

DONE, FAILED = 0, 1
UNSERVED = "Unserved"
"""The kind of a failure that says: the server ends, and has not begun this request."""
ENCODE = msgspec.msgpack.Encoder().encode


class Deferred:
    """What an operation returns whose answer comes later, by the `Call` it kept."""


DEFERRED: Any = Deferred()


class Call:
    """One request being served: who asked, and the way to answer."""

    def __init__(
        self,
        thread: "Thread",
        operation: "Operation",
        sender: int,
        message: Message,
        reports: Reports | None = None,
    ) -> None:
        """Serve *message* of *sender*."""
        self.sender = sender
        self.oneway = operation.oneway
        """Nobody waits for an answer."""
        self.reports = reports
        """Where what the operation raised is written down."""
        self._thread = thread
        self._operation = operation
        self.message = message

    def answer(self, result: Any) -> None:  # noqa: ANN401 - any operation
        """Send the result. A caller that is gone is no error; of a result that cannot be sent, it is told."""
        try:
            if self._operation.extents:
                self._thread.environment.views.check(handles(self.message.items))
            items: tuple[Item, ...] = (ENCODE(result),)
            if self._operation.gives_extent:
                items += (item(result),)
            reply_to(self._thread, self.message, Message(self.message.label, (DONE,), items))
        except GateClosed:
            raise
        except Exception as error:  # noqa: BLE001 - a result is asked by its own code what is in it
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Send *error*: the caller's stub raises it as a RemoteError. Where nobody waits, it is counted."""
        failure = failure_of(error)
        if self.reports is not None:
            self.reports.report(self._operation.name, error, failure)
        if self._operation.oneway:
            self._thread.core.statistics["oneway_failed"] += 1
            return
        refuse(self._thread, self.message, failure)


Asking = tuple["Thread", "Operation", "Peer", int, int, bool, Reports]
"""What a `Call` is made of where the request came abbreviated."""


def short_call(
    thread: "Thread",
    operation: "Operation",
    peer: "Peer",
    sequence: int,
    label: int,
    timed: bool,  # noqa: FBT001 - as an `Asking` has it
    reports: Reports,
) -> Call:
    """Return the request that came so."""
    origin = Origin(peer, peer.thread, sequence, answers=not operation.oneway, timed=timed)
    return Call(thread, operation, peer.thread, Message(label, origin=origin), reports)


def refuse(thread: "Thread", to: Message, failure: Failure) -> None:
    """Answer *to*, if anybody waits for that, with *failure*."""
    reply_to(thread, to, Message(to.label, (FAILED,), (ENCODE(failure),)))


def reply_to(thread: "Thread", to: Message, message: Message) -> None:
    """Answer *to*. A caller that is gone, gave up, or takes no answer is counted, and no error of the server's."""
    try:
        thread.reply(to, message)
    except IpcError:
        thread.core.statistics["unanswered"] += 1


def item(extent: Extent) -> MapItem | GrantItem:
    """Return the item by which *extent* travels."""
    kind = GrantItem if isinstance(extent, GrantedExtent) else MapItem
    return kind(extent.handle, extent.rights)


def adopt(extent: Extent, items: Sequence[Item]) -> None:
    """Give *extent*, which came in a message, the handle that came with it."""
    if not items or not isinstance(items[0], MapItem | GrantItem):
        raise RemoteError("BadAnswer", "an extent without its capability")
    extent.handle, extent.rights = items[0].handle, items[0].rights


def spurn(environment: "Attachment", message: Message) -> None:
    """Give up what came with *message*, which nobody will use."""
    take_back(environment.sys, handles(message.items))

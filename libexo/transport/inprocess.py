"""Messages through queues of one process, for the simulated machine and unit tests.

A `Hub` takes the host's place between the parties: at each address two of them meet, a channel and the inbox that
admits it. Messages sent earlier wait, as in a connection that is not accepted yet. Each party has a
transport of its own, so that all it opened goes when it ends. Messages an inbox had not taken when it closed are
lost, and counted, as those in a dead process's sockets would be.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from operator import itemgetter
from typing import Protocol, cast

from libexo.transport.base import HELD, Broken, Descriptor, Frames
from libexo.transport.turns import Turns

BOUND = 1000
"""Messages one binding may have on the way in each direction."""
FIRST_KEY = 1 << 20
"""Keys take the place of host descriptors; no host descriptor is that large."""


class Listening(Protocol):
    """The target of a listening socket's descriptor."""

    address: str


@dataclass
class Listener:
    """A listening socket without a machine; its descriptors have it as their *target*."""

    address: str
    closed: bool = False

    def close(self) -> None:
        """Give it up."""
        self.closed = True


@dataclass
class _Pipe:
    """The messages of one binding, oldest first, while they are on the way."""

    address: str
    token: bytes
    waiting: "list[Sent]" = field(default_factory=list)
    """Messages sent before an inbox admits the binding."""
    sent: int = 0
    """The number of messages on the way to the receiver."""
    answers: deque[list[bytes]] = field(default_factory=deque)
    is_open: bool = True
    """Its sender is there."""
    inbox: "InprocessInbox | None" = None
    owner: int = 0
    descriptor: Descriptor = None


Sent = tuple[int, _Pipe, list[bytes]]
"""A message on the way, numbered in the order in which all were sent."""


class Hub:
    """Where the transports of one system meet. Safe between threads: each operation is one locked step."""

    def __init__(self, bound: int = BOUND) -> None:
        """Allow *bound* messages on the way in each direction of a binding."""
        self.bound = bound
        self.lost = 0
        """Messages that were on the way to an inbox when it closed, or to an end point that went."""
        self.lock = threading.RLock()
        self.connected: Callable[[str], object] = lambda address: None
        """Called with the address of every channel that is opened: the machine tells its kernel."""
        self.pipes: dict[str, _Pipe] = {}
        """Pipes that no inbox has admitted yet, by address."""
        self.sent = count()
        self._keys = count(FIRST_KEY)
        self._ends: dict[int, InprocessChannel | InprocessInbox] = {}

    def transport(self) -> "InprocessTransport":
        """Return a transport for one party."""
        return InprocessTransport(self)

    def ready(self, key: int) -> bool:
        """Say whether the end with that `fileno` has something to receive."""
        end = self._ends.get(key)
        return end is not None and end.ready()

    def open_ends(self) -> int:
        """Return the number of open channels and inboxes."""
        return len(self._ends)

    def queues(self) -> list[str]:
        """Return the addresses with waiting messages that no inbox has admitted."""
        return [address for address, pipe in self.pipes.items() if pipe.waiting]

    def forget(self, address: str) -> None:
        """Forget the end point at *address*, which is gone, and the messages on their way there."""
        with self.lock:
            pipe = self.pipes.pop(address, None)
            if pipe is not None:
                self.lost += len(pipe.waiting)
                pipe.waiting.clear()

    def enter(self, end: "InprocessChannel | InprocessInbox") -> int:
        """Give an end its key."""
        key = next(self._keys)
        self._ends[key] = end
        return key

    def leave(self, key: int) -> None:
        """Take back the key of an end that closed."""
        self._ends.pop(key, None)


class InprocessChannel:
    """The sender's end. Implements `libexo.transport.base.Channel`."""

    def __init__(self, hub: Hub, address: str, token: bytes) -> None:
        """Open the binding *token* at *address*."""
        if address in hub.pipes:
            raise ValueError(f"a channel has connected to {address} already")
        self._hub = hub
        self._pipe = hub.pipes[address] = _Pipe(address, token)
        self._key = hub.enter(self)
        hub.connected(address)

    def send(self, frames: Frames) -> bool:
        """Send a message. False: the queue to the receiver is full, or the channel closed."""
        with self._hub.lock:
            pipe = self._pipe
            if not pipe.is_open or pipe.sent >= self._hub.bound:
                return False
            pipe.sent += 1
            sent = (next(self._hub.sent), pipe, [bytes(frame) for frame in frames])
            if pipe.inbox is None:
                pipe.waiting.append(sent)
            else:
                pipe.inbox.waiting.add(pipe.owner, sent)
            return True

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None."""
        with self._hub.lock:
            return self._pipe.answers.popleft() if self._pipe.answers else None

    def ready(self) -> bool:
        """Say whether an answer waits."""
        return bool(self._pipe.answers)

    def fileno(self) -> int:
        """Return the key to wait on."""
        return self._key

    def close(self) -> None:
        """End the binding's use; messages sent to an open inbox still arrive, answers are dropped."""
        with self._hub.lock:
            if not self._pipe.is_open:
                return
            self._pipe.is_open = False
            self._pipe.answers.clear()
            if self._pipe.inbox is None:
                self._hub.forget(self._pipe.address)
            self._hub.leave(self._key)


class InprocessInbox:
    """The receiver's end. Implements `libexo.transport.base.Inbox`."""

    def __init__(self, hub: Hub) -> None:
        """Receive from no binding yet."""
        self.limit = HELD
        self.waiting: Turns[Sent] = Turns()
        self._hub = hub
        self._pipes: dict[bytes, _Pipe] = {}
        self._closed = False
        self._key = hub.enter(self)

    def admit(self, token: bytes, descriptor: Descriptor, owner: int) -> None:
        """Take messages of the channel that was opened at the address of *descriptor*, held until it is closed."""
        address = cast("Listening", getattr(descriptor, "target", descriptor)).address
        with self._hub.lock:
            pipe = self._hub.pipes.pop(address, None) or _Pipe(
                address, token, is_open=False
            )  # its sender has left
            if pipe.token != token:
                pipe = _Pipe(address, token, is_open=False)
            pipe.inbox, pipe.owner, pipe.descriptor = self, owner, descriptor
            self._pipes[token] = pipe
            for sent in pipe.waiting:
                self.waiting.add(owner, sent)
            self.waiting.sort(owner, itemgetter(0))
            pipe.waiting.clear()

    def close_peer(self, token: bytes) -> None:
        """Forget the binding of *token*, and its messages."""
        with self._hub.lock:
            pipe = self._pipes.pop(token, None)
            if pipe is None:
                return
            self._hub.lost += len(self.waiting.drop(pipe.owner, lambda sent: sent[1] is pipe))
            self._close(pipe)

    def _close(self, pipe: _Pipe) -> None:
        pipe.sent, pipe.inbox = 0, None
        close = getattr(pipe.descriptor, "close", None)
        if close is not None:
            close()

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        with self._hub.lock:
            turn = None if self._closed else self.waiting.next()
            if turn is None:
                return None
            _, pipe, frames = turn[1]
            pipe.sent -= 1
            return pipe.token, frames

    def again(self, token: bytes) -> None:
        """Note that the last message, under *token*, had been withdrawn: it does not count as its party's turn."""
        with self._hub.lock:
            if (pipe := self._pipes.get(token)) is not None:
                self.waiting.again(pipe.owner)

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*. False: it is gone or full."""
        with self._hub.lock:
            pipe = self._pipes.get(token)
            if self._closed or pipe is None or not pipe.is_open or len(pipe.answers) >= self._hub.bound:
                return False
            pipe.answers.append([bytes(frame) for frame in frames])
            return True

    def ready(self) -> bool:
        """Say whether a message waits."""
        return not self._closed and bool(self.waiting)

    def fileno(self) -> int:
        """Return the key to wait on."""
        return self._key

    def close(self) -> None:
        """Stop receiving; messages that were not taken are lost."""
        with self._hub.lock:
            if self._closed:
                return
            self._closed = True
            self._hub.lost += self.waiting.count()
            self.waiting.clear()
            for pipe in self._pipes.values():
                self._close(pipe)
            self._pipes.clear()
            self._hub.leave(self._key)


class InprocessTransport:
    """One party's way to carry messages. Implements `libexo.transport.base.Transport`."""

    def __init__(self, hub: Hub) -> None:
        """Meet the other parties at *hub*."""
        self.hub = hub
        self._ends: list[InprocessChannel | InprocessInbox] = []

    def channel(self, address: str, token: bytes) -> InprocessChannel:
        """Connect the sending end of a binding."""
        with self.hub.lock:
            channel = InprocessChannel(self.hub, address, token)
        self._ends.append(channel)
        return channel

    def inbox(self, broken: Broken) -> InprocessInbox:
        """Open the receiving end of a thread."""
        with self.hub.lock:
            inbox = InprocessInbox(self.hub)
        self._ends.append(inbox)
        return inbox

    def close(self) -> None:
        """Close everything."""
        for end in self._ends:
            end.close()
        self._ends.clear()

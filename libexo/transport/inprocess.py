"""Messages through queues of one process: what the simulated machine and unit tests run on.

A `Hub` takes the host's place between the parties: it keeps a mailbox for every thread number, which takes
messages before anybody listens, as a listening socket's backlog does. Each party has a transport of its own,
so that all it opened goes when it ends. What an inbox had not taken when it closed is lost, and counted, as
what lay in a dead process's socket would be; what is sent later waits for the next one, as long as its
sender does.
"""

import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count

from libexo.host.base import Descriptor
from libexo.transport.base import Frames

BOUND = 1000
"""Messages one binding may have on the way in each direction."""
FIRST_KEY = 1 << 20
"""Keys stand where host descriptors stand elsewhere; no host descriptor is that large."""


@dataclass
class _Mailbox:
    """The messages to one thread, oldest first."""

    waiting: deque[tuple[bytes, list[bytes]]] = field(default_factory=deque)
    queued: Counter[bytes] = field(default_factory=Counter)
    """How many of them each token has."""
    channels: "dict[bytes, InprocessChannel]" = field(default_factory=dict)
    inbox: "InprocessInbox | None" = None

    def drop(self, token: bytes) -> int:
        """Forget the messages of *token*, whose sender is gone before anybody listened; return how many."""
        kept = [message for message in self.waiting if message[0] != token]
        dropped = len(self.waiting) - len(kept)
        self.waiting = deque(kept)
        del self.queued[token]
        return dropped


class Hub:
    """Where the transports of one system meet. Safe between threads: each operation is one locked step."""

    def __init__(self, bound: int = BOUND) -> None:
        """Allow *bound* messages on the way in each direction of a binding."""
        self.bound = bound
        self.lost = 0
        """Messages that were on the way to an inbox when it closed, or to an end point that went."""
        self.lock = threading.RLock()
        self.mailboxes: dict[int, _Mailbox] = {}
        self._keys = count(FIRST_KEY)
        self._ends: dict[int, InprocessChannel | InprocessInbox] = {}

    def transport(self) -> "InprocessTransport":
        """Return a transport for one party."""
        return InprocessTransport(self)

    def mailbox(self, number: int) -> _Mailbox:
        """Return the mailbox of thread *number*."""
        return self.mailboxes.setdefault(number, _Mailbox())

    def ready(self, key: int) -> bool:
        """Say whether the end with that `fileno` has something to receive."""
        end = self._ends.get(key)
        return end is not None and end.ready()

    def open_ends(self) -> int:
        """Return how many channels and inboxes are open."""
        return len(self._ends)

    def forget(self, number: int) -> None:
        """The end point of thread *number* is gone, and what was on its way there."""
        with self.lock:
            mailbox = self.mailboxes.pop(number, None)
            if mailbox is not None:
                self.lost += len(mailbox.waiting)
                mailbox.waiting.clear()
                mailbox.channels.clear()

    def enter(self, end: "InprocessChannel | InprocessInbox") -> int:
        """Give an end its key."""
        key = next(self._keys)
        self._ends[key] = end
        return key

    def leave(self, key: int) -> None:
        """An end closed."""
        self._ends.pop(key, None)


class InprocessChannel:
    """The sender's end. Implements `libexo.transport.base.Channel`."""

    def __init__(self, hub: Hub, number: int, token: bytes) -> None:
        """Open the binding *token* to thread *number*."""
        self.answers: deque[list[bytes]] = deque()
        self._hub = hub
        self._token = token
        self._closed = False
        self._mailbox = hub.mailbox(number)
        self._mailbox.channels[token] = self
        self._key = hub.enter(self)

    def send(self, frames: Frames) -> bool:
        """Send a message. False: the queue to the receiver is full, or the channel closed."""
        with self._hub.lock:
            mailbox = self._mailbox
            if self._closed or mailbox.queued[self._token] >= self._hub.bound:
                return False
            mailbox.queued[self._token] += 1
            mailbox.waiting.append((self._token, [bytes(frame) for frame in frames]))
            return True

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None."""
        with self._hub.lock:
            return self.answers.popleft() if self.answers else None

    def ready(self) -> bool:
        """Say whether an answer waits."""
        return bool(self.answers)

    def fileno(self) -> int:
        """Return the key to wait on."""
        return self._key

    def close(self) -> None:
        """End the binding's use; what was sent to an open inbox still arrives, what was answered is dropped."""
        with self._hub.lock:
            if self._closed:
                return
            self._closed = True
            self.answers.clear()
            if self._mailbox.inbox is None:
                self._hub.lost += self._mailbox.drop(self._token)
            if self._mailbox.channels.get(self._token) is self:
                del self._mailbox.channels[self._token]
            self._hub.leave(self._key)


class InprocessInbox:
    """The receiver's end. Implements `libexo.transport.base.Inbox`."""

    def __init__(self, hub: Hub, number: int, descriptor: Descriptor) -> None:
        """Listen as thread *number*; *descriptor* is held until `close`."""
        self._hub = hub
        self._descriptor = descriptor
        self._mailbox = hub.mailbox(number)
        if self._mailbox.inbox is not None:
            raise ValueError(f"thread {number} has an open inbox already")
        self._mailbox.inbox = self
        self._closed = False
        self._key = hub.enter(self)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        with self._hub.lock:
            if not self.ready():
                return None
            token, frames = self._mailbox.waiting.popleft()
            self._mailbox.queued[token] -= 1
            if not self._mailbox.queued[token]:
                del self._mailbox.queued[token]
            return token, frames

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*. False: it is gone or full."""
        with self._hub.lock:
            channel = self._mailbox.channels.get(token)
            if self._closed or channel is None or len(channel.answers) >= self._hub.bound:
                return False
            channel.answers.append([bytes(frame) for frame in frames])
            return True

    def ready(self) -> bool:
        """Say whether a message waits."""
        return not self._closed and bool(self._mailbox.waiting)

    def fileno(self) -> int:
        """Return the key to wait on."""
        return self._key

    def close(self) -> None:
        """Stop receiving; what was not taken is lost."""
        with self._hub.lock:
            if self._closed:
                return
            self._closed = True
            self._mailbox.inbox = None
            self._hub.lost += len(self._mailbox.waiting)
            self._mailbox.waiting.clear()
            self._mailbox.queued.clear()
            self._hub.leave(self._key)
        close = getattr(self._descriptor, "close", None)
        if close is not None:
            close()


class InprocessTransport:
    """One party's way to carry messages. Implements `libexo.transport.base.Transport`."""

    def __init__(self, hub: Hub) -> None:
        """Meet the other parties at *hub*."""
        self.hub = hub
        self._ends: list[InprocessChannel | InprocessInbox] = []

    def channel(self, number: int, token: bytes) -> InprocessChannel:
        """Open the sending end of a binding to thread *number*."""
        with self.hub.lock:
            channel = InprocessChannel(self.hub, number, token)
        self._ends.append(channel)
        return channel

    def inbox(self, number: int, descriptor: Descriptor) -> InprocessInbox:
        """Open the receiving end of thread *number*."""
        with self.hub.lock:
            inbox = InprocessInbox(self.hub, number, descriptor)
        self._ends.append(inbox)
        return inbox

    def close(self) -> None:
        """Close everything."""
        for end in self._ends:
            end.close()
        self._ends.clear()

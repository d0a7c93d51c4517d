"""A transport that loses, delays, repeats and cuts messages, by a seed. It wraps any other.

One draw a message decides its fate, so its seed repeats a run exactly, as long as the same messages are
sent in the same order. Every message sent through the wrapped transport is subject to it, answers too.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from libexo.transport.base import Broken, Channel, Descriptor, Frames, Inbox, Transport

Later = Callable[[int, Callable[[], None]], object]
"""Calls a function after so many nanoseconds: a machine's alarm."""
_ON_THE_CLOCK = -1
"""Instead of a number of operations: an alarm lets it out."""


@dataclass(frozen=True)
class Odds:
    """The probability of each fault, for each message; they exclude one another."""

    drop: float = 0.0
    delay: float = 0.0
    duplicate: float = 0.0
    cut: float = 0.0

    def __post_init__(self) -> None:
        """Check that they are probabilities."""
        each = (self.drop, self.delay, self.duplicate, self.cut)
        if min(each) < 0 or sum(each) > 1:
            raise ValueError(f"{self}: probabilities are 0 or more and add up to 1 at most")


class Fate:
    """The schedule: the fate of each message, and the count of each fate."""

    def __init__(self, seed: int, odds: Odds) -> None:
        """Draw from *seed*."""
        self._random = random.Random(f"{seed}/faults")
        self._odds = odds
        self.did: Counter[str] = Counter()
        """Messages by their fate: passed, dropped, delayed, duplicated, cut."""
        self.history: list[str] = []
        """The fate of each message, in order."""

    def next(self) -> str:
        """Decide the next message's fate."""
        draw, odds = self._random.random(), self._odds
        shares = {"dropped": odds.drop, "delayed": odds.delay, "duplicated": odds.duplicate, "cut": odds.cut}
        fate, edge = "passed", 0.0
        for name, share in shares.items():
            if edge <= draw < edge + share:
                fate = name
            edge += share
        self.did[fate] += 1
        self.history.append(fate)
        return fate

    def cut(self, frames: Frames) -> list[bytes]:
        """Return *frames* with an end missing: of the last frames, or of one frame's bytes."""
        kept = [bytes(frame) for frame in frames]
        if len(kept) > 1 and self._random.random() < 1 / 2:
            return kept[: self._random.randrange(1, len(kept))]
        victim = self._random.randrange(len(kept))
        kept[victim] = kept[victim][: self._random.randrange(max(1, len(kept[victim])))]
        return kept

    def span(self, most: int) -> int:
        """Draw from 1 to *most*."""
        return self._random.randint(1, most)


@dataclass(eq=False)
class _Held:
    """A message that is held back."""

    way: object
    """The channel, or the token, it was sent by."""
    until: int
    """The operation after which it goes out."""
    put: Callable[[], bool]


class FaultyTransport:
    """Wraps a transport. Implements `libexo.transport.base.Transport`.

    A delayed message goes out after up to *operations* later operations of this transport; with *later*,
    after up to *nanoseconds*, with or without operations. As at a socket, what is held back is lost when its
    channel closes, and goes out when its inbox closes the connection of a peer.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        seed: int = 0,
        odds: Odds | None = None,
        operations: int = 8,
        later: Later | None = None,
        nanoseconds: int = 10_000_000,
    ) -> None:
        """Wrap *inner*."""
        self.fate = Fate(seed, odds or Odds())
        self._inner = inner
        self._operations = operations
        self._later = later
        self._nanoseconds = nanoseconds
        self._now = 0
        self._held: list[_Held] = []

    def channel(self, address: str, token: bytes) -> "FaultyChannel":
        """Connect the sending end of a binding."""
        return FaultyChannel(self, self._inner.channel(address, token))

    def inbox(self, broken: Broken) -> "FaultyInbox":
        """Open the receiving end of a thread."""
        return FaultyInbox(self, self._inner.inbox(broken))

    def close(self) -> None:
        """Close everything; what is held back is lost."""
        self._held.clear()
        self._inner.close()

    @property
    def held(self) -> int:
        """The number of messages held back now."""
        return len(self._held)

    def operate(self) -> None:
        """Count one operation, and let out what was held back long enough."""
        self._now += 1
        self._let_out([held for held in self._held if 0 <= held.until <= self._now])

    def pass_on(self, frames: Frames, put: Callable[[Frames], bool], way: object) -> bool:
        """Send *frames* by *put*, or treat them by their fate. False only when *put* says so."""
        self.operate()
        fate = self.fate.next()
        if fate == "dropped":
            return True
        if fate == "delayed":
            self._hold(frames, put, way)
            return True
        if fate == "cut":
            return put(self.fate.cut(frames))
        sent = put(frames)
        if sent and fate == "duplicated":
            put(frames)
        return sent

    def flush(self, way: object) -> None:
        """Let out all messages held back of *way*."""
        self._let_out([held for held in self._held if held.way == way])

    def lose(self, way: object) -> None:
        """Drop all messages held back of *way*."""
        self._held = [held for held in self._held if held.way != way]

    def _hold(self, frames: Frames, put: Callable[[Frames], bool], way: object) -> None:
        """Keep a copy of *frames* for a while."""
        kept = [bytes(frame) for frame in frames]
        held = _Held(way, _ON_THE_CLOCK, lambda: put(kept))
        self._held.append(held)
        if self._later is not None:
            self._later(self.fate.span(self._nanoseconds), lambda: self._let_out([held]))
        else:
            held.until = self._now + self.fate.span(self._operations)

    def _let_out(self, due: list[_Held]) -> None:
        """Send the messages *due* that were not lost meanwhile. A full queue is one more way to lose one."""
        for held in due:
            if held in self._held:
                self._held.remove(held)
                held.put()


class _End:
    """An end that passes all other requests to its inner one, such as what a wait for it needs."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner end has
        """Return the inner end's attribute of that name."""
        return getattr(self.__dict__["_inner"], name)


class FaultyChannel(_End):
    """A sender's end. Implements `libexo.transport.base.Channel`."""

    def __init__(self, transport: FaultyTransport, inner: Channel) -> None:
        """Wrap *inner*."""
        self._transport = transport
        self._inner = inner

    def send(self, frames: Frames) -> bool:
        """Send a message, or what its fate leaves of it."""
        return self._transport.pass_on(frames, self._inner.send, self)

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None."""
        self._transport.operate()
        return self._inner.receive()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._inner.fileno()

    def close(self) -> None:
        """End the binding's use."""
        self._transport.lose(self)
        self._inner.close()


class FaultyInbox(_End):
    """A receiver's end. Implements `libexo.transport.base.Inbox`."""

    def __init__(self, transport: FaultyTransport, inner: Inbox) -> None:
        """Wrap *inner*."""
        self._transport = transport
        self._inner = inner

    @property
    def limit(self) -> int:
        """Bytes it may hold for others."""
        return self._inner.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._inner.limit = limit

    def admit(self, token: bytes, descriptor: Descriptor, owner: int) -> None:
        """Take messages of a binding."""
        self._inner.admit(token, descriptor, owner)

    def close_peer(self, token: bytes) -> None:
        """Close the connection of *token*."""
        self._transport.flush(token)
        self._inner.close_peer(token)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the next message under its token, or None."""
        self._transport.operate()
        return self._inner.receive()

    def again(self, token: bytes) -> None:
        """Note that the last message, under *token*, had been withdrawn: it does not count as its party's turn."""
        self._inner.again(token)

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back, or what its fate leaves of it."""
        return self._transport.pass_on(frames, lambda kept: self._inner.send(token, kept), token)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._inner.fileno()

    def close(self) -> None:
        """Stop receiving."""
        self._inner.close()

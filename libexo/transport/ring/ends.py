"""Channels and inboxes made of lines: IPC sends and receives through them, in the place of sockets.

An inbox keeps the one it had before, for bindings without a ring. Every party that has something gets its
turn: one message each, in a circle, of its rings as well. So do the two inboxes.

`Host.wait` waits for both. It asks them to *prepare_to_sleep* before it sleeps, and to *wake* after.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from libexo.errors import BrokenRing
from libexo.transport.ring.duplex import Duplex
from libexo.transport.ring.spinning import SpinPolicy

if TYPE_CHECKING:
    from libexo.transport.base import Descriptor, Frames, Inbox, Source


WAITING = 1000
"""Answers that may wait for room in one ring: as many as a socket queues."""


class RingEnd:
    """Common part of both ends: lines, and waiting for them."""

    shows_all = True
    """A wait looks into the rings: see `libexo.ipc`."""

    def __init__(self, spinning: SpinPolicy) -> None:
        """Look as long as *spinning* says before sleeping."""
        self.spinning = spinning
        self.lines: list[tuple[bytes, Duplex]] = []
        self.changes = 0
        """How often lines came and went: a wait that watches their doorbells looks again."""
        self.found_others = True
        """Whether the last wait found, or may have found, more than what is in the rings."""
        self.looked = False
        """The caller has just looked and found nothing, before it waits."""

    def inner(self) -> "Iterable[Source]":
        """Return the other sources to wait for."""
        return ()

    def bells(self) -> "dict[int, Duplex]":
        """Return the lines to wait for, by the descriptors of their doorbells."""
        return {line.bell.fileno(): line for _, line in self.lines if not line.hung_up}

    def rung(self, line: Duplex) -> None:
        """Silence the doorbell of *line*. One that hung up is gone, as IPC learns elsewhere, and rings no more."""
        if not line.bell.silence():
            line.hung_up = True
            self.changes += 1
            self.found_others = True

    def spin(self) -> bool:
        """Look for as long as it seems worth while; return whether something came."""
        lines, spins = [line for _, line in self.lines], self.spinning.spins
        for _ in spins[: len(spins) // (len(lines) or 1) or 1]:
            for line in lines:
                if line.has_news():
                    line.go_on()
                    return True
        return False

    def ready(self) -> bool:
        """Say whether there is something to read."""
        return any(line.ready() for _, line in self.lines)

    def prepare_to_sleep(self) -> bool:
        """Tell all other sides that we sleep from now on. True: there is something to do instead."""
        for _, line in self.lines:  # noqa: SIM110 - a generator would cost more than all of this
            if line.prepare_to_sleep():
                return True
        return False

    def has_news(self) -> bool:
        """Say whether there is something to do."""
        return any(line.has_news() for _, line in self.lines)

    def wake(self, processor: int) -> None:
        """Tell that we are awake, and on which *processor* (-1: not told); write what waited for room."""
        shares = processor >= 0
        for _, line in self.lines:
            if line.wake(processor) != processor:
                shares = False
        self.spinning.share(shares)


class RingChannel(RingEnd):
    """The sender's end of a binding. Implements `libexo.transport.base.Channel`."""

    def __init__(self, line: Duplex, spinning: SpinPolicy) -> None:
        """Send through *line*."""
        super().__init__(spinning)
        self.line = line
        self.lines.append((b"", line))

    def send(self, frames: "Frames") -> bool:
        """Send a message. False: there is no room, or the ring is broken, as `receive` will say."""
        try:
            return self.line.send(frames)
        except BrokenRing as error:
            self.line.spoil(error)
            return False

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None. Raises BrokenRing."""
        return self.line.receive()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self.line.bell.fileno()

    def close(self) -> None:
        """End the binding's use; its receiver can still read what is in the ring."""
        self.line.close()


class RingInbox(RingEnd):
    """The receiving end of a thread. Implements `libexo.transport.base.Inbox`."""

    def __init__(
        self, inner: "Inbox", spinning: SpinPolicy, broken: Callable[[bytes, BrokenRing], None]
    ) -> None:
        """Receive through rings and *inner*; *broken* is called with the token of a sender that breaks its ring."""
        super().__init__(spinning)
        self._inner = inner
        self.broken = broken
        self._by_token: dict[bytes, Duplex] = {}
        self._circle: dict[int, deque[tuple[bytes, Duplex]]] = {}
        """The lines of each party; the next in turn is first, among parties and within each."""
        self._waiting: dict[bytes, deque[Frames]] = {}
        """Answers that wait for room, by token, oldest first."""
        self._is_inner_next = False
        self._spares_shorts = False

    def inner(self) -> "Iterable[Source]":
        """Return the inbox of the bindings without a ring."""
        return (self._inner,)

    @property
    def limit(self) -> int:
        """Bytes that the inbox of the others may hold for them."""
        return self._inner.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._inner.limit = limit

    @property
    def is_ready(self) -> bool:
        """Whether the inbox of the others may have more than was examined."""
        return getattr(self._inner, "is_ready", False)

    def admit(self, token: bytes, descriptor: "Descriptor", owner: int) -> None:
        """Take messages of a binding without a ring, or before it is used."""
        self._inner.admit(token, descriptor, owner)

    def close_peer(self, token: bytes) -> None:
        """Close the connection of *token*."""
        self._inner.close_peer(token)

    def attach(self, token: bytes, line: Duplex, party: int) -> None:
        """Receive from *line* what comes under *token* of *party*, and answer there. Harmless when done already."""
        if token in self._by_token:
            return
        self._by_token[token] = line
        self.lines.append((token, line))
        self._circle.setdefault(party, deque()).append((token, line))
        self.changes += 1

    def detach(self, token: bytes) -> None:
        """Forget the line of *token*, if it has one: its maker closes it."""
        self._waiting.pop(token, None)
        line = self._by_token.pop(token, None)
        if line is not None:
            self.lines.remove((token, line))
            party = next(party for party, lines in self._circle.items() if (token, line) in lines)
            self._circle[party].remove((token, line))
            if not self._circle[party]:
                del self._circle[party]
            self.changes += 1

    @contextmanager
    def sparing_shorts(self) -> Iterator[None]:
        """Leave plain records where they are for the length of a block: `Duplex.get` is for them."""
        self._spares_shorts = True
        try:
            yield
        finally:
            self._spares_shorts = False

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        self._is_inner_next = not self._is_inner_next
        if self._is_inner_next and (arrived := self._inner.receive()) is not None:
            return arrived
        for party, lines in tuple(self._circle.items()):
            for place, (token, line) in enumerate(tuple(lines)):
                if self._spares_shorts and line.is_short():
                    continue
                try:
                    frames = line.receive()
                except BrokenRing as error:
                    self.broken(token, error)
                    return self.receive()
                if frames is not None:
                    self._had_its_turn(party, place)
                    return token, frames
        return None if self._is_inner_next else self._inner.receive()

    def again(self, token: bytes) -> None:
        """Note that the last message, under *token*, had been withdrawn: it does not count as its party's turn."""
        line = self._by_token.get(token)
        self._is_inner_next = line is not None  # the other one was next: `receive` changes it again
        if line is None:
            self._inner.again(token)
            return
        party = next(party for party, lines in self._circle.items() if (token, line) in lines)
        lines = self._circle.pop(party)
        self._circle = {party: lines, **self._circle}

    def next_duplex(self, spins: Sequence[None]) -> tuple[bytes, Duplex] | None:
        """Return the next line in turn that has something, after so many *spins*. None: none has."""
        for _ in spins[: len(spins) // (len(self.lines) or 1) or 1]:
            for party, lines in self._circle.items():
                for place, (_, line) in enumerate(lines):
                    if line.ready():
                        return self._had_its_turn(party, place)
        return None

    def _had_its_turn(self, party: int, place: int) -> tuple[bytes, Duplex]:
        """Put *party* last, and its line at *place* last among its own; return that line."""
        lines = self._circle[party] = self._circle.pop(party)
        lines.rotate(-place - 1)
        return lines[-1]

    def send(self, token: bytes, frames: "Frames") -> bool:
        """Send an answer back over the binding of *token*. False: it is gone, or WAITING answers wait for room.

        A sender of many requests may not have read the earlier answers yet.
        """
        line = self._by_token.get(token)
        if line is None:
            return self._inner.send(token, frames)
        waiting = self._waiting.get(token)
        try:
            if waiting is None and line.send(frames):
                return True
        except BrokenRing as error:
            self.broken(token, error)
            return False
        if waiting is None:
            waiting = self._waiting[token] = deque()
            line.stuck = True
        elif len(waiting) >= WAITING:
            return False
        waiting.append(frames)
        return True

    def wake(self, processor: int) -> None:
        """Wake as every end does; then write the answers for which there is room now."""
        super().wake(processor)
        if self._waiting:
            self._answer_on()

    def _answer_on(self) -> None:
        for token, waiting in list(self._waiting.items()):
            line = self._by_token[token]
            try:
                while waiting and line.send(waiting[0]):
                    waiting.popleft()
            except BrokenRing as error:
                self.broken(token, error)
                continue
            if not waiting:
                del self._waiting[token]
                line.stuck = False

    def fileno(self) -> int:
        """Return the descriptor to wait on for bindings without a ring."""
        return self._inner.fileno()

    def close(self) -> None:
        """Stop receiving; the makers of the lines close them."""
        self._inner.close()
        self.lines.clear()
        self._circle.clear()
        self._by_token.clear()

"""Rings from the start: a hub whose bindings go through memory, for tests of all that uses a transport.

    with over_rings(), simulated(seed=1) as system: ...

In a real system a binding begins on a socket, and its sender pays for the ring (`libexo.ipc.ring`). Here each
channel has one when it is made: plain memory, with doorbells that are keys of the hub. So every test of the
rendezvous is one of rings too. A message in a ring is lost when its receiver closes, like one at a `Hub`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from kernel.abi.limits import FRAME_SIZE
from libexo.errors import BrokenRing
from libexo.testing.carriers import carriers
from libexo.transport.base import Broken, Channel, Descriptor, Frames, Inbox
from libexo.transport.inprocess import Hub
from libexo.transport.ring.duplex import Duplex
from libexo.transport.ring.ends import RingChannel, RingInbox
from libexo.transport.ring.spinning import SpinPolicy

PAGES = 129
"""Frames of a ring: 256 KiB for each direction, so that even large answers are out before their sender ends."""
FIRST_BELL = 1 << 24
"""The keys of doorbells start here, above those of a hub's ends."""


class PlainBell:
    """One side of two doorbells without a machine. Implements `libexo.host.base.Bell`."""

    def __init__(self, key: int = 0, closed: Callable[[], object] = lambda: None) -> None:
        """Use *key* to wait; call *closed* when it closes."""
        self.other: PlainBell | None = None
        self.rung = False
        self.closed = False
        self._key = key
        self._closed = closed

    @property
    def is_connected(self) -> bool:
        """Whether the other side is there."""
        return self.other is not None and not self.other.closed

    def ready(self) -> bool:
        """Say whether it was rung, or the other side is gone."""
        return self.rung or not self.is_connected

    def ring(self) -> None:
        """Wake the other side."""
        if not self.closed and self.other is not None:
            self.other.rung = True

    def silence(self) -> bool:
        """Take what was rung. False: there was nothing, and the other side is gone."""
        was_rung, self.rung = self.rung, False
        return was_rung or self.is_connected

    def fileno(self) -> int:
        """Return the key to wait on. Raises ValueError once it is closed."""
        if self.closed:
            raise ValueError("the doorbell is closed")
        return self._key

    def close(self) -> None:
        """Give it up."""
        self.closed = True
        self._closed()


def join(one: PlainBell, other: PlainBell) -> tuple[PlainBell, PlainBell]:
    """Have each of the two ring the other."""
    one.other, other.other = other, one
    return one, other


def lines(size: int, one: PlainBell | None = None, other: PlainBell | None = None) -> tuple[Duplex, Duplex]:
    """Return both ends of a new ring binding in *size* bytes of plain memory: the sender's, the receiver's."""
    memory = bytearray(size)
    bells = join(one or PlainBell(), other or PlainBell())
    sender, receiver = (
        Duplex(memoryview(memory), bell, memoryview.release, receiver=is_receiver)
        for bell, is_receiver in zip(bells, (False, True), strict=True)
    )
    return sender, receiver


class RingHub:
    """The meeting place of one system's transports, like a `Hub`; each channel has a ring."""

    def __init__(self, pages: int = PAGES) -> None:
        """Make rings of that many *pages*."""
        self.plain = Hub()
        """Where inboxes listen for bindings without a ring, of which there are none."""
        self._size = pages * FRAME_SIZE
        self._bell_keys = count(FIRST_BELL)
        self._bells: dict[int, PlainBell] = {}
        self._lines: dict[int, Duplex] = {}
        """Both ends of every ring, by the keys of their doorbells."""
        self._rings: dict[bytes, Duplex] = {}
        """The receivers' ends of rings that were announced, by token."""
        self.broken: list[tuple[bytes, BrokenRing]] = []
        """Rings that their receivers found broken, with the reason."""

    def transport(self) -> "RingTransport":
        """Return a transport for one party."""
        return RingTransport(self)

    def ready(self, key: int) -> bool:
        """Say whether the end that waits for that key has something to do."""
        bell = self._bells.get(key)
        return self.plain.ready(key) if bell is None else bell.ready()

    def open_ends(self) -> int:
        """Return the number of open channels, inboxes and doorbells."""
        return self.plain.open_ends() + len(self._bells)

    def queues(self) -> list[str]:
        """Return the addresses with waiting messages that no inbox has admitted."""
        return self.plain.queues()

    @property
    def connected(self) -> Callable[[str], object]:
        """Called with the address of every channel that is opened."""
        return self.plain.connected

    @connected.setter
    def connected(self, connected: Callable[[str], object]) -> None:
        self.plain.connected = connected

    def open(self, token: bytes, announce: Channel) -> Duplex:
        """Return the sender's end of a new ring, which *announce* makes known to the receiver."""
        waits, hears = self._bell(lambda: self._untaken(token)), self._bell()
        sender, receiver = lines(self._size, waits, hears)
        self._lines[waits.fileno()], self._lines[hears.fileno()] = sender, receiver
        self._rings[token] = receiver
        announce.send((b"ring",))
        return sender

    def take(self, token: bytes) -> Duplex | None:
        """Return the receiver's end of the ring that was announced under *token*."""
        return self._rings.pop(token, None)

    def is_left(self, line: Duplex) -> bool:
        """Say whether the other side of *line* is gone."""
        return not self._bells[line.bell.fileno()].is_connected

    def flush(self) -> None:
        """Go on with messages longer than their ring, as a wait for their ends does."""
        for line in list(self._lines.values()):
            line.flush()

    def forget(self, address: str) -> None:
        """Forget the end point at *address*, which is gone."""
        self.plain.forget(address)

    def _untaken(self, token: bytes) -> None:
        """Forget a ring whose sender's end closed, if its receiver has not learned of it yet."""
        if (line := self.take(token)) is not None:
            line.close()

    def _bell(self, closed: Callable[[], object] = lambda: None) -> PlainBell:
        key = next(self._bell_keys)

        def close() -> None:
            self._lines.pop(key, None)
            if self._bells.pop(key, None) is not None:
                closed()

        self._bells[key] = PlainBell(key, close)
        return self._bells[key]


class ListeningInbox(RingInbox):
    """The inbox of a thread whose senders all have rings; it closes those whose sender is gone."""

    def __init__(self, hub: RingHub, inner: Inbox) -> None:
        """Learn of rings through *inner*."""
        super().__init__(inner, SpinPolicy(0), self._found_broken)
        self._hub = hub
        self._owners: dict[bytes, int] = {}

    def admit(self, token: bytes, descriptor: Descriptor, owner: int) -> None:
        """Take messages of a binding, which belongs to party *owner*."""
        self._owners[token] = owner
        super().admit(token, descriptor, owner)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""
        while (news := self._inner.receive()) is not None:
            if (line := self._hub.take(news[0])) is not None:
                self.attach(news[0], line, self._owners[news[0]])
        arrived = super().receive()
        if arrived is None:
            for token in [token for token, line in self.lines if line.hung_up and not line.ready()]:
                self._drop(token)
        return arrived

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*. False: it is gone, or full."""
        line = self._by_token.get(token)
        return line is not None and not self._hub.is_left(line) and super().send(token, frames)

    def close_peer(self, token: bytes) -> None:
        """Close the ring of *token*, and the channel that announced it."""
        if token in self._by_token:
            self._drop(token)
        super().close_peer(token)

    def close(self) -> None:
        """Stop receiving; messages that were not taken are lost."""
        for token in [token for token, _ in self.lines]:
            self._drop(token)
        super().close()

    def _drop(self, token: bytes) -> None:
        line = self._by_token[token]
        self.detach(token)
        line.close()

    def _found_broken(self, token: bytes, error: BrokenRing) -> None:
        self._hub.broken.append((token, error))
        self._drop(token)


class AnnouncedChannel(RingChannel):
    """The sender's end, with the channel that announced the ring to its receiver."""

    def __init__(self, line: Duplex, announce: Channel) -> None:
        """Send through *line*; close *announce* with it."""
        super().__init__(line, SpinPolicy(0))
        self._announce = announce

    def close(self) -> None:
        """End the use of both."""
        super().close()
        self._announce.close()


class RingTransport:
    """One party's way to carry messages through rings. Implements `libexo.transport.base.Transport`."""

    def __init__(self, hub: RingHub) -> None:
        """Meet the other parties at *hub*."""
        self._hub = hub
        self._plain = hub.plain.transport()
        self._ends: list[RingChannel | ListeningInbox] = []

    def channel(self, address: str, token: bytes) -> RingChannel:
        """Connect the sending end of a binding."""
        announce = self._plain.channel(address, token)
        channel = AnnouncedChannel(self._hub.open(token, announce), announce)
        self._ends.append(channel)
        return channel

    def inbox(self, broken: Broken) -> ListeningInbox:
        """Open the receiving end of a thread."""
        inbox = ListeningInbox(self._hub, self._plain.inbox(broken))
        self._ends.append(inbox)
        return inbox

    def close(self) -> None:
        """Hang up everywhere, as the host does for a killed program, which keeps the memory while it unwinds."""
        for end in self._ends:
            for _, line in end.lines:
                line.bell.close()
        self._ends.clear()
        self._plain.close()


@contextmanager
def over_rings(pages: int = PAGES) -> Iterator[None]:
    """Have the simulated systems that are booted meanwhile carry their messages through rings."""
    carriers.append(lambda: RingHub(pages))
    try:
        yield
    finally:
        carriers.pop()

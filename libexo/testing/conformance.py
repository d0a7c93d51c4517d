"""Conformance of transports: the same checks for all of them.

A check is a function of a `Rig`; `CHECKS` lists them. To try a transport of your own, parametrize a test over
CHECKS and give each a rig that makes your transports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from libexo.transport.base import Channel, Descriptor, Inbox, Source, Transport
from libexo.transport.inprocess import Listener

TOKEN = b"\x01" * 16
OTHER = b"\x02" * 16
PATIENCE = 400
"""How often something is waited for before it counts as never coming."""
T = TypeVar("T")


class Listen(Protocol):
    """Makes the end point of a binding, as the kernel does."""

    def __call__(self, address: str) -> Descriptor:
        """Return the descriptor of the listening socket at *address*."""


@dataclass
class Rig:
    """The transport under test, as checks need it."""

    make: Callable[[], Transport]
    """Makes one party's transport."""
    listen: Listen = Listener
    pause: Callable[[Sequence[Source]], None] = lambda sources: None
    """Waits a little for one of the sources; transports that deliver at once need none."""
    opened: list[Transport | Channel | Inbox] = field(default_factory=list)
    broken: list[bytes] = field(default_factory=list)
    """The tokens of bindings an inbox found broken."""

    def connect(self, says: bytes = TOKEN) -> tuple[Channel, Descriptor]:
        """Return the sending end of a binding, which *says* that this is its token, and its end point."""
        address = f"binding-{len(self.opened)}"
        descriptor, party = self.listen(address), self.make()
        channel = party.channel(address, says)
        self.opened += (party, channel)
        return channel, descriptor

    def channel(self, inbox: Inbox, token: bytes = TOKEN, owner: int = 1) -> Channel:
        """Return the sending end of a binding to *inbox*, of a party of its own."""
        channel, descriptor = self.connect(token)
        inbox.admit(token, descriptor, owner)
        return channel

    def inbox(self) -> Inbox:
        """Return the receiving end of a thread, of a party of its own."""
        party = self.make()
        self.opened += (party, party.inbox(lambda tokens, _why: self.broken.extend(tokens)))
        return cast("Inbox", self.opened[-1])

    def pair(self, token: bytes = TOKEN) -> tuple[Channel, Inbox]:
        """Return the two ends of a binding."""
        inbox = self.inbox()
        return self.channel(inbox, token), inbox

    def close(self) -> None:
        """Close every party's transport, and then its ends once more."""
        while self.opened:
            self.opened.pop(0).close()

    def await_(self, source: Source, look: Callable[[], T | None]) -> T:
        """Return the first result of *look* that is not None. Raises AssertionError when there is none."""
        for _ in range(PATIENCE):
            found = look()
            if found is not None:
                return found
            self.pause([source])
        raise AssertionError("nothing arrived")

    def take(self, inbox: Inbox, count: int) -> list[tuple[bytes, list[bytes]]]:
        """Return the next *count* messages of *inbox*."""
        return [self.await_(inbox, inbox.receive) for _ in range(count)]

    def answers(self, channel: Channel, count: int) -> list[list[bytes]]:
        """Return the next *count* answers over *channel*."""
        return [self.await_(channel, channel.receive) for _ in range(count)]


def expect(found: object, wanted: object) -> None:
    """Raise AssertionError unless *found* is *wanted*: works with assertions switched off."""
    if found != wanted:
        raise AssertionError(f"got {found!r:.200}, not {wanted!r:.200}")


def _send(channel: Channel, *messages: Sequence[bytes]) -> None:
    for message in messages:
        expect(channel.send(message), wanted=True)


def check_nothing_yet(rig: Rig) -> None:
    """Receiving from a fresh binding returns None at both ends."""
    channel, inbox = rig.pair()
    expect((channel.receive(), inbox.receive()), (None, None))


def check_order(rig: Rig) -> None:
    """Messages of one binding arrive in the order they were sent, each once."""
    channel, inbox = rig.pair()
    messages = [[b"%d" % number] for number in range(100)]
    _send(channel, *messages)
    expect([frames for _, frames in rig.take(inbox, 100)], messages)
    expect(inbox.receive(), None)


def check_frames(rig: Rig) -> None:
    """Frames arrive as they were cut: several, empty ones, one byte, any byte value."""
    channel, inbox = rig.pair()
    messages = [[b"a"], [b"", b""], [b"head", b"", b"tail"], [bytes(range(256))], [b"x"] * 20]
    _send(channel, *messages)
    expect([frames for _, frames in rig.take(inbox, len(messages))], messages)


def check_big(rig: Rig) -> None:
    """A frame of four MiB, the longest string item, arrives whole, both ways."""
    channel, inbox = rig.pair()
    big = bytes(range(256)) * (4 << 12)
    _send(channel, [b"head", big])
    [(token, frames)] = rig.take(inbox, 1)
    expect(frames == [b"head", big], wanted=True)
    expect(inbox.send(token, frames), wanted=True)
    expect(rig.answers(channel, 1) == [[b"head", big]], wanted=True)


def check_token(rig: Rig) -> None:
    """A message arrives under the token of its binding."""
    channel, inbox = rig.pair(OTHER)
    _send(channel, [b"who"])
    expect(rig.take(inbox, 1), [(OTHER, [b"who"])])


def check_answers(rig: Rig) -> None:
    """Answers go back over the same binding, in order, and not into the inbox."""
    channel, inbox = rig.pair()
    _send(channel, [b"question"])
    rig.take(inbox, 1)
    for answer in (b"1", b"2", b"3"):
        expect(inbox.send(TOKEN, [answer, b""]), wanted=True)
    expect(rig.answers(channel, 3), [[b"1", b""], [b"2", b""], [b"3", b""]])
    expect(inbox.receive(), None)


def check_routing(rig: Rig) -> None:
    """With many senders, each answer reaches the one whose token it was sent to."""
    inbox = rig.inbox()
    tokens = [bytes([number]) * 16 for number in range(1, 21)]
    channels = {token: rig.channel(inbox, token) for token in tokens}
    for token, channel in channels.items():
        _send(channel, [token[:1]])
    arrived = rig.take(inbox, len(tokens))
    expect(sorted(arrived), [(token, [token[:1]]) for token in tokens])
    for token, frames in arrived:
        expect(inbox.send(token, [b"to", *frames]), wanted=True)
    for token, channel in channels.items():
        expect(rig.answers(channel, 1), [[b"to", token[:1]]])
        expect(channel.receive(), None)


def check_many_senders_keep_their_order(rig: Rig) -> None:
    """Bindings may overtake one another; messages of one binding never do."""
    first, inbox = rig.pair()
    second = rig.channel(inbox, OTHER)
    for number in range(50):
        _send(first, [b"%d" % number])
        _send(second, [b"%d" % number])
    arrived = rig.take(inbox, 100)
    for wanted in (TOKEN, OTHER):
        expect([frames for token, frames in arrived if token == wanted], [[b"%d" % n] for n in range(50)])


def check_two_threads(rig: Rig) -> None:
    """One party sends to two threads over two bindings; each gets its own."""
    inboxes = {TOKEN: rig.inbox(), OTHER: rig.inbox()}
    for token, inbox in inboxes.items():
        _send(rig.channel(inbox, token), [token[:1]])
    for token, inbox in inboxes.items():
        expect(rig.take(inbox, 1), [(token, [token[:1]])])


def check_early(rig: Rig) -> None:
    """Messages sent before the inbox admits the binding wait, and arrive in order."""
    inbox = rig.inbox()
    channel, descriptor = rig.connect()
    _send(channel, [b"one"], [b"two"])
    expect(inbox.receive(), None)
    inbox.admit(TOKEN, descriptor, 1)
    expect(rig.take(inbox, 2), [(TOKEN, [b"one"]), (TOKEN, [b"two"])])


def check_another_token(rig: Rig) -> None:
    """A sender that says another token than its binding's is not heard, under neither."""
    channel, inbox = rig.pair()
    _send(channel, [b"first"])
    rig.take(inbox, 1)
    thief, descriptor = rig.connect(TOKEN)
    inbox.admit(OTHER, descriptor, 2)
    thief.send([b"stolen"])
    _send(channel, [b"mine"])
    expect(rig.take(inbox, 1), [(TOKEN, [b"mine"])])
    expect(inbox.send(OTHER, [b"answer"]), wanted=False)
    expect((inbox.send(TOKEN, [b"answer"]), rig.answers(channel, 1)), (True, [[b"answer"]]))
    expect((inbox.receive(), thief.receive()), (None, None))


def check_close_peer(rig: Rig) -> None:
    """A closed binding is no longer heard, nor answered; others go on."""
    gone, inbox = rig.pair()
    stays = rig.channel(inbox, OTHER)
    _send(gone, [b"first"])
    rig.take(inbox, 1)
    inbox.close_peer(TOKEN)
    inbox.close_peer(TOKEN)
    gone.send([b"too late"])
    _send(stays, [b"on"])
    expect(rig.take(inbox, 1), [(OTHER, [b"on"])])
    expect((inbox.send(TOKEN, [b"answer"]), inbox.send(OTHER, [b"answer"])), (False, True))
    expect((rig.answers(stays, 1), inbox.receive()), ([[b"answer"]], None))


def check_unknown_token(rig: Rig) -> None:
    """An answer to an unknown token is refused, and disturbs no binding."""
    channel, inbox = rig.pair()
    _send(channel, [b"here"])
    rig.take(inbox, 1)
    expect(inbox.send(OTHER, [b"stray"]), wanted=False)
    expect(inbox.send(TOKEN, [b"mine"]), wanted=True)
    expect(rig.answers(channel, 1), [[b"mine"]])


def check_bounded(rig: Rig) -> None:
    """A sender whose receiver takes nothing is told that the queue is full; nothing it sent is lost."""
    channel, inbox = rig.pair()
    sent = 0
    while channel.send([b"%d" % sent]):
        sent += 1
        if sent > 1 << 20:
            raise AssertionError("the queue has no bound")
    expect([frames for _, frames in rig.take(inbox, sent)], [[b"%d" % number] for number in range(sent)])


def check_full_queue_empties(rig: Rig) -> None:
    """A full queue takes messages again once the receiver took some."""
    channel, inbox = rig.pair()
    while channel.send([b"fill"]):
        pass
    for _ in range(PATIENCE * 10):
        if channel.send([b"more"]):
            return
        rig.await_(inbox, inbox.receive)
    raise AssertionError("the queue stayed full")


def check_close_twice(rig: Rig) -> None:
    """Everything can be closed twice, and a transport after its ends."""
    channel, inbox = rig.pair()
    for end in (channel, channel, inbox, inbox):
        end.close()
    rig.close()


def check_sources(rig: Rig) -> None:
    """Each end has a number of its own to wait on."""
    channel, inbox = rig.pair()
    expect(len({channel.fileno(), inbox.fileno(), rig.channel(inbox, OTHER).fileno()}), 3)


CHECKS: tuple[Callable[[Rig], None], ...] = (
    check_nothing_yet,
    check_order,
    check_frames,
    check_big,
    check_token,
    check_answers,
    check_routing,
    check_many_senders_keep_their_order,
    check_two_threads,
    check_early,
    check_another_token,
    check_close_peer,
    check_unknown_token,
    check_bounded,
    check_full_queue_empties,
    check_close_twice,
    check_sources,
)

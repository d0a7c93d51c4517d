"""Turns: however much one sends, others wait for only a few of its messages, over every transport."""

import fcntl
import select
import struct
import termios
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from libexo.ipc.packing import CALL
from libexo.testing.rings import RingHub, lines
from libexo.transport.framing import encode
from libexo.transport.inprocess import Hub, Listener
from libexo.transport.ring.ends import RingInbox
from libexo.transport.ring.layout import short
from libexo.transport.ring.spinning import SpinPolicy
from libexo.transport.stream import QUEUE, WINDOW
from libexo.transport.turns import Turns
from libexo.transport.zmq_inbox import STRAIGHT
from tests.libexo.transport.test_zmq import Party, Place

HOST, GUEST, FLOOD = 1, 2, 90
"""The party that floods, one that does not, and the messages of the first: what ZeroMQ hands over at a time."""


def test_each_party_has_its_turn() -> None:
    """However much there is of one, of each comes one, in the order of its own."""
    turns: Turns[str] = Turns()
    for party, thing in ((1, "a"), (1, "b"), (1, "c"), (2, "d"), (3, "e"), (2, "f")):
        turns.add(party, thing)

    assert [turns.next() for _ in range(7)] == [
        *((1, "a"), (2, "d"), (3, "e"), (1, "b"), (2, "f"), (1, "c")),
        None,
    ]


def test_who_comes_has_one_of_each_before() -> None:
    """A newcomer comes after one of each party that waits, and no more, whenever it comes."""
    turns: Turns[int] = Turns()
    for n in range(10):
        turns.add(1, n)
        turns.add(2, n)
    turns.next()
    turns.add(3, 0)

    assert [turn[0] for turn in (turns.next(), turns.next(), turns.next()) if turn] == [2, 1, 3]


def test_dropped() -> None:
    """Dropped things were never there, and an empty party has no turn."""
    turns: Turns[str] = Turns()
    for thing in "abc":
        turns.add(1, thing)
    dropped = turns.drop(1, lambda thing: thing == "b"), turns.drop(2, lambda _: True)

    assert (dropped, turns.count(), turns.next(), turns.next(), bool(turns)) == (
        *((["b"], []), 2),
        *((1, "a"), (1, "c"), False),
    )


@pytest.mark.parametrize("bindings", [1, 7])
@pytest.mark.parametrize("make", [Hub, RingHub], ids=["queues", "rings"])
def test_a_flood_between_queues(make: type[Hub] | type[RingHub], bindings: int) -> None:
    """After a flood over any number of bindings, the next message of another party comes after one of it."""
    hub = make()
    inbox = hub.transport().inbox(lambda token, why: None)
    channels = []
    for n, owner in enumerate((*[HOST] * bindings, GUEST)):
        channels.append(hub.transport().channel(f"at-{n}", bytes([n]) * 16))
        inbox.admit(bytes([n]) * 16, Listener(f"at-{n}"), owner)
    for channel in channels[:-1]:
        for _ in range(FLOOD):
            assert channel.send([b"flood"])
    before = [inbox.receive() for _ in range(5)]
    assert channels[-1].send([b"guest"])
    came = [received[1] for _ in range(3) if (received := inbox.receive()) is not None]

    assert [received[1] for received in before if received is not None] == [[b"flood"]] * 5
    assert [b"guest"] in came[:2]


@pytest.mark.parametrize("make", [Hub, RingHub], ids=["queues", "rings"])
def test_what_was_withdrawn_takes_no_turn(make: type[Hub] | type[RingHub]) -> None:
    """The party of a withdrawn message still has its turn, and the others theirs after it."""
    hub = make()
    inbox = hub.transport().inbox(lambda token, why: None)
    for owner in (HOST, GUEST):
        channel = hub.transport().channel(f"at-{owner}", bytes([owner]) * 16)
        inbox.admit(bytes([owner]) * 16, Listener(f"at-{owner}"), owner)
        for _ in range(3):
            assert channel.send([b"message"])
    order = []
    for _ in range(6):
        received = inbox.receive()
        assert received is not None
        order.append(received[0][0])
        if len(order) == 1:
            inbox.again(received[0])
    inbox.again(bytes([HOST]) * 16)

    assert (order, inbox.receive()) == ([order[0], order[0], 3 - order[0], *order[3:]], None)
    assert sorted(order) == [HOST] * 3 + [GUEST] * 3


@pytest.mark.parametrize("held", [1, 20])
def test_a_flood_through_rings(held: int) -> None:
    """One party with many rings has one turn in two: the abbreviated requests of another are not kept waiting."""
    hub = Hub()
    inbox = RingInbox(
        hub.transport().inbox(lambda token, why: None), SpinPolicy(0), lambda token, error: None
    )
    pairs = [lines(1 << 16) for _ in range(held + 1)]
    for n, (_, receiver) in enumerate(pairs):
        inbox.attach(bytes([n]) * 16, receiver, GUEST if n == held else HOST)
    for sender, _ in pairs:
        for sequence in range(1, 11):
            assert sender.put(short(CALL, 1), sequence, 0x40, b"")
    order = []
    for _ in range(2 * 10):
        turn = inbox.next_duplex((None,))
        assert turn is not None
        assert turn[1].get() is not None
        order.append(turn[0][0])

    assert [n == held for n in order] == [False, True] * 10
    assert set(order[::2]) == set(range(min(held, 10)))


# ----------------------------------------------------------------------------------------------- real sockets


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def flood(party: Party, times: int = FLOOD) -> None:
    party.send(b"".join(encode([b"%d" % n]) for n in range(times)))


def gathered(place: Place, *parties: Party) -> None:
    """Have ZeroMQ read what *parties* sent, and the inbox keep a piece of each, without receiving a message."""
    for party in parties:
        while struct.unpack("i", fcntl.ioctl(party.end, termios.TIOCOUTQ, bytes(4)))[0]:
            select.select([], [], [], 0.001)
    waiting = {party.token for party in parties}
    while {peer.token for peer in place.inbox._peers.values() if peer.waiting} < waiting:
        select.select([place.inbox], [], [], 0.001)
        place.inbox._gather()


@pytest.mark.parametrize("bindings", [1, 5])
def test_a_flood_through_sockets(place: Place, bindings: int) -> None:
    """ZeroMQ hands over ninety messages of a flood at a time; the one of another party comes after one of them."""
    floods = [place.bind(HOST) for _ in range(bindings)]
    guest = place.bind(GUEST)
    for party in (*floods, guest):
        flood(party)
    gathered(place, *floods, guest)
    tokens = [place.take()[0] for _ in range(40)]

    assert [token == guest.token for token in tokens] in ([False, True] * 20, [True, False] * 20)


def test_the_straight_way_has_an_end(place: Place) -> None:
    """Of messages that are received as they come, one after each wait, every ninth is looked for beside others."""
    party = place.bind(HOST)
    looks: list[int] = []
    gather = place.inbox._gather

    def counted(most: int) -> int:
        looks.append(len(came))
        return gather(most)

    place.inbox._gather = counted  # type: ignore[method-assign, assignment]
    poll = place.transport.poll([place.inbox])
    came: list[bytes] = []
    while len(came) < 4 * (STRAIGHT + 1):
        flood(party, times=1)
        arrived = None
        while arrived is None:
            poll.poll()
            arrived = place.inbox.receive()
        came.append(arrived[0])

    assert len({n // (STRAIGHT + 1) for n in looks}) == 4


def test_order_within_a_flood(place: Place) -> None:
    """One binding's messages arrive in order, whole, with anything waiting for its turn meanwhile."""
    parties = [place.bind(owner) for owner in (HOST, HOST, GUEST)]
    for party in parties:
        for _ in range(10):
            flood(party, 50)
    came = [place.take() for _ in range(3 * 500)]

    for party in parties:
        numbers = [int(frames[0]) for token, frames in came if token == party.token]
        assert numbers == [*range(50)] * 10


def test_a_sender_stops_when_nothing_is_read(place: Place) -> None:
    """A sender that keeps to the rules has WINDOW bytes under way at most, and goes on when they were read."""
    channel, _ = place.channel(HOST)
    sent = 0
    while channel.send([b"x" * 4096]):
        sent += 4096
    assert WINDOW <= sent < WINDOW + QUEUE
    came = place.until(lambda: channel.send([b"on"]))

    assert came[0][1] == [b"x" * 4096]
    assert place.broken == []


def test_a_long_message_goes_alone(place: Place) -> None:
    """A message larger than the window is sent when nothing else is under way; the next ones wait for room."""
    channel, _ = place.channel(HOST)
    place.inbox.limit = 8 << 20
    assert channel.send([b"", b"x" * (4 * WINDOW)])
    refused = channel.send([b"more"])
    came = place.until(lambda: channel.send([b"more"]))
    _, first = came[0] if came else place.take()

    assert (refused, len(first[1])) == (False, 4 * WINDOW)
    assert place.take()[1] == [b"more"]


def test_heedless_senders_are_cut_off(place: Place) -> None:
    """A sender that goes on while nothing is read ends up holding more than all may, and loses its binding."""
    guest, heedless = place.bind(GUEST), place.bind(HOST)
    heedless.end.setblocking(False)
    flood(guest, times=1)
    gathered(place, guest)
    for _ in range(10_000):
        try:
            heedless.end.send(encode([b"x" * 1000]) * 8)
        except BlockingIOError:
            place.inbox._gather()
            select.select((), (heedless.end,), (), 0.02)  # ZeroMQ's own thread takes it out
        except ConnectionError:
            break
        if place.broken:
            break

    assert [token for token, _ in place.broken] == [heedless.token]
    assert place.take()[0] == guest.token
    assert place.inbox._held < 1 << 10


def test_a_flood_over_many_bindings_is_cut_at_once(place: Place) -> None:
    """The party whose bindings hold too much together loses several of them at a time, and nobody else any."""
    guest, *floods = (place.bind(GUEST), *(place.bind(HOST) for _ in range(20)))
    flood(guest, times=1)
    gathered(place, guest)
    for party in cycle(floods):
        if place.broken:
            break
        party.send(encode([b"x" * 1000]) * 8)
        place.inbox._gather()
    lost = {token for token, _ in place.broken}

    assert place.inbox._held < place.inbox.limit
    assert 1 < len(lost) < 20
    assert guest.token not in lost


def test_what_was_withdrawn_takes_no_turn_of_a_socket(place: Place) -> None:
    """The party of a withdrawn message still has its turn: the other party's comes after its next one."""
    parties = [place.bind(HOST), place.bind(GUEST)]
    for party in parties:
        flood(party, 3)
    gathered(place, *parties)
    order = []
    for _ in range(6):
        received = place.inbox.receive()
        assert received is not None
        order.append(received[0])
        if len(order) == 1:
            place.inbox.again(received[0])

    assert order[0] == order[1] != order[2]
    assert sorted(order) == sorted([party.token for party in parties] * 3)

"""The ZeroMQ transport against senders that break the rules, with no effect on others."""

import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from libexo.transport import zmq_inbox as transport
from libexo.transport import zmq_polling
from libexo.transport.binding import PIECE, Binding
from libexo.transport.framing import HEAD, encode, report
from libexo.transport.stream import StreamChannel
from libexo.transport.zmq import ZmqTransport
from libexo.transport.zmq_inbox import FEW_CHUNKS, ZmqInbox

LIMIT = 1 << 20
KIB = 1 << 10
TURNS = 2000


class Party:
    """A bound sender, which sends what it likes."""

    def __init__(self, end: socket.socket, token: bytes, is_read: Callable[[], object]) -> None:
        self.end = end
        self.token = token
        self.is_read = is_read
        """Has what was sent be taken out of the socket: it does not hold everything."""

    def send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self.end.send(left, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self.is_read()

    def begin(self, size: int, of: int = LIMIT // 2) -> None:
        """Send *size* bytes of a message of a string of *of* bytes."""
        self.send(HEAD.pack(2, 0, 0) + struct.pack("<I", of) + bytes(size))

    def hung_up(self) -> bool:
        """Say whether the other side has closed the connection, whatever it sent before."""
        self.end.setblocking(False)
        try:
            while self.end.recv(1 << 16):
                pass
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return True


class Place:
    """An inbox on real sockets."""

    def __init__(self, run: Path) -> None:
        (run / "ipc").mkdir()
        self.run = run
        self.transport = ZmqTransport(run)
        self.broken: list[tuple[bytes, str]] = []
        self.inbox: ZmqInbox = self.transport.inbox(self.note)
        self.inbox.limit = LIMIT
        self.parties: list[Party] = []
        self.channels: list[StreamChannel] = []

    def note(self, tokens: Sequence[bytes], why: str) -> None:
        """Those are closed; no token: somebody had none."""
        self.broken += [(token, why) for token in tokens or (b"",)]

    def listen(self) -> tuple[str, int]:
        """Return the address and the descriptor of a new end point."""
        address = f"{len(self.parties)}-{len(list((self.run / 'ipc').iterdir()))}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as made:
            made.bind(str(self.run / "ipc" / address))
            made.listen(0)
            return address, made.detach()

    def bind(self, owner: int, *, says: bytes | None = None) -> Party:
        """Return a bound sender of environment *owner*, which *says* another token than its own."""
        token = bytes([len(self.parties) + 1]) * 16
        address, descriptor = self.listen()
        end = socket.socket(socket.AF_UNIX)
        end.connect(str(self.run / "ipc" / address))
        self.parties.append(Party(end, token, self.inbox._gather))
        self.parties[-1].send(token if says is None else says)
        self.inbox.admit(token, descriptor, owner)
        return self.parties[-1]

    def channel(self, owner: int) -> tuple[StreamChannel, bytes]:
        """Return the channel of a sender that keeps to the rules, and its token."""
        token = bytes([200 + owner]) * 16
        address, descriptor = self.listen()
        channel = self.transport.channel(address, token)
        self.channels.append(channel)
        self.inbox.admit(token, descriptor, owner)
        return channel, token

    def until(self, holds: Callable[[], bool]) -> list[tuple[bytes, list[bytes]]]:
        """Receive until something *holds*; return what came."""
        came = []
        for _ in range(TURNS):
            while (arrived := self.inbox.receive()) is not None:
                came.append(arrived)
            if holds():
                return came
            select.select([self.inbox], [], [], 0.02)
        raise AssertionError("it never came to be")

    def take(self) -> tuple[bytes, list[bytes]]:
        """Return the next message."""
        for _ in range(TURNS):
            if (arrived := self.inbox.receive()) is not None:
                return arrived
            select.select([self.inbox], [], [], 0.02)
        raise AssertionError("nothing came")

    def answer(self, channel: StreamChannel) -> list[bytes]:
        """Return the next answer over *channel*."""
        for _ in range(TURNS):
            self.inbox.receive()
            if (answer := channel.receive()) is not None:
                return answer
            select.select([channel], [], [], 0.02)
        raise AssertionError("no answer came")

    def close(self) -> None:
        for party in self.parties:
            party.end.close()
        for channel in self.channels:
            channel.close()
        self.inbox.close()
        self.transport.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def test_who_holds_the_most_loses_it(place: Place) -> None:
    """When what is not complete passes the limit, the environment that holds the most loses its fullest binding."""
    innocent, small, large = place.bind(1), place.bind(2), place.bind(2)
    for party, size in ((innocent, 400), (small, 200), (large, 500)):
        party.begin(size * KIB)
    place.until(lambda: bool(place.broken))
    place.until(large.hung_up)

    assert [token for token, _ in place.broken] == [large.token]
    assert (innocent.hung_up(), small.hung_up()) == (False, False)


def test_one_look_is_at_so_many_pieces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that complete nothing do not hold a receiver in one look, which says that more may come."""
    monkeypatch.setattr(transport, "AT_ONCE", 4)
    looked: list[int] = []
    take = ZmqInbox._take

    def take_and_count(inbox: ZmqInbox, peer: Binding, chunk: bytes) -> Sequence[list[bytes]]:
        looked[-1] += 1
        return take(inbox, peer, chunk)

    monkeypatch.setattr(ZmqInbox, "_take", take_and_count)
    parties = [place.bind(owner) for owner in range(3)]
    for party in parties:
        party.begin(100 * KIB)
    poll, held = place.transport.poll([place.inbox]), sum(100 * KIB + HEAD.size + 4 for _ in parties)
    while place.inbox._held < held:
        poll.poll(1000)
        looked.append(0)
        assert place.inbox.receive() is None
        assert place.inbox.is_ready or looked[-1] < 4

    assert max(looked) <= 4


def test_the_innocent_goes_on(place: Place) -> None:
    """A sender not to blame sends the rest of its message, and is heard."""
    innocent, guilty = place.bind(1), [place.bind(2) for _ in range(4)]
    innocent.begin(100 * KIB, of=200 * KIB)
    for party in guilty:
        party.begin(300 * KIB)
    place.until(lambda: bool(place.broken))
    innocent.send(bytes(100 * KIB))

    assert place.take() == (innocent.token, [b"", bytes(200 * KIB)])


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (HEAD.pack(1 << 31, 0, 0), "a message of"),
        (HEAD.pack(2, 0, 0) + struct.pack("<I", 2 * LIMIT), "a message of"),
        (encode([b"x"], 5), "has read 5 bytes of 0"),
        (report(1), "has read 1 bytes of 0"),
        (bytes(64), "has read 0 bytes"),
    ],
)
def test_who_contradicts_himself_is_hung_up_on(place: Place, says: bytes, why: str) -> None:
    """Its binding ends at once, and nobody else's."""
    bad, (channel, token) = place.bind(1), place.channel(2)
    bad.send(says)
    place.until(lambda: bool(place.broken))
    place.until(bad.hung_up)
    channel.send([b"on"])

    assert [(broken, why in text) for broken, text in place.broken] == [(bad.token, True)]
    assert place.take() == (token, [b"on"])


def test_a_newcomer_is_met_however_many_leave_meanwhile(place: Place) -> None:
    """Of connections that we closed ZeroMQ says what it says of new ones: no new one is lost by that."""
    newcomer = place.bind(1, says=b"")
    leaving = [place.bind(2) for _ in range(4)]
    place.until(lambda: len(place.inbox._connected) == len(leaving))
    for party in leaving:
        party.end.close()
        assert place.inbox.socket.poll(10_000)  # it is known that it closed, and not read yet
        place.inbox.close_peer(party.token)
        assert place.inbox.receive() is None
    newcomer.send(newcomer.token + encode([b"here"]))

    assert place.take() == (newcomer.token, [b"here"])


def test_answers_nobody_reads_are_bounded(place: Place) -> None:
    """A client that never reads its answers loses its binding beyond the limit; one that reads goes on for ever."""
    deaf, (channel, token) = place.bind(1), place.channel(2)
    deaf.send(encode([b"?"]))
    place.take()
    answer = [bytes(100 * KIB)]
    sent = 0
    while place.inbox.send(deaf.token, answer):
        sent += 1
        assert sent < 20
    channel.send([b"?"])
    place.take()
    for _ in range(30):
        assert place.inbox.send(token, [b"head", answer[0]])
        assert place.answer(channel) == [b"head", *answer]

    assert [broken for broken, _ in place.broken] == [deaf.token]


def test_short_answers_cost_more_than_their_bytes(place: Place) -> None:
    """A client that never reads loses its binding after fewer short answers than bytes would fill the limit."""
    deaf = place.bind(1)
    deaf.send(encode([b"?"]))
    place.take()
    sent = 0
    while place.inbox.send(deaf.token, [b"!"]):
        sent += 1

    assert sent == LIMIT // (PIECE + HEAD.size + 1)


def test_one_that_reads_behind_is_charged_for_what_is_unread(place: Place) -> None:
    """A client that never reads everything, but goes on, pays for the unread part, or twice as much."""
    behind, unread = place.bind(1), 10
    record = HEAD.size + 1
    most = 0
    for sent in range(1, 1000):
        behind.send(encode([b"?"], max(sent - unread, 0) * record))
        place.take()
        assert place.inbox.send(behind.token, [b"!"])
        most = max(most, place.inbox._held)

    assert unread * (PIECE + record) <= most <= 2 * (unread + 1) * (PIECE + record)


def test_what_was_read_is_held_no_more(place: Place) -> None:
    """After calls and answers, the last answer is all that is held, and nothing once the peer has left."""
    channel, token = place.channel(1)
    for _ in range(50):
        channel.send([b"?"])
        place.take()
        place.inbox.send(token, [bytes(KIB)])
        place.answer(channel)
    last = place.inbox._held
    channel.close()
    place.until(lambda: place.inbox._held == 0)

    assert last == KIB + HEAD.size + PIECE


def test_strangers(place: Place) -> None:
    """A sender of a token that is in use, or of none, is hung up on and reported; half a token waits."""
    one = place.bind(1)
    one.send(encode([b"x"]))
    place.take()
    thief, guesser, slow = (
        place.bind(2, says=one.token),
        place.bind(3, says=b"?" * 16),
        place.bind(4, says=b"half"),
    )
    place.until(lambda: len(place.broken) == 2)
    place.until(lambda: thief.hung_up() and guesser.hung_up())
    one.send(encode([b"y"]))

    assert place.take() == (one.token, [b"y"])
    assert ([token for token, _ in place.broken], slow.hung_up()) == ([b"", b""], False)


def test_of_a_crowd_little_is_read_ahead(place: Place) -> None:
    """A few pieces of each connection; all that they send comes, in order."""
    place.inbox.limit = 8 << 20  # room for all: holding the most does not matter here
    parties = []
    for owner in range(40):
        parties.append(place.bind(owner))
        parties[-1].send(b"".join(encode([bytes([n]) * KIB]) for n in range(100)))
    came = [place.take() for _ in range(40 * 100)]

    assert place.inbox.socket.getsockopt(zmq.RCVHWM) == FEW_CHUNKS
    for party in parties:
        assert [frames[0][0] for token, frames in came if token == party.token] == list(range(100))


def test_no_descriptor_is_left(place: Place) -> None:
    """A binding that is closed gives back its listening socket and its connection, however it ended."""
    channel, token = place.channel(1)
    channel.send([b"x"])
    place.take()
    before = psutil.Process().num_fds()
    for _ in range(5):
        party = place.bind(1)
        party.send(encode([b"x"]))
        place.take()
        place.inbox.close_peer(party.token)
        party.end.close()
    place.until(lambda: psutil.Process().num_fds() <= before)
    channel.send([b"on"])

    assert place.take() == (token, [b"on"])


def test_several_long_strings(place: Place) -> None:
    """Long messages pass in pieces, both ways, whole, and what they took is free again."""
    place.inbox.limit = 32 << 20
    channel, token = place.channel(1)
    message = [b"head", *(bytes([n]) * (4 << 20) for n in range(3))]
    channel.send(message)
    arrived = place.take()
    place.inbox.send(token, message)
    answer = place.answer(channel)

    assert arrived == (token, message)
    assert answer == message
    place.until(lambda: place.inbox._held < 1 << 16)


def test_what_was_answered_before_the_end_is_read(place: Place) -> None:
    """An answer that came before its sender ended is there, however late one looks."""
    address, descriptor = place.listen()
    gone = place.transport.channel(address, b"g" * 16)
    place.channels.append(gone)
    with socket.socket(fileno=descriptor) as listener:
        select.select([listener], [], [])
        end, _ = listener.accept()
    with end:
        end.sendall(encode([b"last words"]))
    stays, token = place.channel(1)
    for _ in range(20):  # the thread of ZeroMQ that hears of the end has a turn between any two of these
        stays.send([b"?"])
        place.take()
        place.inbox.send(token, [b"!"])
        place.answer(stays)

    assert place.answer(gone) == [b"last words"]


def test_quiet_sockets_are_waited_for_by_the_host_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While sockets were found empty, a wait that something else ends asks ZeroMQ nothing; a message is found."""
    asked: list[int] = []

    def ask(items: Any, milliseconds: int = -1) -> Any:  # noqa: ANN401 - as it is
        asked.append(milliseconds)
        return zmq.zmq_poll(items, milliseconds)

    monkeypatch.setattr(zmq_polling, "zmq_poll", ask)
    channel, token = place.channel(1)
    bell, told = socket.socketpair()
    with bell, told:
        wait = zmq_polling.ZmqPoll((bell, place.inbox))
        channel.send((b"hello",))
        assert place.take() == (token, [b"hello"])
        told.send(b"!")
        for _ in range(TURNS):  # what ZeroMQ has to see to yet, it is asked for
            asked.clear()
            assert wait.poll() == [(bell.fileno(), select.POLLIN)]
            if not asked:
                break
        assert (asked, place.inbox.is_ready, place.inbox.is_quiet) == ([], False, True)

        bell.recv(1)
        channel.send((b"again",))
        while not place.inbox.is_ready:
            assert wait.poll() == []
        assert asked
        assert place.take() == (token, [b"again"])


def test_a_socket_is_not_quiet_while_messages_wait_for_their_turn(place: Place) -> None:
    """They were taken out of it together with earlier ones: a wait does not last, and says whose they are."""
    one, other = place.channel(1)[0], place.channel(2)[0]
    wait = zmq_polling.ZmqPoll((place.inbox,))
    one.send((b"first",))
    other.send((b"second",))
    while not place.inbox.messages:
        select.select([place.inbox], [], [], 0.02)
        place.inbox._gather()
    for _ in range(TURNS):
        place.inbox._gather()
        if place.inbox.is_quiet:
            break
    assert wait.poll() == []
    assert (place.inbox.is_ready, place.inbox.is_quiet) == (True, False)

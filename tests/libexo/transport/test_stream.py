"""The sending end of a binding over a plain socket, with the other end in the test's hands."""

import atexit
import os
import select
import socket
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from libexo.errors import BrokenStream
from libexo.host.real import RealHost
from libexo.transport.framing import encode, report
from libexo.transport.outbox import Outbox
from libexo.transport.polling import Poll
from libexo.transport.stream import CHUNKS, QUEUE, WHOLE, StreamChannel
from libexo.transport.zmq import ZmqTransport

TOKEN = b"t" * 16
LONG = [b"head", bytes(WHOLE) * 16]


class Receiver:
    """Who accepts one connection, and reads and writes bytes."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(0)
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        """Accept, and take the token."""
        self.connection, _ = self._listener.accept()
        assert self.connection.recv(len(TOKEN)) == TOKEN
        return self.connection

    def close(self) -> None:
        self._listener.close()
        if self.connection is not None:
            self.connection.close()


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    """An outbox, which leaves no thread."""
    before = threading.active_count()
    made = Outbox()
    yield made
    made.close()
    assert threading.active_count() == before


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    made = Receiver(tmp_path / "end")
    yield made
    made.close()


@pytest.fixture
def channel(receiver: Receiver, outbox: Outbox) -> Iterator[StreamChannel]:
    made = StreamChannel(receiver.path, TOKEN, outbox)
    yield made
    made.close()


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := connection.recv(size - len(data))):
        data += piece
    return data


def tells(channel: StreamChannel) -> bool:
    """Say whether its descriptor tells of anything now, an end included."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))


def test_a_long_message_leaves_by_itself(channel: StreamChannel, receiver: Receiver) -> None:
    """A message that the host does not take at once arrives whole, though its sender never comes back."""
    connection = receiver.accept()
    assert channel.send(LONG)
    wanted = encode(LONG)
    assert read(connection, len(wanted)) == wanted


def test_an_end_waits_for_the_rest(channel: StreamChannel, receiver: Receiver, outbox: Outbox) -> None:
    """Who drains the outbox comes back when all of a long message was sent."""
    connection, wanted = receiver.accept(), encode(LONG)
    channel.send(LONG)
    reader = threading.Thread(target=read, args=(connection, len(wanted)))
    reader.start()
    outbox.drain(60)
    assert not channel.unsent
    reader.join()


def test_the_next_message_waits_behind_a_long_one(channel: StreamChannel, receiver: Receiver) -> None:
    """What is sent while a long message is on its way arrives after it, whole and in order."""
    connection = receiver.accept()
    messages = [LONG, [b"one"], [b"two"]]
    channel.send(messages[0])
    channel._sent = 0  # the window would refuse them
    assert all(channel.send(each) for each in messages[1:])
    wanted = b"".join(map(encode, messages))
    assert read(connection, len(wanted)) == wanted


def test_a_queue_is_full(channel: StreamChannel, receiver: Receiver) -> None:
    """QUEUE messages wait for a receiver that takes none; the next is refused, and none of them is lost."""
    connection = receiver.accept()
    sent = 0
    while channel.send([b"x"]):
        sent += 1
    assert len(channel.unsent) <= QUEUE
    wanted = encode([b"x"]) * sent
    assert read(connection, len(wanted)) == wanted


def test_an_end_is_told_once(channel: StreamChannel, receiver: Receiver) -> None:
    """Answers that came before the other side hung up are read; then its descriptor is silent."""
    connection = receiver.accept()
    connection.sendall(encode([b"last"]))
    channel.send([b"never read"])
    connection.close()
    assert (channel.receive(), channel.receive(), tells(channel)) == ([b"last"], None, False)
    assert (channel.send([b"more"]), channel.receive(), tells(channel)) == (True, None, False)


def test_a_message_on_its_way_to_nobody(channel: StreamChannel, receiver: Receiver, outbox: Outbox) -> None:
    """Who hangs up in the middle of a long message is sent no more of it, and others are."""
    connection = receiver.accept()
    channel.send(LONG)
    connection.close()
    other = Receiver(Path(receiver.path + "-other"))
    second = StreamChannel(other.path, TOKEN, outbox)
    assert second.send(LONG)
    wanted = encode(LONG)
    assert read(other.accept(), len(wanted)) == wanted
    assert not channel.unsent
    second.close()
    other.close()


def test_nobody_listens(tmp_path: Path, outbox: Outbox) -> None:
    """A channel to an end point that is gone is silent, and never full: the kernel tells what happened."""
    channel = StreamChannel(str(tmp_path / "gone"), TOKEN, outbox)
    assert (channel.send([b"m"]), channel.receive(), tells(channel)) == (True, None, False)
    channel.close()


def test_no_thread(channel: StreamChannel, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host has no thread to send it, a long message is refused before a byte of it is sent."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    connection = receiver.accept()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not channel.send(LONG)
    assert channel.send([b"short"])
    assert read(connection, len(encode([b"short"]))) == encode([b"short"])


def test_answers_in_one_piece(channel: StreamChannel, receiver: Receiver) -> None:
    """A wait ends at once while there are answers that came with an earlier one."""
    receiver.accept().sendall(encode([b"1"]) + encode([b"2"]))
    poll = Poll([channel])
    assert (poll.poll(-1), channel.receive(), channel.is_ready) == ((), [b"1"], True)
    assert (poll.poll(-1), channel.receive(), channel.is_ready) == ([], [b"2"], False)
    assert poll.poll(0) == []


def test_a_handler_waits_for_the_same(
    channel: StreamChannel, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal's handler may wait for what the interrupted strand waits for."""
    receiver.accept().sendall(encode([b"1"]))
    poll = Poll([channel])
    seen: list[object] = []

    def interrupted(_: int | None) -> list[tuple[int, int]]:
        seen.append(poll.poll(-1))
        return []

    monkeypatch.setattr(poll, "_wait", interrupted)
    assert (poll.poll(-1), seen, channel.receive()) == ([], [()], [b"1"])


@pytest.mark.parametrize(
    "record", [report(1 << 40), encode([b"answer"], 1 << 40), encode([b"", b""], 1 << 40)]
)
def test_more_read_than_was_sent(channel: StreamChannel, receiver: Receiver, record: bytes) -> None:
    """Who says that he has read what was not sent, so that there would always be room, breaks the rules."""
    receiver.accept().sendall(record)
    channel.send([b"message"])
    with pytest.raises(BrokenStream, match="it says it has read 1099511627776 bytes of 23"):
        channel.receive()


def test_a_flood_of_reports(channel: StreamChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reports come, and no answer, who looks for one comes back: his time may be over."""
    read = count(1)
    channel._sent = 1 << 40
    monkeypatch.setattr(channel, "_recv", lambda _: report(next(read)))
    assert channel.receive() is None
    assert next(read) <= CHUNKS + 1


def test_answers_found_while_there_was_no_room(channel: StreamChannel, receiver: Receiver) -> None:
    """Answers that a sender took in to find room are told of, as its descriptor does not any more."""
    connection = receiver.accept()
    while channel.send([bytes(1000)]):
        pass
    connection.sendall(encode([b"1"]) + encode([b"2"]))
    assert not channel.send([bytes(1000)])
    assert (channel.is_ready, channel.look(), tells(channel)) == (True, True, False)


def test_a_handler_sends_in_the_middle(channel: StreamChannel, receiver: Receiver) -> None:
    """What a signal's handler sends while a long message is being sent comes behind that, not into it."""
    connection, put, long = receiver.accept(), channel._put, [b"head", bytes(2 * WHOLE)]

    def interrupted(record: bytes, flags: int) -> int:
        channel._put = put
        sent = put(record[: WHOLE // 2], flags)
        assert channel.send([b"handler"])
        return sent

    channel._put = interrupted  # type: ignore[assignment]
    assert channel.send(long)
    wanted = encode(long) + encode([b"handler"])
    assert read(connection, len(wanted)) == wanted
    assert channel._sent == len(wanted)


def test_a_child_of_a_fork(tmp_path: Path) -> None:
    """A forked child keeps no connection of its parent's: an epoll there would tell of its end for ever."""
    (tmp_path / "ipc").mkdir()
    receiver, transport = Receiver(tmp_path / "ipc" / "end"), ZmqTransport(tmp_path)
    channel, connection = transport.channel("end", TOKEN), receiver.accept()
    left, right = socket.socketpair()
    with left, right, select.epoll() as watch:
        watch.register(channel, select.EPOLLIN)
        child = os.fork()
        if not child:
            try:
                left.close()
                transport.forked()
                right.sendall(b"1")
                right.recv(1)
            finally:
                os._exit(0)
        right.close()
        assert left.recv(1) == b"1"
        connection.close()
        assert channel.receive() is None
        assert watch.poll(0) == []
    os.waitpid(child, 0)
    channel.close()
    transport.close()
    receiver.close()


def test_a_child_has_nothing_to_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child does not wait at its end for what its parent's strands have to send."""
    at_end: list[object] = []
    monkeypatch.setattr(atexit, "register", at_end.append)
    monkeypatch.setattr(atexit, "unregister", at_end.remove)
    kernel, gate = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host = RealHost(gate, tmp_path)
    transport, before = host.transport, len(at_end)
    host.forked("a child")
    assert (before, at_end) == (1, [])
    transport._outbox.close()
    kernel.close()

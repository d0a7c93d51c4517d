"""Gates of the real machine, against peers that do all they should not."""

import array
import os
import select
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

import hwmodel.real.gate
from hwmodel.machine import Body, Descriptor, PageFault, Port
from hwmodel.real.body import RealBody
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.gate import Gate, Peer
from hwmodel.real.loop import Loop
from hwmodel.real.port import RealPort, close_all
from kernel.abi.errors import Fault
from kernel.abi.limits import MAX_TRAP_BYTES, MAX_TRAP_DESCRIPTORS, MAX_UNREAD_DESCRIPTORS
from tests.calls import calls

pytestmark = pytest.mark.system
STEPS = 4
"""In how many parts a while passes: however late the alarm of each is seen, the loop looks at all that is ready."""


@dataclass
class Recorder:
    """A supervisor that notes what comes, and ends the loop when there is enough of it."""

    loop: Loop
    events: list[tuple[str, Body, bytes, int]] = field(default_factory=list)
    wanted: int = 0

    def run(self, events: int) -> None:
        """Run until *events* more came, or two seconds have passed."""
        self.wanted = len(self.events) + events
        limit = self.loop.alarm(self.loop.now() + 2_000_000_000, self.loop.stop)
        self.loop.run(self.stop)
        limit.cancel()
        assert len(self.events) == self.wanted

    def note(self, what: str, body: Body, data: bytes = b"", descriptors: int = 0) -> None:
        self.events.append((what, body, data, descriptors))
        if len(self.events) >= self.wanted:
            self.loop.stop()

    def trap(self, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
        self.note("trap", body, data, len(descriptors))
        close_all(descriptors)

    def broke(self, body: Body, fault: Fault, detail: str) -> None:
        self.note(fault.name, body)

    def started(self, body: Body) -> None:
        raise AssertionError

    def failed(self, body: Body, reason: str) -> None:
        raise AssertionError

    def ended(self, body: Body, status: int) -> None:
        self.note("ended", body)

    def faulted(self, body: Body, fault: PageFault) -> None:
        raise AssertionError

    def attached(self, body: Body, data: bytes) -> None:
        raise AssertionError

    def stop(self) -> None:
        raise AssertionError


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def recorder(loop: Loop) -> Recorder:
    return Recorder(loop)


@dataclass
class Line:
    """A gate and its other end."""

    body: RealBody
    peer: socket.socket


@pytest.fixture
def lines(loop: Loop, recorder: Recorder) -> Iterator[list[Line]]:
    made = []
    for _ in range(2):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        body = RealBody(RealPort(loop, ours), 0, owned=True, group=False, paused=False)
        body.open(recorder, lambda body=body: recorder.ended(body, 0))  # type: ignore[misc]
        made.append(Line(body, theirs))
    yield made
    for line in made:
        line.body.discard()
        line.peer.close()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def send_pipes(peer: socket.socket, count: int) -> None:
    """Send *count* descriptors with one packet."""
    reading, writing = os.pipe()
    try:
        rights = array.array("i", [reading] * count)
        peer.sendmsg([b"take these"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    finally:
        os.close(reading)
        os.close(writing)


def test_packets_and_descriptors_go_both_ways(lines: list[Line], recorder: Recorder) -> None:
    """A trap with a descriptor comes in; the answer carries one, which its sender no longer has."""
    send_pipes(lines[0].peer, 2)
    recorder.run(1)
    sent = RealDescriptor(os.memfd_create("answer"))

    answered = lines[0].body.port.send(b"answer", [sent])
    data, numbers, _, _ = socket.recv_fds(lines[0].peer, 100, 4)

    assert recorder.events == [("trap", lines[0].body, b"take these", 2)]
    assert (answered, data, len(numbers), sent.number) == (True, b"answer", 1, -1)
    os.close(numbers[0])


def test_a_packet_that_is_not_answered_is_seen(lines: list[Line], recorder: Recorder) -> None:
    """A port says so of a packet that waits to be read, and while it is held; an answer is for the peer to read."""
    port = lines[0].body.port
    seen = [port.has_asked()]
    lines[0].peer.send(b"trap")
    seen.append(port.has_asked())
    recorder.run(1)
    seen.append(port.has_asked())
    port.hold()
    seen.append(port.has_asked())
    port.resume()
    port.send(b"answer")
    seen.append(port.has_asked())

    assert seen == [False, True, False, True, False]


def lend(port: Port, count: int) -> bool:
    """Answer with *count* descriptors of one file."""
    with tempfile.TemporaryFile() as file:
        return port.send(b"answer", [RealDescriptor(os.dup(file.fileno())) for _ in range(count)])


def read(peer: socket.socket) -> bytes:
    """Read one packet; what came with it is closed."""
    data, numbers, _, _ = socket.recv_fds(peer, 100, 253)
    for number in numbers:
        os.close(number)
    return data


class Answering(Recorder):
    """A supervisor that answers each trap at once."""

    def trap(self, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
        body.port.send(data)


def test_what_an_ordinary_trap_takes(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of the host for its packet, one for the answer, and three functions of ours."""
    ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    watchers: list[Callable[[int], None]] = []
    monkeypatch.setattr(loop, "watch", lambda _descriptor, watcher: watchers.append(watcher))
    body = RealBody(RealPort(loop, ours), 0, owned=True, group=False, paused=False)
    body.open(Answering(loop), lambda: None)
    peer.send(b"trap")
    taken = calls(partial(watchers[0], select.EPOLLIN))

    assert (taken.pop("recvmsg()"), taken.pop("send()"), peer.recv(9)) == (1, 1, b"trap")
    assert taken == {"RealPort._readable": 1, "Answering.trap": 1, "RealPort.send": 1, "len()": 1}
    body.discard()
    peer.close()


def test_descriptors_that_nobody_reads_are_bounded(lines: list[Line]) -> None:
    """A peer that leaves answers with descriptors unread gets no more of them, with any room in its gate."""
    port, peer = lines[0].body.port, lines[0].peer
    before = open_descriptors()
    lent = [lend(port, MAX_UNREAD_DESCRIPTORS // 8) for _ in range(10)]
    plain = port.send(b"answer")
    for _ in range(9):
        read(peer)
    again = lend(port, MAX_UNREAD_DESCRIPTORS // 2)

    assert lent == [True] * 8 + [False] * 2
    assert (plain, again, lend(lines[1].body.port, 1)) == (True, True, True)
    assert open_descriptors() == before


def test_a_peer_that_is_gone_is_not_one_that_does_not_read(lines: list[Line]) -> None:
    """Answers to it go nowhere, with their descriptors; a full gate is told as before."""
    gone, deaf = lines
    before = open_descriptors()
    while deaf.body.port.send(bytes(1000)):
        pass
    gone.peer.close()

    assert (gone.body.port.send(b"answer"), lend(gone.body.port, 2)) == (True, True)
    assert not deaf.body.port.send(b"answer")
    assert open_descriptors() == before - 1  # its end


def test_a_caller_that_reads_its_answers_gets_descriptors_without_end(lines: list[Line]) -> None:
    """Also where there is always a message of the kernel that it did not read."""
    port, peer = lines[0].body.port, lines[0].peer
    told = port.offer(b"told")
    for _ in range(2 * MAX_UNREAD_DESCRIPTORS):
        assert lend(port, 1)
        assert not port.offer(b"told")  # it is kept until the answer was read
        assert [read(peer), read(peer)] == [b"told", b"answer"]
        assert port.offer(b"told")

    assert told


def test_a_packet_longer_than_a_trap_is_told_and_thrown_away(lines: list[Line], recorder: Recorder) -> None:
    """The longest one passes; one byte more does not."""
    lines[0].peer.send(b"x" * MAX_TRAP_BYTES)
    lines[0].peer.send(b"x" * (MAX_TRAP_BYTES + 1))
    lines[0].peer.send(b"next")

    recorder.run(3)

    assert [(what, len(data)) for what, _, data, _ in recorder.events] == [
        ("trap", MAX_TRAP_BYTES),
        ("TOO_LONG", 0),
        ("trap", 4),
    ]


def test_descriptors_beyond_the_limit_are_all_closed(lines: list[Line], recorder: Recorder) -> None:
    """As many as a trap may bring come through; with one more, none do, and none stay open."""
    before = open_descriptors()
    send_pipes(lines[0].peer, MAX_TRAP_DESCRIPTORS)
    send_pipes(lines[0].peer, MAX_TRAP_DESCRIPTORS + 1)
    send_pipes(lines[0].peer, 200)

    recorder.run(3)

    assert [count for _, _, _, count in recorder.events] == [MAX_TRAP_DESCRIPTORS, 0, 0]
    assert open_descriptors() == before


def test_an_empty_packet_is_a_packet_and_not_the_end(lines: list[Line], recorder: Recorder) -> None:
    """On such a socket both read as nothing."""
    lines[0].peer.send(b"")
    recorder.run(1)
    lines[0].peer.close()
    recorder.run(1)

    assert [what for what, *_ in recorder.events] == ["trap", "ended"]


def test_what_was_sent_before_the_end_comes_before_it(lines: list[Line], recorder: Recorder) -> None:
    """The peer is gone, its last packets are not."""
    lines[0].peer.send(b"one")
    lines[0].peer.send(b"two")
    lines[0].peer.close()

    recorder.run(3)

    assert [(what, data) for what, _, data, _ in recorder.events] == [
        ("trap", b"one"),
        ("trap", b"two"),
        ("ended", b""),
    ]


def test_who_floods_his_gate_keeps_nobody_from_theirs(lines: list[Line], recorder: Recorder) -> None:
    """Packets of two gates are taken in turn, however many wait at one of them."""
    for _ in range(50):
        lines[0].peer.send(b"flood")
    lines[1].peer.send(b"once")

    recorder.run(4)

    assert b"once" in [data for _, _, data, _ in recorder.events]


def test_a_peer_that_does_not_read_is_noticed_without_waiting(lines: list[Line]) -> None:
    """Sending returns False, and the descriptors are closed."""
    port = lines[0].body.port
    while port.send(b"x" * 4096):
        pass
    descriptor = RealDescriptor(os.memfd_create("late"))

    assert not port.send(b"late", [descriptor])
    assert descriptor.number == -1


@dataclass
class Door:
    """A listening gate, with the peers it admitted."""

    path: Path
    admitted: list[tuple[Peer, bytes]]

    def knock(self) -> socket.socket:
        visitor = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        visitor.settimeout(2)
        visitor.connect(str(self.path))
        return visitor


@pytest.fixture
def door(loop: Loop) -> Iterator[Door]:
    with tempfile.TemporaryDirectory() as folder:
        door = Door(Path(folder) / "gate", [])

        def admit(connection: socket.socket, peer: Peer, data: bytes) -> None:
            door.admitted.append((peer, data))
            connection.close()
            peer.process.close()
            loop.stop()

        gate = Gate(loop, str(door.path), admit, lambda _line: None)
        yield door
        gate.close()


def turn(loop: Loop, milliseconds: int = 0) -> None:
    """Run the loop for a while; at least through everything that is ready, and what becomes ready by that."""
    for _ in range(STEPS):
        limit = loop.alarm(loop.now() + milliseconds * 1_000_000 // STEPS + 5_000_000, loop.stop)
        loop.run(lambda: None)
        limit.cancel()


def test_a_visitor_is_who_the_host_says(door: Door, loop: Loop) -> None:
    """A visitor's process id and uid come from the connection; descriptors it brings are refused, or closed."""
    visitor = door.knock()
    before = open_descriptors()
    try:
        send_pipes(visitor, 3)
    except PermissionError:  # from Linux 6.16 on
        visitor.send(b"take these")

    turn(loop)

    [(peer, data)] = door.admitted
    assert (peer.pid, peer.uid, data) == (os.getpid(), os.getuid(), b"take these")
    assert open_descriptors() == before
    visitor.close()


def test_silent_visitors_are_dropped(door: Door, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """After their time, or when one uid has too many of them, the oldest first."""
    monkeypatch.setattr(hwmodel.real.gate, "PATIENCE_NS", 400_000_000)
    monkeypatch.setattr(hwmodel.real.gate, "MAX_VISITORS_OF_UID", 2)
    visitors = [door.knock() for _ in range(3)]
    turn(loop)
    visitors[1].send(b"hello")
    turn(loop)
    turn(loop, 400)

    assert [visitor.recv(10) for visitor in visitors] == [b"", b"", b""]
    assert [data for _, data in door.admitted] == [b"hello"]
    for visitor in visitors:
        visitor.close()


def test_a_visitor_who_sends_too_much_is_dropped(door: Door, loop: Loop) -> None:
    """A visitor's first packet is bounded like any other."""
    visitor = door.knock()
    visitor.send(b"x" * (MAX_TRAP_BYTES + 1))

    turn(loop)

    assert visitor.recv(10) == b""
    assert door.admitted == []
    visitor.close()

"""Packets made by hand, by one who keeps to no rule: thrown away and counted, and nobody else is worse off."""

from collections.abc import Callable
from functools import partial

import pytest

from kernel.abi.ids import ANY_LOCAL_THREAD, ANY_THREAD, KERNEL_MEMORY, thread_id
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import (
    FpagePart,
    GrantPart,
    IpcCode,
    MapPart,
    Packet,
    PacketFlags,
    PacketKind,
    Phase,
    ShortPart,
    StringPart,
)
from libexo.errors import BrokenStream, IpcError, IpcTimeout, NoPartner
from libexo.ipc.exchange import State
from libexo.ipc.message import Message
from tests.kernel.puppets import Puppet, theatre
from tests.libexo import moves
from tests.libexo.moves import (
    CALL,
    FORWARDS,
    OVERDUE,
    SEND,
    back,
    came_back,
    message,
    origin,
    packet,
    post,
    pumped,
    taken,
)

REPLY, REFUSED, TAKEN = PacketKind.REPLY, PacketKind.REFUSED, PacketKind.TAKEN
TURN, TURNED = PacketKind.TURN, PacketKind.TURNED
HUGE = (1 << 64) - 1
DEEP = bytes([0x9B, SEND, 1, 0, 0x90, 0x90, 0, 0, 0, 0, 0]) + b"\x91" * 100_000 + b"\x90"
"""A packet with one field too many: arrays in arrays."""

NONSENSE: list[tuple[str, object, list[bytes]]] = [
    ("empty", b"", []),
    ("no msgpack", b"\xc1", []),
    ("too short", [1], []),
    ("deep", DEEP, []),
    ("a missing string", Packet(SEND, 1, parts=(StringPart(3),)), []),
    ("a short string", Packet(SEND, 1, parts=(StringPart(3),)), [b"ab"]),
    ("an extra frame", Packet(SEND, 1), [b"too much"]),
    ("a long short string", Packet(SEND, 1, parts=(ShortPart(bytes(SHORT_STRING + 1)),)), []),
    ("a short string and a frame", Packet(SEND, 1, parts=(ShortPart(b"a"),)), [b"too much"]),
    ("no such offer", Packet(SEND, 1, parts=(MapPart(99),)), []),
    ("a huge offer", Packet(SEND, 1, parts=(MapPart(HUGE),)), []),
    ("a huge offer to grant", Packet(SEND, 1, parts=(GrantPart(1 << 32),)), []),
    ("an extent that is no offer", Packet(SEND, 1, parts=(FpagePart(((0, 4096, 0),)),)), []),
    ("a huge extent", Packet(SEND, 1, parts=(FpagePart(((HUGE, HUGE, HUGE),)),)), []),
    ("many extents", Packet(SEND, 1, parts=(FpagePart(((0, 0, 1),) * 10_000),)), []),
    ("an answer", Packet(REPLY, 1), []),
    ("no kind", Packet(77, 1), []),
    ("a kind below zero", Packet(-1, 1), []),
    ("a word below zero", [1, 1, 0, [-1]], []),
    ("64 words", Packet(SEND, 1, words=(0,) * 64), []),
    ("more typed words than words", Packet(SEND, 1, words=(1,), typed=2), []),
    ("fewer than no typed words", Packet(SEND, 1, words=(1,), typed=-1), []),
]


@pytest.mark.parametrize(("head", "strings"), [pytest.param(h, s, id=name) for name, h, s in NONSENSE])
def test_what_is_no_message(head: object, strings: list[bytes]) -> None:
    """A packet that does not decode, or is not what it says, is counted and thrown away; the next is taken."""
    with theatre() as stage:
        a, b = stage.pair()
        packet(a, b, head, *strings)
        packet(a, b, Packet(SEND, 9, words=(9,)))

        assert (taken(b), moves.counted(b, "malformed")) == ((9,), 1)
        assert b.alive


def test_no_frame_at_all() -> None:
    """A message without a frame is none."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.link(a, b.thread).channel.send(())

        assert (taken(b), moves.counted(b, "malformed")) == (None, 1)


def test_huge_numbers() -> None:
    """A message whose every number is as large as can be is a message like any other, and answered as one."""
    with theatre() as stage:
        a, b = stage.pair()
        flags = PacketFlags.PROPAGATED | PacketFlags.TELLS | 1 << 40
        head = Packet(CALL, HUGE, HUGE, (HUGE,) * 63, (), flags, 63, HUGE, HUGE)
        link = packet(a, b, head)
        found = message(b)
        assert found.origin is not None
        moves.answer(b, found.origin, Message(words=(1,)))

        assert (found.words, found.typed, found.origin.actual) == ((), (HUGE,) * 63, 0)
        assert [(p.kind, p.sequence) for p in came_back(link)] == [(TAKEN, HUGE), (REPLY, HUGE)]


@pytest.mark.parametrize("kind", [CALL, PacketKind.TELL])
def test_a_plain_request_that_may_be_withdrawn(kind: PacketKind) -> None:
    """Of either kind, it is taken with its ticket; without it, counted as withdrawn."""
    with theatre() as stage:
        a, b = stage.pair()
        head = partial(Packet, kind, words=(1,), parts=(ShortPart(b""),), flags=PacketFlags.TIMED)
        link = packet(a, b, head(sequence=1))
        link.tickets.send.post(1)
        first = moves.take_plain(b)
        packet(a, b, head(sequence=2))

        assert (first, moves.take_plain(b), moves.counted(b, "withdrawn")) == ((kind, 1), None, 1)


@pytest.mark.parametrize("ticket", [0, 1, 2, HUGE - 1])
def test_a_ticket_with_anything_on_it(ticket: int) -> None:
    """A ticket's content is its sender's affair: the receiver takes the message or does not, and goes on."""
    with theatre() as stage:
        a, b = stage.pair()
        link = packet(a, b, Packet(CALL, 1, words=(1,), flags=PacketFlags.TIMED))
        link.tickets.send.post(ticket)
        link.tickets.answer.post(ticket)
        expected = (1,) if ticket == 1 else None
        first = taken(b)
        packet(a, b, Packet(SEND, 2, words=(2,)))

        assert (first, taken(b)) == (expected, (2,))


def test_a_ticket_filled_to_the_brim() -> None:
    """A sender that fills its ticket behind the receiver's back cannot make the receiver fail."""

    class Full:
        def claim(self) -> int:
            return 77

        def post(self, sequence: int) -> None:
            raise BlockingIOError("full, as an eventfd is at 2**64-2")

        def close(self) -> None: ...

    with theatre() as stage:
        a, b = stage.pair()
        packet(a, b, Packet(SEND, 1))
        taken(b)
        [peer] = moves.peers(b)
        peer.tickets.send = Full()
        packet(a, b, Packet(SEND, 2, flags=PacketFlags.TIMED))

        assert (taken(b), moves.counted(b, "withdrawn")) == (None, 1)


@pytest.mark.parametrize("kind", [TAKEN, REFUSED, TURNED])
@pytest.mark.parametrize("words", [(), (HUGE,)], ids=["bare", "huge"])
def test_outcomes_of_nothing(kind: PacketKind, words: tuple[int, ...]) -> None:
    """To say how an answer went that was never given is counted, and nothing else."""
    with theatre() as stage:
        a, b = stage.pair()
        packet(a, b, Packet(kind, 1, 0, words))
        packet(a, b, Packet(SEND, 1, words=(1,)))

        assert (taken(b), moves.counted(b, "unexpected_answer")) == ((1,), 1)


def test_a_refused_answer_with_nonsense() -> None:
    """Whatever a caller says of why it could not take the answer, it was cut."""
    with theatre() as stage:
        a, b = stage.pair()
        post(a, b)
        answer = moves.answer(b, origin(b), Message(typed=(1,)), tells=True)
        packet(a, b, Packet(REFUSED, 1, 0, (HUGE,)))
        moves.look(b)

        assert (answer.done, answer.error is not None and answer.error.code) == (True, IpcCode.ABORTED)


def test_answers_that_nobody_speaks_of_are_forgotten() -> None:
    """A caller that never says how an answer went does not fill its server's memory."""
    with theatre() as stage:
        a, b = stage.pair()
        first = None
        for _ in range(1025):
            exchange = post(a, b)
            answer = moves.answer(b, origin(b), Message(), tells=True)
            first = first or answer
            exchange.link.channel.receive()
            moves.abandon(a, exchange)

        assert first is not None
        assert (first.done, isinstance(first.error, IpcError)) == (True, True)
        assert moves.answers_under_way(b) == 1024


ANSWERS: list[tuple[str, object, list[bytes], str]] = [
    ("no packet", b"\xc1", [], "malformed"),
    ("deep", DEEP, [], "malformed"),
    ("of nothing", Packet(REPLY, 7), [], "unexpected_answer"),
    ("a message", Packet(SEND, 1), [], "unexpected_answer"),
    ("no kind", Packet(99, 1), [], "unexpected_answer"),
    ("a refusal that does not say why", Packet(REFUSED, 1), [], "unexpected_answer"),
    ("a turn to nowhere", Packet(TURN, 1), [], "unexpected_answer"),
    ("a turn of nothing", Packet(TURN, 7, 0, (1,)), [], "unexpected_answer"),
]


@pytest.mark.parametrize(
    ("head", "strings", "counted"), [pytest.param(h, s, c, id=name) for name, h, s, c in ANSWERS]
)
def test_what_is_no_answer(head: object, strings: list[bytes], counted: str) -> None:
    """An answer to nothing is counted and thrown away; the caller waits on for its answer, and gets it."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b)
        caller = origin(b)
        back(b, caller, head, *strings)
        before = pumped(a, exchange).done
        moves.answer(b, caller, Message(words=(5,)))

        assert (before, moves.counted(a, counted)) == (False, 1)
        assert (pumped(a, exchange).reply, a.alive) == (Message(words=(5,)), True)


@pytest.mark.parametrize(
    ("head", "strings"),
    [
        (Packet(REPLY, 1, parts=(MapPart(99),)), []),
        (Packet(REPLY, 1, parts=(FpagePart(((0, 0, 1),) * 1000),)), []),
        (Packet(REPLY, 1, parts=(StringPart(3),)), [b"ab"]),
        (Packet(REPLY, 1), [b"too much"]),
        (Packet(REPLY, 1, words=(1,), typed=2), []),
        (Packet(REPLY, 1, words=(1,), typed=-1), []),
        (Packet(REPLY, 1, parts=(MapPart(HUGE),)), []),
    ],
    ids=["no offer", "too many", "cut", "an extra frame", "typed too many", "typed too few", "a huge offer"],
)
def test_an_answer_that_cannot_be_taken(head: object, strings: list[bytes]) -> None:
    """An answer that is not what it says ends the call with an error, instead of none."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b)
        back(b, origin(b), head, *strings)
        error = pumped(a, exchange).error

        assert isinstance(error, IpcError)
        assert (error.code, error.phase) == (IpcCode.OVERFLOW, Phase.RECEIVE)


@pytest.mark.parametrize("word", [0, 1, HUGE, IpcCode.NO_PARTNER << 1, IpcCode.ABORTED << 1])
def test_a_refusal_with_any_reason(word: int) -> None:
    """A partner that says that a message was cut is believed that, not that time was over or nobody was there."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, timed=True)
        back(b, origin(b), Packet(REFUSED, 1, 0, (word,)))
        error = pumped(a, exchange).error

        assert isinstance(error, IpcError)
        assert error.code in (IpcCode.OVERFLOW, IpcCode.ABORTED)
        assert (error.phase, moves.withdraw(a, exchange)) == (Phase.SEND, None)


def turn(a: Puppet, b: Puppet, to: int) -> Callable[[], None]:
    """Have a call *b*; return what has *b* turn it to thread *to*."""
    post(a, b)
    caller = origin(b)
    return lambda: back(b, caller, Packet(TURN, caller.sequence, 0, (to,)))


@pytest.mark.parametrize(
    "to", [0, ANY_THREAD, ANY_LOCAL_THREAD, KERNEL_MEMORY, thread_id(5000), thread_id(1 << 17)]
)
def test_turned_to_nobody(to: int) -> None:
    """A call that is turned to no thread, or to any, has no partner: no stranger's message is its answer."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b)
        back(b, origin(b), Packet(TURN, 1, 0, (to,)))

        assert isinstance(pumped(a, exchange).error, NoPartner)


def test_turned_back_without_having_been_turned() -> None:
    """To turn a call back that was not turned, or on from where it is, changes nothing; the time-out works."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b, timed=True)
        caller = origin(b)
        for to in (b.thread, b.thread, c.thread, c.thread, a.thread):
            back(b, caller, Packet(TURN, 1, 0, (to,)))
        moves.pump(a)

        assert (exchange.forwarded_to, moves.counted(a, "unexpected_answer")) == (c.thread, 4)
        assert moves.withdraw(a, exchange) is Phase.RECEIVE


def test_turned_to_everybody() -> None:
    """Partners that turn calls to ever new threads do not fill the caller's table of bindings."""
    with theatre() as stage:
        a, b = stage.pair()
        others = [stage.puppet(f"c{n}") for n in range(FORWARDS + 8)]
        for other in others:
            turn(a, b, other.thread)()
            moves.pump(a)
            [exchange] = moves.forwarded(a)
            moves.abandon(a, exchange)

        assert len(a.environment.outgoing) == FORWARDS + 1


def test_taken_by_nobody() -> None:
    """A partner that says that it took a call, and turns it away unasked, is given up on like any other."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, timed=True)
        moves.look(b)
        _, way = moves.held_back(b)
        back(b, way, Packet(TAKEN, 1))
        told = pumped(a, exchange).state is State.TAKEN

        assert (told, exchange.done, moves.withdraw(a, exchange)) == (True, False, Phase.SEND)


def test_a_link_whose_partner_empties_the_tickets() -> None:
    """A partner that claims everything and does nothing costs its caller a second, once."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, timed=True)
        moves.look(b)
        peer, _ = moves.held_back(b)
        peer.tickets.send.claim()
        assert moves.give_up(a, exchange, "in time") < OVERDUE
        stage.pass_time(OVERDUE / 1e6 + 1)
        with pytest.raises(IpcTimeout, match="claimed the answer"):
            moves.give_up(a, exchange, "in time")

        assert moves.link(a, b.thread) is not exchange.link


def test_no_room_and_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room because the receiver broke the rules, its link is given up, and a new one is made."""

    def breaks(*_: object) -> None:
        raise BrokenStream("nonsense")

    with theatre() as stage:
        a, b = stage.pair()
        link = moves.link(a, b.thread)
        monkeypatch.setattr(link.channel, "send", lambda _: False)
        monkeypatch.setattr(link.channel, "receive", breaks)
        exchange = post(a, b)

        assert isinstance(exchange.error, NoPartner)
        assert moves.counted(a, "broken_link") == 1
        assert moves.link(a, b.thread) is not link

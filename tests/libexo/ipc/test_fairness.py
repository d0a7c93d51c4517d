"""A busy sender keeps no other waiting: of a flood, a few messages are taken before that of another."""

import pytest

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import Packet, PacketKind, ShortPart
from libexo.ipc import packing
from libexo.ipc.message import Message
from libexo.ipc.plain import Plain
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.libexo import moves
from tests.libexo.moves import PENDING, SEND, WITHDRAWN, post, taken

FLOOD, GUEST = 1, 2
MOST = 1
"""Messages of one party that may be taken before that of another: its turn may come just then."""


def flood(stage: Theatre, b: Puppet, bindings: int) -> Puppet:
    """Have somebody send *b* a hundred messages over each of so many *bindings*; b has taken some."""
    a = stage.puppet("a")
    for _ in range(bindings):
        moves.bind(a, b.thread)
        for _ in range(100):
            post(a, b, FLOOD, kind=SEND)
    assert [taken(b) for _ in range(20)] == [(FLOOD,)] * 20
    return a


def before(b: Puppet) -> int:
    """Take messages until that of the guest; return how many there were."""
    for number in range(1000):
        if taken(b) == (GUEST,):
            return number
    raise AssertionError("it never came")


@pytest.mark.parametrize("bindings", [1, 5])
def test_a_flood_keeps_nobody_waiting(bindings: int) -> None:
    """Over however many bindings it comes: the next message of another is taken after a counted few."""
    with theatre() as stage:
        b, c = stage.puppet("b"), stage.puppet("c")
        flood(stage, b, bindings)
        counts = []
        for _ in range(3):
            post(c, b, GUEST, kind=SEND)
            counts.append(before(b))

        assert max(counts) <= MOST


def test_floods_of_several() -> None:
    """Of each flooding party one message comes in its turn: a waiting one waits for one more of each."""
    with theatre() as stage:
        b, c = stage.puppet("b"), stage.puppet("c")
        floods = [stage.puppet(f"a{n}") for n in range(6)]
        for a in floods:
            for _ in range(50):
                post(a, b, FLOOD, kind=SEND)
        assert [taken(b) for _ in range(20)] == [(FLOOD,)] * 20
        post(c, b, GUEST, kind=SEND)

        assert before(b) <= len(floods)


def test_what_was_withdrawn_takes_nobodys_place() -> None:
    """Messages that were taken back are passed over: those that were not are found behind them."""
    with theatre() as stage:
        a, b, c = (stage.puppet(name) for name in "abc")
        moves.look(b)
        for _ in range(24):
            moves.withdraw(a, post(a, b, FLOOD, kind=SEND, timed=True))
        stage.pass_time(1)
        post(a, b, 3, kind=SEND)
        stage.pass_time(1)
        post(c, b, 4, kind=SEND)

        assert sorted([taken(b) or (), taken(b) or ()]) == [(3,), (4,)]
        assert taken(b) is None


@pytest.mark.parametrize("looked", [False, True])
def test_what_was_withdrawn_costs_no_turn(*, looked: bool) -> None:
    """Who withdrew some is passed by one message of another all the same, be they in the inbox, or held already."""
    with theatre() as stage:
        a, b, c = (stage.puppet(name) for name in "abc")
        moves.look(b)
        for _ in range(WITHDRAWN // 2):
            moves.withdraw(a, post(a, b, 3, kind=SEND, timed=True))
        post(a, b, GUEST, kind=SEND)
        for _ in range(WITHDRAWN):
            post(c, b, FLOOD, kind=SEND)
        if looked:
            moves.look(b)

        assert before(b) <= MOST


def test_a_flood_of_withdrawn_ones_keeps_nobody_waiting() -> None:
    """Of what one sends and withdraws without end, its receiver looks at a few before the next of another."""
    with theatre() as stage:
        a, b, c = (stage.puppet(name) for name in "abc")
        moves.look(b)
        for _ in range(20 * WITHDRAWN):
            moves.withdraw(a, post(a, b, FLOOD, kind=SEND, timed=True))
        post(c, b, GUEST, kind=SEND)

        assert taken(b) == (GUEST,)
        assert moves.counted(b, "withdrawn") <= WITHDRAWN


def test_a_closed_receive_is_not_shut_out() -> None:
    """A receiver of one sender finds its message behind however many of another, of which some are refused."""
    with theatre() as stage:
        a, b, c = (stage.puppet(name) for name in "abc")
        for _ in range(6):
            moves.bind(a, b.thread)
            for _ in range(1000):
                post(a, b, FLOOD, kind=SEND)
        looked = [taken(b, c.thread) for _ in range(8)]
        post(c, b, GUEST, kind=SEND)

        assert looked == [None] * 8
        assert taken(b, c.thread) == (GUEST,)
        assert moves.held(b) <= PENDING
        kept = 6000 - moves.counted(b, "overflow")
        assert [taken(b) for _ in range(kept)] == [(FLOOD,)] * kept
        assert taken(b) is None


def test_strangers_in_a_crowd_wait_for_one_another_only() -> None:
    """Answers reach their callers in any crowd: calls of many are served, one of each in a round."""
    with theatre() as stage:
        b = stage.puppet("b")
        callers = [stage.puppet(f"a{n}") for n in range(5)]
        calls = [(a, post(a, b, n, k)) for k in range(20) for n, a in enumerate(callers)]
        for _ in calls:
            found = moves.take(b, ANY_THREAD)
            assert found is not None
            assert found[1].origin is not None
            moves.answer(b, found[1].origin, Message(words=found[1].words))
        for a, _ in calls:
            moves.pump(a)

        assert [exchange.reply is not None for _, exchange in calls] == [True] * 100


def test_answers_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many answers to something else come, an ordinary call comes back, and then the time is looked at."""
    head = Packet(PacketKind.REPLY, 99, 0, (0,), (ShortPart(b""),))
    asked: list[int] = []

    def next_of_many() -> list[bytes]:
        asked.append(1)
        assert len(asked) < 100
        return [packing.ENCODE(head)]

    with theatre() as stage:
        a, b = stage.pair()
        link = moves.link(a, b.thread)
        monkeypatch.setattr(link.channel, "receive", next_of_many)
        plain = Plain(a.env.thread, link)
        plain._wait = lambda *_: True
        assert plain._answer(1, 0, None, moves.changes(a)) is None

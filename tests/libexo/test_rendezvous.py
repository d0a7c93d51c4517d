"""The rendezvous, move by move: each test is one order in which two sides post, take, claim and withdraw."""

from itertools import permutations

import msgspec
import pytest

from kernel.abi.ids import ANY_THREAD, KERNEL_ENVIRONMENTS
from kernel.abi.kip import Counter
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import (
    IpcCode,
    Label,
    MapPart,
    Packet,
    PacketFlags,
    PacketKind,
    Phase,
    ShortPart,
    StringPart,
)
from kernel.abi.rights import Rights
from libexo.errors import IpcError, NoPartner
from libexo.exchange import Exchange
from libexo.message import GrantItem, MapItem, Message
from libexo.rendezvous import Rendezvous
from tests.kernel.puppets import Puppet, theatre

CALL, SEND = PacketKind.CALL, PacketKind.SEND
READ = Rights.READ


def core(puppet: Puppet) -> Rendezvous:
    return puppet.env.thread.core


def post(a: Puppet, b: Puppet, *words: int, kind: PacketKind = CALL, timed: bool = False) -> Exchange:
    return core(a).post(b.thread, Message(words=words), kind, timed=timed)


def taken(b: Puppet, sender: int = ANY_THREAD) -> tuple[int, ...] | None:
    """Take the next message; return its words."""
    found = core(b).take(sender)
    return found[1].words if found is not None else None


def packet(a: Puppet, b: Puppet, head: object, *strings: bytes) -> None:
    """Put any frames into b's inbox, under a's binding."""
    link = core(a).link(b.thread)
    data = head if isinstance(head, bytes) else msgspec.msgpack.encode(head)
    assert link.channel.send((data, *strings))


def test_a_send_is_over_when_it_was_taken() -> None:
    """A sender hears nothing until the receiver takes the message, and then at once."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=SEND)
        core(a).pump()
        before = exchange.done
        assert taken(b) == (1,)
        core(a).pump()

        assert (before, exchange.done, exchange.error) == (False, True, None)


def test_a_call_is_over_when_it_was_answered() -> None:
    """A call goes on after its message was taken, until the answer."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1)
        found = core(b).take(ANY_THREAD)
        core(a).pump()
        before = exchange.done
        assert found is not None
        assert found[1].origin is not None
        core(b).answer(found[1].origin, Message(words=(2,)))
        core(a).pump()

        assert (before, exchange.reply) == (False, Message(words=(2,)))


def test_first_come_first_served() -> None:
    """Messages of one sender, and of several, are taken in the order they came."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        for n, sender in enumerate((a, c, a, c)):
            post(sender, b, n, kind=SEND)

        assert [taken(b) for _ in range(5)] == [(0,), (1,), (2,), (3,), None]


def test_a_closed_receive_leaves_the_others_waiting() -> None:
    """Who waits for one sender only gets its messages only; the others keep their order."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchanges = [post(sender, b, n, kind=SEND) for n, sender in enumerate((a, c, a))]
        first = taken(b, c.thread)
        core(a).pump()

        assert (first, exchanges[0].done) == ((1,), False)
        assert [taken(b), taken(b)] == [(0,), (2,)]


def test_withdrawn_is_never_delivered() -> None:
    """A message withdrawn before it was taken is never taken."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, timed=True)

        assert core(a).withdraw(exchange)
        assert taken(b) is None
        assert core(b).statistics["withdrawn"] == 1


@pytest.mark.parametrize("kind", [CALL, SEND])
def test_taken_is_never_withdrawn(kind: PacketKind) -> None:
    """A message that was taken cannot be withdrawn any more: its exchange goes on to its end."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=kind, timed=True)
        assert taken(b) == (1,)

        assert not core(a).withdraw(exchange)
        core(a).pump()
        assert exchange.done == (kind is SEND)


def test_a_withdrawn_message_before_a_later_one() -> None:
    """After one was withdrawn the next is posted over the same ticket; the receiver takes only that one."""
    with theatre() as stage:
        a, b = stage.pair()
        core(a).withdraw(post(a, b, 1, timed=True))
        later = post(a, b, 2, timed=True)

        assert (taken(b), taken(b)) == ((2,), None)
        assert not core(a).withdraw(later)


def test_two_timed_messages_at_once() -> None:
    """Two messages that may be withdrawn go over two bindings: each can be, without the other."""
    with theatre() as stage:
        a, b = stage.pair()
        first, second = (post(a, b, n, timed=True) for n in (1, 2))

        assert len(a.environment.outgoing) == 2
        assert core(a).withdraw(first)
        assert (taken(b), core(a).withdraw(second)) == ((2,), False)


ORDERS = sorted(set(permutations("ssssrrr")))
"""Every order of four moves of a sender and three of a receiver."""


@pytest.mark.parametrize("order", ORDERS, ids="".join)
def test_in_every_order_they_agree(order: tuple[str, ...]) -> None:
    """However posts, withdrawals and takings follow one another, a message is taken or withdrawn, never both."""
    with theatre() as stage:
        a, b = stage.pair()
        link = core(a).link(b.thread)
        withdrawn: list[int] = []
        got: list[int] = []
        moves = iter([1, -1, 2, -2])
        exchanges: dict[int, Exchange] = {}
        for who in order:
            if who == "r":
                got += taken(b) or ()
            elif (move := next(moves)) > 0:
                exchanges[move] = post(a, b, move, timed=True)
            elif core(a).withdraw(exchanges[-move]):
                withdrawn.append(-move)
        got += taken(b) or ()

        assert (sorted(got + withdrawn), link.exchanges.keys() - got) == ([1, 2], set())


def test_an_answer_nobody_waits_for() -> None:
    """An answer that comes after its caller gave up is thrown away, and counted."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange, other = post(a, b, 1), post(a, b, 2)
        found = core(b).take(ANY_THREAD)
        core(a).abandon(exchange)
        assert found is not None
        assert found[1].origin is not None
        core(b).answer(found[1].origin, Message())
        core(a).pump()

        assert (other.done, core(a).statistics["unexpected_answer"]) == (False, 1)


def test_duplicates_are_thrown_away() -> None:
    """A message that comes twice is taken once."""
    with theatre() as stage:
        a, b = stage.pair()
        for _ in range(3):
            packet(a, b, Packet(SEND, 5, words=(1,)))

        assert (taken(b), taken(b)) == ((1,), None)
        assert core(b).statistics["duplicate"] == 2


@pytest.mark.parametrize(
    ("head", "strings"),
    [
        (b"", []),
        (b"\xc1", []),
        ([1], []),
        (Packet(SEND, 1, parts=(StringPart(3),)), []),
        (Packet(SEND, 1, parts=(StringPart(3),)), [b"ab"]),
        (Packet(SEND, 1), [b"too much"]),
        (Packet(SEND, 1, parts=(ShortPart(bytes(SHORT_STRING + 1)),)), []),
        (Packet(SEND, 1, parts=(ShortPart(b"a"),)), [b"too much"]),
        (Packet(SEND, 1, parts=(MapPart(99),)), []),
        (Packet(PacketKind.REPLY, 1), []),
        (Packet(77, 1), []),
        ([1, 1, 0, [-1]], []),
    ],
)
def test_what_is_no_message(head: object, strings: list[bytes]) -> None:
    """What does not decode, or is not what it says, is counted and thrown away; the next is taken."""
    with theatre() as stage:
        a, b = stage.pair()
        packet(a, b, head, *strings)
        packet(a, b, Packet(SEND, 9, words=(9,)))

        assert (taken(b), core(b).statistics["malformed"]) == ((9,), 1)


def test_forged_capabilities() -> None:
    """A capability that a message names must have come from its sender: not from another, not from the kernel."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c", holds=("ram",))
        handles = [
            stage.system.give(b.task, stage.system._things("ram")[0]).handle,
            c.sys.transfer(c.handles[0], b.thread, READ),
        ]
        for n, handle in enumerate(handles):
            packet(a, b, Packet(SEND, n + 1, parts=(MapPart(handle),)))

        assert (taken(b), core(b).statistics["malformed"]) == (None, 2)


def test_unknown_tokens() -> None:
    """What comes under a token the kernel does not know is counted and thrown away."""
    with theatre() as stage:
        a, b = stage.pair()
        channel = a.transport.channel(b.thread >> 32, b"\7" * 16)
        channel.send((msgspec.msgpack.encode(Packet(SEND, 1)),))

        assert (taken(b), core(b).statistics["unknown_token"]) == (None, 1)
        assert stage.kernel.kip.counter(Counter.UNKNOWN_TOKENS) == 1


def test_whom_the_kernel_named_is_remembered() -> None:
    """A sender is identified at its first message, and again only after a binding fell."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        core(c).link(b.thread)
        for _ in range(3):
            post(a, b, kind=SEND)
            taken(b)
        before = stage.kernel.kip.counter(Counter.IDENTIFIES)
        stage.kill(c)
        post(a, b, kind=SEND)
        taken(b)

        assert (before, stage.kernel.kip.counter(Counter.IDENTIFIES)) == (1, 2)


def test_a_sender_that_is_gone() -> None:
    """What a dead sender left behind comes under a token that nobody has."""
    with theatre() as stage:
        a, b = stage.pair()
        core(b).open_inbox()
        post(a, b, 1, kind=SEND)
        stage.kill(a)

        assert (taken(b), core(b).statistics["unknown_token"]) == (None, 1)


@pytest.mark.parametrize(("kind", "phase"), [(SEND, Phase.SEND), (CALL, Phase.RECEIVE)])
def test_a_partner_that_ends(kind: PacketKind, phase: Phase) -> None:
    """When the partner ends, what was under way ends with it, in the phase it was in at most."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=kind)
        stage.kill(b)
        core(a).pump()

        assert isinstance(exchange.error, NoPartner)
        assert (exchange.error.code, exchange.error.phase) == (IpcCode.NO_PARTNER, phase)


def test_what_it_answered_before_it_ended() -> None:
    """An answer that was on its way when the partner ended still arrives."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1)
        found = core(b).take(ANY_THREAD)
        assert found is not None
        assert found[1].origin is not None
        core(b).answer(found[1].origin, Message(words=(2,)))
        stage.kill(b)
        core(a).pump()

        assert exchange.reply == Message(words=(2,))


def test_an_answer_to_the_gone() -> None:
    """Answering a caller that ended is refused as no partner."""
    with theatre() as stage:
        a, b = stage.pair()
        post(a, b, 1)
        found = core(b).take(ANY_THREAD)
        stage.kill(a)
        assert found is not None
        assert found[1].origin is not None

        with pytest.raises(NoPartner, match="is gone"):
            core(b).answer(found[1].origin, Message())


def test_an_answer_to_a_send() -> None:
    """A message that was no call has no answer."""
    with theatre() as stage:
        a, b = stage.pair()
        post(a, b, 1, kind=SEND)
        found = core(b).take(ANY_THREAD)
        assert found is not None
        assert found[1].origin is not None

        with pytest.raises(NoPartner, match="waits for no answer"):
            core(b).answer(found[1].origin, Message())


@pytest.mark.parametrize("timed", [False, True])
def test_mapped_with_a_message(timed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A Map item gives the receiver a capability of its own, named in the message it takes."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = a.sys.carve(a.handles[0], 1).extent
        message = Message(items=(MapItem(extent, int(READ)), b"text"))
        core(a).post(b.thread, message, SEND, timed=timed)
        found = core(b).take(ANY_THREAD)

        assert found is not None
        assert found[1].items == (MapItem(b.caps[0].handle, int(READ)), b"text")
        assert b.sys.inspect(b.caps[0].handle).origin == a.thread


def test_mapped_and_withdrawn() -> None:
    """What a withdrawn message would have mapped is taken back."""
    with theatre() as stage:
        a, b = stage.pair()
        message = Message(items=(MapItem(a.handles[0], int(READ)),))
        core(a).withdraw(core(a).post(b.thread, message, SEND, timed=True))

        assert (len(a.caps), len(b.caps)) == (1, 0)


def test_granted_with_a_message() -> None:
    """A Grant item moves the capability."""
    with theatre() as stage:
        a, b = stage.pair()
        core(a).post(b.thread, Message(items=(GrantItem(a.handles[0], 31),)), SEND, timed=False)
        found = core(b).take(ANY_THREAD)

        assert found is not None
        assert found[1].items == (GrantItem(b.caps[0].handle, 31),)
        assert a.caps == []


def test_a_full_queue() -> None:
    """A receiver that takes nothing fills up: the sender is told so, and may go on later."""
    with theatre() as stage:
        a, b = stage.pair()
        exchanges = [post(a, b, n, kind=SEND) for n in range(1001)]
        error = exchanges[-1].error

        assert isinstance(error, IpcError)
        assert (error.code, error.phase, taken(b)) == (IpcCode.OVERFLOW, Phase.SEND, (0,))


def test_messages_of_the_kernel() -> None:
    """What the kernel says and no handler takes is received as a message of the kernel's thread."""
    with theatre() as stage:
        a, b = stage.pair()
        stage.system.give(a.task, b.environment)
        stage.kill(b)
        core(a).pump()
        found = core(a).take(KERNEL_ENVIRONMENTS)

        assert found is not None
        assert (found[1].label, found[1].words[0]) == (Label.DEATH, b.thread)


def test_many_withdrawn_while_another_was_looked_for() -> None:
    """However many messages were withdrawn meanwhile, the next that was not is found."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        for number in range(1, 999):
            packet(a, b, Packet(SEND, number, flags=PacketFlags.TIMED))
        post(c, b, 1, kind=SEND)
        post(a, b, 2, kind=SEND)
        first = taken(b, b.thread)

        assert (first, taken(b)) == (None, (1,))
        assert core(b).statistics["withdrawn"] == 998


def test_peers_that_come_and_go() -> None:
    """Senders that are gone are forgotten, some at a time: memory does not grow with their number."""
    with theatre() as stage:
        b = stage.puppet("b")
        for n in range(100):
            a = stage.puppet(f"a{n}")
            post(a, b, kind=SEND)
            assert taken(b) == ()
            stage.kill(a)

        assert len(core(b)._peers) < 70

"""The rendezvous, move by move: what is posted, taken and answered, in what order, and what is thrown away."""

import errno

import msgspec
import pytest

from kernel.abi.ids import KERNEL_ENVIRONMENTS, show_thread
from kernel.abi.kip import Counter
from kernel.abi.messages import IpcCode, Label, Packet, PacketFlags, PacketKind, Phase
from libexo.errors import IpcError, NoPartner
from libexo.ipc.exchange import BATCH
from libexo.ipc.message import Message
from tests.kernel.puppets import theatre
from tests.kernel.test_bindings import bind
from tests.libexo import moves
from tests.libexo.moves import CALL, PENDING, SEND, origin, packet, post, pumped, taken


def test_a_send_is_over_when_it_was_taken() -> None:
    """A sender hears nothing until the receiver takes the message, and then at once."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=SEND)
        moves.pump(a)
        before = exchange.done
        assert taken(b) == (1,)
        moves.pump(a)

        assert (before, exchange.done, exchange.error) == (False, True, None)


def test_a_call_is_over_when_it_was_answered() -> None:
    """A call goes on after its message was taken, until the answer."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1)
        caller = origin(b)
        before = pumped(a, exchange).done
        moves.answer(b, caller, Message(words=(2,)))

        assert (before, pumped(a, exchange).reply) == (False, Message(words=(2,)))


def test_in_a_circle() -> None:
    """Messages of one sender are taken in the order they were sent; of several senders, one of each in turn."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        for n, sender in enumerate((a, a, a, c, c)):
            post(sender, b, n, kind=SEND)

        assert [taken(b) for _ in range(6)] == [(0,), (3,), (1,), (4,), (2,), None]


def test_what_is_held_comes_first() -> None:
    """Messages that a closed receive found and left are taken before later ones, in their order."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        for n in range(3):
            post(a, b, n, kind=SEND)
        assert taken(b, c.thread) is None
        post(c, b, 3, kind=SEND)

        assert [taken(b) for _ in range(5)] == [(0,), (1,), (2,), (3,), None]


def test_a_closed_receive_leaves_the_others_waiting() -> None:
    """A receiver of one sender gets that one's messages only; the others keep their order."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchanges = [post(sender, b, n, kind=SEND) for n, sender in enumerate((a, c, a))]
        first = taken(b, c.thread)
        moves.pump(a)

        assert (first, exchanges[0].done) == ((1,), False)
        assert [taken(b), taken(b)] == [(0,), (2,)]


def test_an_answer_nobody_waits_for() -> None:
    """An answer that comes after its caller gave up is thrown away, and counted."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange, other = post(a, b, 1), post(a, b, 2)
        caller = origin(b)
        moves.abandon(a, exchange)
        moves.answer(b, caller, Message())
        moves.pump(a)

        assert (other.done, moves.counted(a, "unexpected_answer")) == (False, 1)


def test_duplicates_are_thrown_away() -> None:
    """A message that comes twice is taken once."""
    with theatre() as stage:
        a, b = stage.pair()
        for _ in range(3):
            packet(a, b, Packet(SEND, 5, words=(1,)))

        assert (taken(b), taken(b)) == ((1,), None)
        assert moves.counted(b, "duplicate") == 2


def test_unknown_tokens() -> None:
    """A sender that says another token than its own at its end point is not heard, and others are."""
    with theatre() as stage:
        a, b = stage.pair()
        bound, tickets = a.sys.bind(b.thread)
        for ticket in tickets:
            a.host.close_descriptor(ticket)
        a.transport.channel(bound.address, b"\7" * 16).send((msgspec.msgpack.encode(Packet(SEND, 1)),))
        post(a, b, 5, kind=SEND)

        assert (taken(b), taken(b)) == ((5,), None)


def test_whom_the_kernel_named_is_remembered() -> None:
    """The kernel names a sender when it hands the binding over, and again only after a binding fell."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        moves.link(c, b.thread)
        for _ in range(3):
            post(a, b, kind=SEND)
            taken(b)
        before = stage.kernel.kip.counter(Counter.IDENTIFIES)
        stage.kill(c)
        post(a, b, kind=SEND)
        taken(b)

        assert (before, stage.kernel.kip.counter(Counter.IDENTIFIES)) == (0, 1)


def test_a_sender_that_is_gone() -> None:
    """A dead sender's messages come under an unknown token."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.link(a, b.thread)
        moves.look(b)
        post(a, b, 1, kind=SEND)
        stage.kill(a)

        assert (taken(b), moves.counted(b, "unknown_token")) == (None, 1)


@pytest.mark.parametrize(("kind", "phase"), [(SEND, Phase.SEND), (CALL, Phase.RECEIVE)])
def test_a_partner_that_ends(kind: PacketKind, phase: Phase) -> None:
    """When the partner ends, what was under way ends with it, in the phase it was in at most."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=kind)
        stage.kill(b)
        moves.pump(a)

        assert isinstance(exchange.error, NoPartner)
        assert (exchange.error.code, exchange.error.phase) == (IpcCode.NO_PARTNER, phase)


def test_one_binding_of_several_falls() -> None:
    """A receiver that ends one binding of a thread ends what is under way on that, and nothing on the others."""
    with theatre() as stage:
        a, b = stage.pair()
        first, second = (post(a, b, n, timed=True) for n in (1, 2))
        asked = origin(b), origin(b)
        for token in (first.link.token, bind(a, b.thread).token):
            b.sys.unbind(token)
        over = pumped(a, first).error
        moves.answer(b, asked[1], Message(words=(3,)))

        assert isinstance(over, NoPartner)
        why = f"the binding to thread {show_thread(b.thread)} was ended"
        assert (over.phase, str(over)) == (Phase.RECEIVE, why)
        assert (pumped(a, second).reply, moves.link(a, b.thread)) == (Message(words=(3,)), second.link)


def test_what_was_answered_before_the_binding_fell() -> None:
    """An answer that was on its way when the receiver ended the binding still arrives."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1)
        moves.answer(b, origin(b), Message(words=(2,)))
        b.sys.unbind(exchange.link.token)

        assert pumped(a, exchange).reply == Message(words=(2,))


def test_what_it_answered_before_it_ended() -> None:
    """An answer that was on its way when the partner ended still arrives."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1)
        moves.answer(b, origin(b), Message(words=(2,)))
        stage.kill(b)

        assert pumped(a, exchange).reply == Message(words=(2,))


def test_an_answer_to_the_gone() -> None:
    """Answering a caller that ended is refused as no partner."""
    with theatre() as stage:
        a, b = stage.pair()
        post(a, b, 1)
        caller = origin(b)
        stage.kill(a)

        with pytest.raises(NoPartner, match="is gone"):
            moves.answer(b, caller, Message())


def test_an_answer_to_a_send() -> None:
    """A message that was no call has no answer."""
    with theatre() as stage:
        a, b = stage.pair()
        post(a, b, 1, kind=SEND)
        receiver = origin(b)

        with pytest.raises(NoPartner, match="waits for no answer"):
            moves.answer(b, receiver, Message())


def test_a_full_queue() -> None:
    """A receiver that takes nothing fills up: the sender is told so, and may go on later."""
    with theatre() as stage:
        a, b = stage.pair()
        exchanges = [post(a, b, n, kind=SEND) for n in range(1001)]
        error = exchanges[-1].error

        assert isinstance(error, IpcError)
        assert (error.code, error.phase, taken(b)) == (IpcCode.OVERFLOW, Phase.SEND, (0,))


def test_messages_of_the_kernel() -> None:
    """A kernel message that no handler takes is received as a message of the kernel's thread."""
    with theatre() as stage:
        a, b = stage.pair()
        stage.system.give(a.task, b.environment)
        stage.kill(b)
        moves.pump(a)
        found = moves.take(a, KERNEL_ENVIRONMENTS)

        assert found is not None
        assert (found[1].label, found[1].words[0]) == (Label.DEATH, b.thread)


def test_the_kernel_is_heard_over_a_crowd() -> None:
    """However many messages of others are held, what the kernel says is kept."""
    with theatre() as stage:
        b = stage.puppet("b")
        crowd = [stage.puppet(f"a{n}") for n in range(5)]
        for a in crowd * 1000:
            post(a, b, kind=SEND)
        for _ in range(5):
            moves.look(b)
        stage.system.give(b.task, crowd[0].environment)
        stage.kill(crowd[0])
        moves.pump(b)
        found = moves.take(b, KERNEL_ENVIRONMENTS)

        assert found is not None
        assert PENDING - 8 < moves.held(b) <= PENDING
        assert moves.counted(b, "kernel_message") == 0


def test_a_crowd_does_not_keep_the_receiver() -> None:
    """One look takes in a batch at most: a flood of nonsense does not hold the receiver up in it."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        for sender in (a, c):
            for _ in range(1000):
                packet(sender, b, b"")
        moves.look(b)

        assert moves.counted(b, "malformed") == BATCH


def test_many_withdrawn_while_another_was_looked_for() -> None:
    """However many messages were withdrawn meanwhile, the next that was not is found."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        for number in range(1, 999):
            packet(a, b, Packet(SEND, number, flags=PacketFlags.TIMED))
        post(c, b, 1, kind=SEND)
        first = taken(b, b.thread)

        assert (first, taken(b), taken(b)) == (None, (1,), None)
        assert moves.counted(b, "withdrawn") == 998


def test_peers_that_come_and_go() -> None:
    """Senders that are gone are forgotten, some at a time: memory does not grow with their number."""
    with theatre() as stage:
        b = stage.puppet("b")
        for n in range(100):
            a = stage.puppet(f"a{n}")
            post(a, b, kind=SEND)
            assert taken(b) == ()
            stage.kill(a)

        assert len(moves.peers(b)) < 70


def test_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host has no descriptor for a connection, the binding is ended, and its descriptors are closed."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with theatre() as stage:
        a, b = stage.pair()
        closed: list[object] = []
        with monkeypatch.context() as patch:
            patch.setattr(a.env.host.transport, "channel", refuse)
            patch.setattr(a.env.host, "close_descriptor", closed.append)
            with pytest.raises(OSError, match="too many open files"):
                post(a, b)
        assert (len(closed), len(a.environment.outgoing)) == (2, 0)
        post(a, b, 1)
        assert taken(b) == (1,)

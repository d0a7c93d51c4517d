"""Taking and giving up, answering and waiting no longer: whatever the order, the two sides tell the same story."""

from itertools import permutations

import pytest

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import PacketKind, Phase
from libexo.errors import IpcTimeout, NoPartner
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import Message
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.libexo import moves
from tests.libexo.moves import CALL, OVERDUE, RECHECK, SEND, Slow, origin, post, pumped, taken

MS = 1_000_000


def test_withdrawn_is_never_delivered() -> None:
    """A message withdrawn before it was taken is never taken."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, timed=True)

        assert moves.withdraw(a, exchange) is Phase.SEND
        assert taken(b) is None
        assert moves.counted(b, "withdrawn") == 1


def test_what_the_dead_left_in_a_crowd() -> None:
    """It is not taken, though it was not withdrawn, and others are looked at with it."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.look(b)
        moves.withdraw(a, post(a, b, 1, timed=True))
        post(a, b, 2, timed=True)
        moves.look(b)
        stage.kill(a)

        assert taken(b) is None


def test_the_dead_have_nothing_on_its_way() -> None:
    """A dead sender's posted message is not waited for, as a living one's would be."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=SEND, timed=True)
        assert taken(b) == (1,)
        assert pumped(a, exchange).done
        exchange.link.tickets.send.post(exchange.sequence + 1)
        now = b.env.host.now()
        before = moves.comes(b, ANY_THREAD, now)
        stage.kill(a)

        assert (before, moves.comes(b, ANY_THREAD, now)) == (True, False)


def test_a_taken_send_is_never_withdrawn() -> None:
    """A message that was taken cannot be withdrawn any more: its exchange goes on to its end."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=SEND, timed=True)
        assert taken(b) == (1,)

        assert moves.withdraw(a, exchange) is None
        assert pumped(a, exchange).done


def test_a_taken_call_waits_no_longer() -> None:
    """Of a call that was taken, the answer is given up; the message is not, where only that was wanted."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, timed=True)
        before = moves.withdraw(a, exchange, Phase.RECEIVE)
        assert taken(b) == (1,)

        assert (before, moves.withdraw(a, exchange, Phase.SEND)) == (None, None)
        assert moves.withdraw(a, exchange, Phase.RECEIVE) is Phase.RECEIVE


def test_a_late_answer() -> None:
    """An answer to a caller that gave up fails, and the caller's next call gets its own."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, timed=True)
        caller = origin(b)
        moves.withdraw(a, exchange)
        later = post(a, b, 2, timed=True)
        with pytest.raises(IpcTimeout) as caught:
            moves.answer(b, caller, Message(words=(1,)))
        moves.answer(b, origin(b), Message(words=(2,)))

        assert (caught.value.phase, pumped(a, later).reply) == (Phase.SEND, Message(words=(2,)))


def test_a_withdrawn_message_before_a_later_one() -> None:
    """After one was withdrawn the next is posted over the same ticket; the receiver takes only that one."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.withdraw(a, post(a, b, 1, timed=True))
        later = post(a, b, 2, timed=True)

        assert (taken(b), taken(b)) == ((2,), None)
        assert moves.withdraw(a, later) is Phase.RECEIVE
        assert len(a.environment.outgoing) == 1


def test_two_timed_messages_at_once() -> None:
    """Two messages that may be withdrawn go over two bindings: each can be, without the other."""
    with theatre() as stage:
        a, b = stage.pair()
        first, second = (post(a, b, n, timed=True) for n in (1, 2))

        assert len(a.environment.outgoing) == 2
        assert moves.withdraw(a, first) is Phase.SEND
        assert (taken(b), moves.withdraw(a, second)) == ((2,), Phase.RECEIVE)


class Story:
    """Each side's view of the messages 1 and 2 of a sender."""

    def __init__(self, stage: Theatre, kind: PacketKind) -> None:
        self.a, self.b = stage.pair()
        self.kind = kind
        self.link = moves.link(self.a, self.b.thread)
        self.exchanges: dict[int, Outgoing] = {}
        self.given_up: dict[int, Phase] = {}
        """By the sender: the message, with the phase it was in."""
        self.taken: list[int] = []
        self.answered: list[int] = []
        """By the receiver, as far as it was told that it did."""
        self.callers: list[Message] = []

    def post(self, n: int) -> None:
        self.exchanges[n] = post(self.a, self.b, n, kind=self.kind, timed=True)

    def give_up(self, n: int) -> None:
        """Look for what came, and give the message up where nothing did."""
        exchange = pumped(self.a, self.exchanges[n])
        if not exchange.done and (phase := moves.withdraw(self.a, exchange)) is not None:
            self.given_up[n] = phase

    def take(self) -> None:
        """Answer what was taken before; else take the next message."""
        if self.callers:
            self.answer(self.callers.pop())
        elif (found := moves.take(self.b, self.a.thread)) is not None:
            self.taken += found[1].words
            self.callers += [found[1]] if self.kind is CALL else []

    def answer(self, message: Message) -> None:
        assert message.origin is not None
        try:
            moves.answer(self.b, message.origin, Message(words=message.words))
        except IpcTimeout:
            return
        self.answered += message.words

    def end(self) -> None:
        """Have the receiver do what is left to do; then check that both were told the same."""
        for _ in range(4):
            self.take()
        for n, exchange in self.exchanges.items():
            pumped(self.a, exchange)
            assert exchange.done
            assert (n in self.taken) == (self.given_up.get(n) is not Phase.SEND)
            assert exchange.reply == (Message(words=(n,)) if n in self.answered else None)
        calls = self.exchanges if self.kind is CALL else {}
        assert sorted(self.answered) == [n for n in calls if n not in self.given_up]
        assert (len(self.taken), len(self.link.exchanges)) == (len(set(self.taken)), 0)


ORDERS = sorted({*permutations("ssssrrr")})
"""Every order of four moves of a sender and three of a receiver."""
CALLS = sorted({*permutations("ssssrrrr")})
"""The same with one more of the receiver, whose calls take two each."""


@pytest.mark.parametrize(
    ("kind", "order"),
    [*((SEND, order) for order in ORDERS), *((CALL, order) for order in CALLS)],
    ids=lambda each: each.name if isinstance(each, PacketKind) else "".join(each),
)
def test_in_every_order_they_agree(kind: PacketKind, order: tuple[str, ...]) -> None:
    """However posts, withdrawals, takings and answers follow one another, both sides are told the same.

    A message is taken, or withdrawn; a call that was taken is answered, or given up; never both.
    """
    with theatre() as stage:
        story = Story(stage, kind)
        moves = iter([(story.post, 1), (story.give_up, 1), (story.post, 2), (story.give_up, 2)])
        for who in order:
            if who == "r":
                story.take()
            else:
                move, n = next(moves)
                move(n)
        story.end()


@pytest.mark.parametrize("kind", [SEND, CALL])
def test_in_the_hands_of_a_receiver_that_looks_at_an_earlier_one(kind: PacketKind) -> None:
    """A number that is about to be put back is neither withdrawn nor taken: the sender asks again."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.open_inbox(b)
        moves.withdraw(a, post(a, b, 1, kind=kind, timed=True))
        moves.look(b)
        later = post(a, b, 2, kind=kind, timed=True)
        [peer] = moves.peers(b)
        seen: list[Phase | None] = []
        peer.tickets.send = Slow(peer.tickets.send, lambda: seen.append(moves.withdraw(a, later)))
        first = moves.claim_held(b)

        assert (first, seen, moves.withdraw(a, later)) == (False, [None], Phase.SEND)
        assert taken(b) is None


def test_an_answer_on_its_way() -> None:
    """A caller whose time is over while its answer is on the way waits for that, and gets it."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, timed=True)
        caller = origin(b)
        assert caller.peer is not None
        waits: list[int] = []
        answer_ticket = caller.peer.tickets.answer
        caller.peer.tickets.answer = Slow(
            answer_ticket, lambda: waits.append(moves.give_up(a, exchange, "in time"))
        )
        moves.answer(b, caller, Message(words=(2,)))

        assert (waits, pumped(a, exchange).reply) == ([RECHECK], Message(words=(2,)))


def claimed_for_ever(stage: Theatre, a: Puppet, exchange: Outgoing) -> IpcTimeout | None:
    """Give *exchange* up until that is over; return how it ended, None: well."""
    while not exchange.done:
        try:
            wait = moves.give_up(a, exchange, "in time")
        except IpcTimeout as over:
            return over
        stage.pass_time(wait / MS)
    return None


@pytest.mark.parametrize("kind", [SEND, CALL])
def test_a_partner_that_claims_and_is_silent(kind: PacketKind) -> None:
    """A partner that claims the message or the answer, and then says nothing, has a second, and is used no more.

    A claimed answer did not come in time; a claimed message was delivered, with or without a word of it.
    """
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=kind, timed=True)
        other = post(a, b, 2, kind=kind)
        caller = origin(b)
        assert caller.peer is not None
        caller.peer.tickets.answer.claim()
        start = stage.machine.clock.now()
        if kind is SEND:
            moves.links(a)[b.thread][0].channel.receive()  # lost: what says that it was taken
        error = claimed_for_ever(stage, a, exchange)

        assert error is None if kind is SEND else error is not None and error.phase is Phase.RECEIVE
        assert (exchange.done, exchange.error) == (True, None)
        assert OVERDUE <= stage.machine.clock.now() - start <= OVERDUE + 2 * MS
        assert isinstance(other.error, NoPartner)
        assert (len(a.environment.outgoing), moves.counted(a, "broken_link")) == (0, 1)
        assert moves.link(a, b.thread) is not exchange.link


def test_an_answer_after_the_link_was_broken() -> None:
    """A partner that waited without success learns it from the answer that nobody gets."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, timed=True)
        caller = origin(b)
        moves.break_link(a, exchange.link)

        assert isinstance(exchange.error, NoPartner)
        with pytest.raises(IpcTimeout):
            moves.answer(b, caller, Message())


def test_an_abandoned_message_is_withdrawn() -> None:
    """A waiter that gives up takes back a message that may be withdrawn; another is still delivered."""
    with theatre() as stage:
        a, b = stage.pair()
        for n, timed in ((1, True), (2, False)):
            moves.abandon(a, post(a, b, n, kind=SEND, timed=timed))

        assert (taken(b), taken(b)) == ((2,), None)


def test_a_deserted_call_keeps_its_tickets_apart() -> None:
    """A call deserted while its answer was claimed does not mix with the next: each is told of its own."""
    with theatre() as stage:
        a, b = stage.pair()
        first = post(a, b, 1, timed=True)
        caller = origin(b)
        assert caller.peer is not None
        ticket = caller.peer.tickets.answer
        caller.peer.tickets.answer = Slow(ticket, lambda: moves.abandon(a, first))
        moves.answer(b, caller, Message(words=(1,)))
        before = first.done
        second = post(a, b, 2, timed=True)
        moves.answer(b, origin(b), Message(words=(2,)))

        assert (before, first.done, first.reply) == (False, True, None)
        assert (pumped(a, second).reply, len(a.environment.outgoing)) == (Message(words=(2,)), 1)
        assert moves.counted(a, "unexpected_answer") == 1


def test_full_of_answers() -> None:
    """An answer for which there is no room is not given: its server is told, and its caller times out."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, timed=True)
        caller = origin(b)
        for _ in range(1000):
            post(a, b, kind=SEND)
            taken(b)
        with pytest.raises(NoPartner):
            moves.answer(b, caller, Message())

        assert moves.withdraw(a, exchange) is Phase.RECEIVE


def take_silently(b: Puppet) -> None:
    """Take the next message; the word that it was taken does not arrive any more."""
    assert moves.next(b, ANY_THREAD) is not None


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("kind", [SEND, CALL])
@pytest.mark.parametrize("takes", [True, False])
def test_taken_just_before_the_end_of_its_way(
    *, takes: bool, kind: PacketKind, timed: bool, ends: bool
) -> None:
    """Where the receiver ends, or just the binding, a message that may be withdrawn was taken, or it was not.

    Of one that may not, nobody can say: a call may have been taken, and of a send the error says so.
    """
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=kind, timed=timed)
        if takes:
            take_silently(b)
        if ends:
            stage.kill(b)
        else:
            b.sys.unbind(exchange.link.token, b.thread)
        moves.pump(a)
        error = exchange.error

        assert exchange.done
        assert (taken(b) if not ends else None) is None
        if timed and takes and kind is SEND:
            assert error is None
        else:
            assert isinstance(error, NoPartner)
            known = kind is SEND or (timed and not takes)
            assert error.phase is (Phase.SEND if known else Phase.RECEIVE)
            assert ("is not known" in str(error)) == (kind is SEND and not timed)


def test_the_way_fell_before_a_receiver_looked() -> None:
    """A message that was taken back when its way fell is not there for anyone any more."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = post(a, b, 1, kind=SEND, timed=True)
        moves.look(b)
        b.sys.unbind(exchange.link.token, b.thread)
        moves.pump(a)

        assert isinstance(exchange.error, NoPartner)
        assert (moves.has(b, a.thread), taken(b)) == (False, None)

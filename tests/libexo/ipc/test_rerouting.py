"""Messages whose way falls because their sender has another redirector, while their receiver lives."""

from collections.abc import Iterator

import pytest

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import Packet, PacketKind, Phase
from libexo.errors import IpcTimeout, NoPartner
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.packing import TELLS
from tests.kernel.controls import root
from tests.kernel.puppets import Theatre, theatre
from tests.libexo import moves
from tests.libexo.moves import CALL, OVERDUE, SEND, Slow, back, came_back, origin, post, pumped, taken

REPLY = PacketKind.REPLY
MS = 1_000_000


class Scene:
    """A call of *a* that *b* has taken, and may have answered; then a's messages are redirected."""

    def __init__(self, stage: Theatre) -> None:
        self.stage = stage
        self.boss, self.chief = root(stage), stage.puppet("chief")
        self.a, self.b = stage.pair()
        self.call: Outgoing = post(self.a, self.b, 1, timed=True)
        self.caller: Origin = origin(self.b)

    def answer(self) -> None:
        """Answer it; the answer stays on its way."""
        moves.answer(self.b, self.caller, Message(words=(2,)))
        assert len(came_back(self.call.link)) == 1

    def redirect(self) -> Outgoing:
        self.boss.sys.space_control(self.a.thread, 0, 0, 0, self.chief.thread)
        return pumped(self.a, self.call)

    def arrives(self, flags: int = 0) -> Outgoing:
        """The answer arrives after all."""
        back(self.b, self.caller, Packet(REPLY, self.caller.sequence, words=(2,), flags=flags))
        return pumped(self.a, self.call)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with theatre() as stage:
        yield Scene(stage)


def test_an_answer_on_its_way_is_waited_for(scene: Scene) -> None:
    """The answerer knows it given: its caller gets it, though the way fell before it arrived."""
    scene.answer()
    before = scene.redirect().done
    exchange = scene.arrives()

    assert (before, exchange.reply, exchange.error) == (False, Message(words=(2,)), None)
    assert moves.waiting(scene.a) == []


def test_no_answer_can_be_given_after_that(scene: Scene) -> None:
    """Where none was given yet, the call has failed, and the receiver finds no waiting sender."""
    error = scene.redirect().error

    assert isinstance(error, NoPartner)
    assert error.phase is Phase.RECEIVE
    moves.recheck(scene.b, scene.caller)
    with pytest.raises(NoPartner):
        moves.answer(scene.b, scene.caller, Message())


def test_an_answer_whose_giver_was_to_hear_of_it(scene: Scene) -> None:
    """It was told that the way fell, so the answer is not taken: both know."""
    scene.answer()
    scene.redirect()
    error = scene.arrives(flags=TELLS).error

    assert isinstance(error, NoPartner)
    assert error.phase is Phase.RECEIVE


@pytest.mark.parametrize("kind", [REPLY, PacketKind.TURN])
def test_a_report_given_before_is_heard(scene: Scene, kind: PacketKind) -> None:
    """An answer was taken, and a caller turned, if that was said before the way fell, and heard only after."""
    if kind is REPLY:
        answer = moves.answer(scene.b, scene.caller, Message(words=(2,)), tells=True)
    else:
        turned = moves.forward(scene.b, scene.caller, scene.chief.thread)
        assert turned is not None
        answer = turned
    pumped(scene.a, scene.call)
    scene.redirect()
    before = answer.done
    moves.look(scene.b)

    assert (before, answer.done, answer.error) == (False, True, None)


def test_an_answer_that_is_lost(scene: Scene) -> None:
    """An answer that was given and does not come is waited for for a second, not for ever."""
    scene.answer()
    exchange = scene.redirect()
    before = moves.look_after(scene.a, exchange).done
    scene.stage.pass_time(OVERDUE / MS + 1)
    with pytest.raises(IpcTimeout, match="claimed the answer, and was silent") as caught:
        moves.look_after(scene.a, exchange)

    assert (before, exchange.done, caught.value.phase) == (False, True, Phase.RECEIVE)
    assert moves.waiting(scene.a) == []


def test_nonsense_on_a_way_that_fell(scene: Scene) -> None:
    """A wait for an answer there can be given up, and nothing is left."""
    scene.answer()
    exchange = scene.redirect()
    moves.break_link(scene.a, exchange.link)

    assert (exchange.done, moves.waiting(scene.a)) == (True, [])


def test_what_was_not_taken_is_sent_again(scene: Scene) -> None:
    """A message that its receiver never took fails in its send phase, whatever else is under way."""
    second = post(scene.a, scene.b, 3, kind=SEND, timed=True)
    scene.redirect()

    assert isinstance(second.error, NoPartner)
    assert second.error.phase is Phase.SEND


# ---------------------------------------------------------------- in the hands of its receiver when the way falls


class Hands:
    """A message of *a*, and perhaps an earlier one that was withdrawn. When *b* has its number, the way falls."""

    def __init__(self, stage: Theatre, kind: PacketKind, *, earlier: bool = False) -> None:
        self.stage = stage
        self.boss, self.chief = root(stage), stage.puppet("chief")
        self.a, self.b = stage.pair()
        if earlier:
            moves.withdraw(self.a, post(self.a, self.b, 1, kind=kind, timed=True))
            moves.look(self.b)
        self.message = post(self.a, self.b, 2, kind=kind, timed=True)
        if not earlier:
            moves.look(self.b)
        [peer] = moves.peers(self.b)
        peer.tickets.send = Slow(peer.tickets.send, self.redirect)

    def redirect(self) -> None:
        self.boss.sys.space_control(self.a.thread, 0, 0, 0, self.chief.thread)
        moves.pump(self.a)

    def look(self, how: str) -> None:
        """Have the receiver look: at a message that was withdrawn, or for one that is on its way or there."""
        if how == "at another":
            assert not moves.claim_held(self.b)
        elif how == "for one on its way":
            assert moves.comes(self.b, ANY_THREAD, self.stage.machine.clock.now())
        else:
            assert moves.has(self.b, self.a.thread)


@pytest.mark.parametrize("how", ["at another", "for one on its way", "for one that is there"])
@pytest.mark.parametrize("kind", [SEND, CALL])
def test_the_way_falls_while_its_receiver_looks(kind: PacketKind, how: str) -> None:
    """The sender asks again, takes it back, and knows that it was not taken; the receiver has none."""
    with theatre() as stage:
        hands = Hands(stage, kind, earlier=how != "for one that is there")
        hands.look(how)
        before = hands.message.done
        error = moves.look_after(hands.a, hands.message).error

        assert (before, moves.waiting(hands.a)) == (False, [])
        assert isinstance(error, NoPartner)
        assert error.phase is Phase.SEND
        assert taken(hands.b) is None


def test_the_way_falls_while_it_is_taken() -> None:
    """The sender waits for the word of it, and the message was taken."""
    with theatre() as stage:
        hands = Hands(stage, SEND)
        came, before = taken(hands.b), hands.message.done
        exchange = pumped(hands.a, hands.message)

        assert (came, before, exchange.done, exchange.error) == ((2,), False, True, None)
        assert moves.waiting(hands.a) == []


@pytest.mark.parametrize("ends", [False, True])
def test_its_receiver_does_not_say_what_became_of_it(*, ends: bool) -> None:
    """It has a second; then, or when it ended, the message was taken: who has it could take it."""
    with theatre() as stage:
        hands = Hands(stage, SEND)
        exchange = hands.message
        assert moves.next(hands.b, ANY_THREAD) is not None
        before = moves.look_after(hands.a, exchange).done
        if ends:
            stage.kill(hands.b)
        else:
            stage.pass_time(OVERDUE / MS + 1)
        moves.look_after(hands.a, exchange)

        assert (before, exchange.done, exchange.error) == (False, True, None)
        assert moves.waiting(hands.a) == []


def test_it_is_given_up_then() -> None:
    """Who gives up a message that is in its receiver's hands, and whose way fell, keeps nothing of it."""
    with theatre() as stage:
        hands = Hands(stage, SEND)
        exchange = hands.message
        assert moves.next(hands.b, ANY_THREAD) is not None
        moves.abandon(hands.a, exchange)

        assert (exchange.done, moves.waiting(hands.a)) == (True, [])

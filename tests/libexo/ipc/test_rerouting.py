"""Calls whose way falls because their sender has another redirector, while their receiver lives."""

from collections.abc import Iterator

import pytest

from kernel.abi.messages import Packet, PacketKind, Phase
from libexo.errors import NoPartner
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.packing import TELLS
from tests.kernel.controls import root
from tests.kernel.puppets import Theatre, theatre
from tests.libexo import moves
from tests.libexo.moves import SEND, back, came_back, origin, post, pumped

REPLY = PacketKind.REPLY


class Scene:
    """A call of *a* that *b* has taken, and may have answered; then a's messages are redirected."""

    def __init__(self, stage: Theatre) -> None:
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

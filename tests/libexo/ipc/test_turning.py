"""Calls answered by another thread than the called one: the receiver turns the caller to that thread."""

from contextlib import suppress
from functools import partial

import pytest

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import Packet, PacketKind, Phase
from kernel.abi.rights import ALL_RIGHTS
from libexo import Environment
from libexo.errors import IpcError, IpcTimeout, NoPartner
from libexo.ipc import GrantItem, Message
from libexo.testing import System, Task, simulated
from tests.kernel.puppets import theatre
from tests.libexo import moves
from tests.libexo.moves import CALL, SEND, back, message, origin, packet, post, pumped, taken

SEEDS = range(8)


def test_turned_and_told_so() -> None:
    """A receiver that turns a call learns when its caller waits for the other, whose answer is a message."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b, 1, timed=True)
        answer = moves.forward(b, origin(b), c.thread)
        assert answer is not None
        before = answer.done
        moves.pump(a)
        moves.look(b)

        assert (before, answer.done, answer.error) == (False, True, None)
        assert (exchange.forwarded_to, exchange.done) == (c.thread, False)


def test_turned_to_one_that_is_gone() -> None:
    """The call fails, and the thread that turned it learns at once that nobody waits."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b, 1, timed=True)
        caller = origin(b)
        stage.kill(c)
        answer = moves.forward(b, caller, c.thread)
        assert answer is not None
        moves.pump(a)
        moves.look(b)

        assert answer.done
        assert isinstance(exchange.error, NoPartner)
        assert exchange.error.phase is Phase.RECEIVE


def test_turned_back() -> None:
    """A receiver may take the answer back upon itself: then it is its to give, or its caller's to give up."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b, 1, timed=True)
        caller = origin(b)
        for to in (c.thread, b.thread):
            moves.forward(b, caller, to)
            moves.pump(a)
        moves.answer(b, caller, Message(words=(2,)))

        assert (exchange.forwarded_to, pumped(a, exchange).reply) == (b.thread, Message(words=(2,)))


def test_no_turning_of_who_gave_up() -> None:
    """A caller that waits no longer is turned nowhere, nor is one that ended, or waits for nothing."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b, 1, timed=True)
        gave_up = origin(b)
        moves.withdraw(a, exchange)
        post(a, b, 2, kind=SEND)
        sender = origin(b)
        post(c, b, 3)
        ended = origin(b)
        stage.kill(c)

        assert [moves.forward(b, each, b.thread + 1) for each in (gave_up, sender, ended)] == [None] * 3


def test_the_one_it_was_turned_to_ends() -> None:
    """When the thread that is to answer ends, nobody will: the call ends, too."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b)
        back(b, origin(b), Packet(PacketKind.TURN, 1, 0, (c.thread,)))
        moves.pump(a)
        stage.kill(c)

        assert isinstance(pumped(a, exchange).error, NoPartner)
        assert exchange.error is not None
        assert exchange.error.phase is Phase.RECEIVE


@pytest.mark.parametrize("timed", [False, True])
def test_the_one_who_turned_it_ends(timed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """When the turning thread ends, the other still answers the call; when that ends, too, none does."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b, timed=timed)
        moves.forward(b, origin(b), c.thread)
        moves.pump(a)
        stage.kill(b)
        before = pumped(a, exchange).done
        stage.kill(c)

        assert (before, isinstance(pumped(a, exchange).error, NoPartner)) == (False, True)


def test_time_is_up_after_the_one_who_turned_it_ended() -> None:
    """A turned call can be given up though the binding it was made over has fallen."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        exchange = post(a, b, timed=True)
        moves.forward(b, origin(b), c.thread)
        moves.pump(a)
        stage.kill(b)
        moves.pump(a)
        with pytest.raises(IpcTimeout) as caught:
            moves.give_up(a, exchange, "in time")

        assert caught.value.phase is Phase.RECEIVE


# ------------------------------------------------------------------------------------- programs that wait


def caller(env: Environment, *, timeout: float | None, accepts: int = 64) -> tuple[tuple[int, ...], int]:
    """Call the desk; return what was answered, and how many capabilities came."""
    reply = env.thread.call(env.lookup("desk", 1), Message(words=(1,)), timeout, accepts=accepts)
    return reply.words, len(reply.items)


def desk(env: Environment) -> None:
    """Turn a call to the clerk, and tell that one of it."""
    clerk = env.lookup("clerk", 1)
    sender, found = env.thread.wait()
    assert found.origin is not None
    answer = moves.forward(env, found.origin, clerk)
    while answer is not None and not answer.done:
        env.host.wait((moves.open_inbox(env),), None)
        moves.look(env)
    env.thread.send(clerk, Message(words=(sender, *found.words)))
    env.thread.wait()


def clerk(env: Environment, *, delay: float = 0, gift: bool = False) -> None:
    """Answer whom the desk names."""
    _, found = env.thread.wait()
    sender, number = found.words
    env.thread.sleep(delay)
    items = (GrantItem(env.sys.inventory()[0], int(ALL_RIGHTS)),) if gift else ()
    with suppress(IpcError):  # not every caller takes it
        env.thread.send(sender, Message(words=(number + 1,), items=items), timeout=1)
    env.thread.sleep(5)


def office(system: System, **habits: float | bool) -> None:
    """Start desk and clerk."""
    system.spawn(desk, "desk")
    system.spawn(partial(clerk, **habits), "clerk", holds=("ram",))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("timeout", [None, 1.0])
def test_a_turned_call(seed: int, timeout: float | None) -> None:
    """A caller gets the answer of the thread its call was turned to, and its capabilities."""
    with simulated(seed=seed) as system:
        office(system, gift=True)
        task = system.spawn(partial(caller, timeout=timeout))
        system.run(task)

        assert task.result == ((2,), 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_turned_call_in_time(seed: int) -> None:
    """The time-out of a call bounds it wherever it is turned."""

    def program(env: Environment) -> tuple[Phase, float]:
        start = env.host.now()
        with pytest.raises(IpcTimeout) as caught:
            caller(env, timeout=0.5)
        return caught.value.phase, (env.host.now() - start) / 1e9

    with simulated(seed=seed) as system:
        office(system, delay=2)
        task = system.spawn(program)
        system.run(task)

        assert task.result == (Phase.RECEIVE, pytest.approx(0.5, abs=0.02))


def test_a_turned_answer_that_brings_too_much() -> None:
    """An answer in another's place cannot exceed the caller's wishes: it is refused, and the caller waits on."""
    with simulated() as system:
        office(system, gift=True)
        task = system.spawn(partial(caller, timeout=2, accepts=0))
        system.run(task, errors=False)

        assert isinstance(task.error, IpcTimeout)
        assert system.tasks[1].environment.table.used == 1


def redirected(env: Environment) -> tuple[tuple[int, ...], int]:
    """Call the clerk, not knowing of the desk."""
    return env.thread.call(env.lookup("clerk", 1), Message(words=(1,))).words, env.lookup("clerk")


def redirector(env: Environment, *, whom: Task) -> None:
    """Have *whom*'s messages come here; pass one on in its name, as X.2 propagation does."""
    env.sys.space_control(whom.thread, 0, 0, 0, env.thread.id)
    sender, found = env.thread.wait()
    assert found.origin is not None
    assert (sender, found.origin.intended) == (whom.thread, env.lookup("clerk"))
    answer = moves.forward(env, found.origin, found.origin.intended)
    assert answer is not None
    while not answer.done:
        env.host.wait((moves.open_inbox(env),), None)
        moves.look(env)
    moves.post_message(env, found.origin.intended, found, PacketKind.SEND, timed=False, virtual=sender)
    env.thread.wait()


def answering(env: Environment) -> tuple[int, int, list[int]]:
    """Answer one message; return its intended receiver, its bearer, and who waits for an answer then."""
    sender, found = env.thread.wait()
    assert found.origin is not None
    env.thread.reply(found, Message(words=(found.words[0] + 1,)))
    return sender, found.origin.actual, list(env.thread.callers)


@pytest.mark.parametrize("seed", SEEDS)
def test_propagated_by_a_redirector(seed: int) -> None:
    """A thread called through its caller's redirector sees the caller and the bearer, and answers the caller."""

    def late(env: Environment) -> tuple[tuple[int, ...], int]:
        env.thread.sleep(1)
        return redirected(env)

    with simulated(seed=seed) as system:
        task = system.spawn(late, "caller")
        clerk = system.spawn(answering, "clerk")
        desk = system.spawn(partial(redirector, whom=task), "desk", holds=("factory",))
        system.run(task, clerk)

        assert task.result == ((2,), clerk.thread)
        assert clerk.result == (task.thread, desk.thread, [])


def test_who_may_not_speak_for_another_speaks_for_himself() -> None:
    """A message sent for a thread of a space that is not one's own, and has no redirector, is one's own."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        moves.post_message(a, b.thread, Message(words=(1,)), CALL, timed=False, virtual=c.thread)
        found = message(b)
        assert found.origin is not None

        assert (found.origin.sender, found.origin.actual) == (a.thread, 0)


def test_one_space_speaks_with_one_voice() -> None:
    """A message sent for another thread of one's own space is from that thread, and names its sender."""
    with theatre() as stage:
        a, b = stage.pair()
        packet(a, b, Packet(SEND, 1, flags=4, virtual=a.thread))
        found = moves.take(b, ANY_THREAD)

        assert found is not None
        assert found[1].origin is not None
        assert (found[0], found[1].origin.actual, taken(b)) == (a.thread, a.thread, None)

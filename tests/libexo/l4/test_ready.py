"""Time-outs of zero are exact: a waiting partner is found, however late it moves; no other is waited for."""

from functools import partial

import pytest

from hwmodel.simulated.machine import SimulatedMachine
from kernel.abi.ids import ANY_THREAD
from kernel.abi.kip import Page, Wait
from kernel.abi.messages import Phase
from libexo import attach, l4
from libexo.ipc.standing import DOUBTED, HOLD
from libexo.transport.base import Transport
from libexo.transport.faulty import FaultyTransport, Odds
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    NEVER,
    NO_PARTNER,
    SEEDS,
    TIMED_OUT,
    Cast,
    Said,
    heard,
    now,
    play,
    put,
    said,
    sleep,
    stage,
)
from tests.libexo.l4.test_start import FRESH, make_space, report

conforms = pytest.mark.conforms
pytestmark = conforms("IPC: time-outs")
AT_ONCE = 200
"""Microseconds: the steps of an IPC, and none of waiting."""
LATE = Odds(delay=1.0)
TIMED = TIMED_OUT[Phase.SEND]


def late(seed: int, plain: Transport, machine: SimulatedMachine) -> Transport:
    """A transport on which every message is late: up to 50 ms, as between partners that hardly get to run."""
    clock = machine.clock
    return FaultyTransport(
        plain,
        seed=seed,
        odds=LATE,
        later=lambda span, put: clock.alarm(clock.now() + span, put),
        nanoseconds=50_000_000,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_receiver_that_waits_is_found(seed: int) -> None:
    """However late the message arrives, a thread that waited when it was sent takes it; the first time, too."""

    def receiver(cast: Cast) -> object:
        found = [heard(l4.Wait()) == (cast.sender, Said((number,))) for number in range(5)]
        sleep(LONG)  # until the sender has heard of the last
        return found

    def sender(cast: Cast) -> object:
        results = []
        for number in range(5):
            sleep(LONG)
            put(number)
            results.append(said(l4.Send_Timeout(cast.receiver, l4.ZeroTime)))
        return results

    assert play(seed=seed, wrap=partial(late, seed), receiver=receiver, sender=sender) == {
        "receiver": [True] * 5,
        "sender": [Said(())] * 5,
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sender_that_waits_is_found(seed: int) -> None:
    """However late its message arrives, a waiting sender is heard by a poll; the first time, too."""

    def receiver(cast: Cast) -> object:
        results = []
        for number in range(3):
            sleep(LONG if number else 300)
            results.append(said(l4.Receive_Timeout(cast.sender, l4.ZeroTime)))
        return results

    def sender(cast: Cast) -> None:
        for number in range(3):
            put(number)
            l4.Send(cast.receiver)

    results = play(seed=seed, wrap=partial(late, seed), receiver=receiver, sender=sender)

    assert results["receiver"] == [Said((0,)), Said((1,)), Said((2,))]


def busy(_: Cast) -> None:
    sleep(10 * LONG)


def sends(cast: Cast) -> None:
    """Be in a send phase that nobody ends; receive from anybody would follow."""
    put(1)
    l4.Ipc(cast.busy, ANY_THREAD, NEVER)


def closed(cast: Cast) -> None:
    """Receive from another."""
    l4.Receive(cast.busy)


@pytest.mark.parametrize("other", [busy, sends, closed])
def test_who_does_not_wait_is_not_waited_for(other: object) -> None:
    """One that computes, one that sends first, and one that waits for another: the time-out comes at once."""

    def sender(cast: Cast) -> object:
        sleep()
        put(1)
        start = now()
        return said(l4.Send_Timeout(cast.other, l4.ZeroTime)), now() - start < AT_ONCE

    assert play(busy=busy, other=other, sender=sender)["sender"] == (TIMED, True)  # type: ignore[arg-type]


def test_who_sent_before_it_waits() -> None:
    """One whose message was taken this moment waits, though it has not moved since; the kernel knows that."""

    def client(cast: Cast) -> object:
        put(1)
        found = heard(l4.Ipc(cast.first, cast.second, NEVER)) == (cast.second, Said((3,)))
        sleep(LONG)  # until the others have heard that they were heard
        return found

    def first(cast: Cast) -> object:
        l4.Receive(cast.client)
        put(2)
        return said(l4.Send(cast.second))

    def second(cast: Cast) -> object:
        l4.Receive(cast.first)
        put(3)
        sent = said(l4.Send_Timeout(cast.client, l4.ZeroTime))
        sleep(LONG)
        return sent

    results = play(wrap=partial(late, 1), client=client, first=first, second=second)

    assert results == {"client": True, "first": Said(()), "second": Said(())}


def test_who_lies_holds_a_sender_once() -> None:
    """A thread that says it waits and takes nothing holds a sender for a second, and then no more than a moment."""

    def liar(_: Cast) -> None:
        attach().page[Page.WAITS + Wait.FOR] = ANY_THREAD
        attach().thread.sleep(100)

    def sender(cast: Cast) -> object:
        sleep()
        spans = []
        for _ in range(3):
            put(1)
            start = now()
            assert said(l4.Send_Timeout(cast.liar, l4.ZeroTime)) == TIMED
            spans.append(now() - start)
        return spans

    first, *others = play(liar=liar, sender=sender)["sender"]

    assert HOLD // 1000 <= first <= HOLD // 1000 + MOMENT
    assert all(span <= DOUBTED // 1000 + AT_ONCE for span in others)


def test_a_start_message_with_no_time() -> None:
    """A thread that was just activated waits for its pager: a start message without time reaches it."""

    def boss(_: Cast) -> object:
        make_space(FRESH)
        put(l4.entry(report), 7)
        started = said(l4.Send_Timeout(FRESH, l4.ZeroTime))
        answer = said(l4.Receive(FRESH))
        assert l4.ThreadControl(FRESH, l4.nilthread, l4.nilthread, l4.nilthread)
        return started, answer

    started, answer = play(boss=boss)["boss"]

    assert started == Said(())
    assert isinstance(answer, Said)
    assert answer.words[:2] == (7, FRESH)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_client_of_its_own_space_is_lost(seed: int) -> None:
    """Clients that wait for ever (Lcall) are answered without time (LreplyWait): none is lost, however late."""

    def space(cast: Cast) -> object:
        server = cast.beside("server", serve)
        for number in range(3):
            cast.beside(f"client-{number}", partial(call, server))
        return None

    def serve(_: Cast) -> object:
        sender, tag = l4.Wait()
        for _turn in range(14):
            put(*(word + 1 for word in l4.StoreMRs(1, tag.u)))
            sender, tag = l4.LreplyWait(sender)
        put(*(word + 1 for word in l4.StoreMRs(1, tag.u)))
        return said(l4.Reply(sender))

    def call(server: int, _: Cast) -> object:
        answers = []
        for number in range(5):
            put(number)
            answers.append(said(l4.Lcall(server)))
        return answers

    results = play(seed=seed, wrap=partial(late, seed), space=space)

    assert [results[f"client-{n}"] for n in range(3)] == [[Said((number + 1,)) for number in range(5)]] * 3


@conforms("IPC: error 2")
@pytest.mark.parametrize("seed", SEEDS)
def test_answering_one_that_was_deleted(seed: int) -> None:
    """A thread deleted while it waits for an answer is not there for a later one, whatever it has heard."""

    def caller(cast: Cast) -> None:
        put(1)
        l4.Call(cast.server)

    def server(cast: Cast) -> object:
        sender, _ = l4.Wait()
        assert l4.ThreadControl(sender, l4.nilthread, l4.nilthread, l4.nilthread)
        put(2)
        return said(l4.Reply(sender))

    with stage(seed=seed) as cast:
        cast.add("server", server)
        cast.add("caller", caller)
        cast.system.run()

        assert cast.result("server") == NO_PARTNER[Phase.SEND]

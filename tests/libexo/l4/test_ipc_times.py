"""Time-outs of Ipc: periods and points of time, of either phase."""

from collections.abc import Callable
from functools import partial

import pytest

from kernel.abi.messages import Phase
from libexo import l4
from libexo.l4.format.times import TimePoint
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    READY_US,
    SEEDS,
    TIMED_OUT,
    Cast,
    Failed,
    Part,
    Said,
    heard,
    now,
    play,
    put,
    said,
    sleep,
)

conforms = pytest.mark.conforms
SLACK = 100
"""What the steps around a wait take on the simulated machine, in microseconds."""
Time = Callable[[int], int]


def period(microseconds: int) -> int:
    return l4.TimePeriod(microseconds)


def point(microseconds: int) -> int:
    """That far ahead, from now."""
    return TimePoint(now() + microseconds, now())


def deaf(cast: Cast) -> None:
    """Be there, and receive nothing."""
    sleep(10 * LONG)


@conforms("IPC: time-outs")
@pytest.mark.parametrize("time", [period, point])
def test_the_send_phase_ends(time: Time) -> None:
    """A send that nobody takes ends with error 1 of the send phase when its time is over, and not before."""

    def sender(cast: Cast) -> object:
        put(1)
        start = now()
        tag = l4.Send_Timeout(cast.deaf, time(LONG))
        return said(tag), abs(now() - start - LONG) <= SLACK + LONG // 512

    assert play(deaf=deaf, sender=sender)["sender"] == (TIMED_OUT[Phase.SEND], True)


@conforms("IPC: time-outs")
@pytest.mark.parametrize("time", [period, point])
def test_the_receive_phase_ends(time: Time) -> None:
    """A receive that nobody sends to ends with error 1 of the receive phase when its time is over."""

    def receiver(cast: Cast) -> object:
        start = now()
        received = heard(l4.Wait_Timeout(time(LONG)))
        return received, abs(now() - start - LONG) <= SLACK + LONG // 512

    assert play(receiver=receiver)["receiver"] == ((l4.nilthread, TIMED_OUT[Phase.RECEIVE]), True)


@conforms("IPC: time-outs")
@pytest.mark.parametrize("phase", Phase)
def test_zero_with_nobody_ready(phase: Phase) -> None:
    """With ZeroTime a phase fails at once where no partner is ready: in what one needs to wake, at most."""

    def part(cast: Cast) -> object:
        put(1)
        start = now()
        call = l4.Send_Timeout if phase is Phase.SEND else l4.Receive_Timeout
        return said(call(cast.deaf, l4.ZeroTime)), now() - start <= READY_US + SLACK

    assert play(deaf=deaf, part=part)["part"] == (TIMED_OUT[phase], True)


@conforms("IPC: time-outs")
@pytest.mark.parametrize("seed", SEEDS)
def test_zero_with_a_receiver_ready(seed: int) -> None:
    """A send with ZeroTime to a thread that receives succeeds."""

    def receiver(cast: Cast) -> object:
        return heard(l4.Wait()) == (cast.sender, Said((1,)))

    def sender(cast: Cast) -> object:
        sleep()
        put(1)
        return said(l4.Send_Timeout(cast.receiver, l4.ZeroTime))

    assert play(seed=seed, receiver=receiver, sender=sender) == {"receiver": True, "sender": Said(())}


@conforms("IPC: time-outs")
@pytest.mark.parametrize("seed", SEEDS)
def test_zero_with_a_sender_ready(seed: int) -> None:
    """A receive with ZeroTime takes the message of a thread that waits to send."""

    def receiver(cast: Cast) -> object:
        sleep()
        return heard(l4.Wait_Timeout(l4.ZeroTime)) == (cast.sender, Said((1,)))

    def sender(cast: Cast) -> object:
        put(1)
        return said(l4.Send(cast.receiver))

    assert play(seed=seed, receiver=receiver, sender=sender) == {"receiver": True, "sender": Said(())}


@conforms("IPC: time-outs")
def test_a_period_of_no_length_is_never() -> None:
    """TimePeriod(0) is Never, not zero: such a receive waits until somebody sends, however late."""

    def receiver(cast: Cast) -> object:
        return heard(l4.Wait_Timeout(l4.TimePeriod(0)))[1]

    def sender(cast: Cast) -> object:
        sleep(30 * LONG)
        put(1)
        return said(l4.Send_Timeout(cast.receiver, l4.TimePeriod(0)))

    assert play(receiver=receiver, sender=sender) == {"receiver": Said((1,)), "sender": Said(())}


@conforms("IPC: time-outs")
@pytest.mark.parametrize("phase", Phase)
def test_a_point_that_has_passed(phase: Phase) -> None:
    """A point of time that has passed, not so long ago that it could be a later one, is as zero."""

    def part(cast: Cast) -> object:
        put(1)
        at = point(MOMENT)
        sleep(MOMENT + MOMENT // 4)
        start = now()
        call = l4.Send_Timeout if phase is Phase.SEND else l4.Receive_Timeout
        return said(call(cast.deaf, at)), now() - start <= READY_US + SLACK

    assert play(deaf=deaf, part=part)["part"] == (TIMED_OUT[phase], True)


def slow(cast: Cast) -> None:
    """Take a message after a while, and never answer."""
    sleep(LONG)
    l4.Wait()
    sleep(10 * LONG)


@conforms("IPC: time-outs")
def test_a_receive_period_starts_with_its_phase() -> None:
    """The period of a call's receive phase starts when the message was taken, not when the call began."""

    def client(cast: Cast) -> object:
        put(1)
        start = now()
        tag = l4.Call_Timeouts(cast.slow, l4.Never, l4.TimePeriod(LONG))
        return said(tag), abs(now() - start - 2 * LONG) <= SLACK + LONG // 256

    assert play(slow=slow, client=client)["client"] == (TIMED_OUT[Phase.RECEIVE], True)


@conforms("IPC: time-outs")
def test_a_receive_point_is_absolute() -> None:
    """A point as receive time-out means the same moment however long the send phase took."""

    def client(cast: Cast) -> object:
        put(1)
        start = now()
        tag = l4.Call_Timeouts(cast.slow, l4.Never, point(3 * LONG // 2))
        return said(tag), abs(now() - start - 3 * LONG // 2) <= SLACK + LONG // 128

    assert play(slow=slow, client=client)["client"] == (TIMED_OUT[Phase.RECEIVE], True)


@conforms("IPC: time-outs")
@pytest.mark.parametrize("wait", [1, 3, 5, 40])
def test_a_receive_point_that_passes_in_the_send_phase(wait: int) -> None:
    """A point that passed while the message waited to be taken ends the receive phase at once."""

    def server(cast: Cast) -> None:
        sleep(wait * 2_100)
        l4.Wait()
        sleep(10 * LONG)

    def client(cast: Cast) -> object:
        put(1)
        start = now()
        tag = l4.Call_Timeouts(cast.server, l4.Never, point(900))
        return said(tag), now() - start <= wait * 2_100 + READY_US + SLACK

    assert play(server=server, client=client)["client"] == (TIMED_OUT[Phase.RECEIVE], True)


@conforms("IPC: time-outs")
def test_each_phase_has_its_own() -> None:
    """The send time-out does not end the receive phase, nor the other way round."""

    def server(cast: Cast) -> object:
        sender, _ = l4.Wait()
        sleep(LONG)
        put(2)
        return said(l4.Reply(sender))

    def client(cast: Cast) -> object:
        put(1)
        return said(l4.Call_Timeouts(cast.server, l4.TimePeriod(MOMENT), l4.Never))

    assert play(server=server, client=client) == {"server": Said(()), "client": Said((2,))}


@conforms("IPC: time-outs")
@pytest.mark.parametrize("seed", SEEDS)
def test_what_timed_out_is_never_received(seed: int) -> None:
    """A message whose sender was told of a time-out in the send phase is received by nobody later."""

    def server(cast: Cast) -> object:
        sleep(LONG)
        return heard(l4.Wait_Timeout(l4.TimePeriod(LONG)))

    def client(cast: Cast) -> object:
        put(1)
        return said(l4.Send_Timeout(cast.server, l4.TimePeriod(MOMENT)))

    results = play(seed=seed, server=server, client=client)

    assert results == {
        "server": (l4.nilthread, TIMED_OUT[Phase.RECEIVE]),
        "client": TIMED_OUT[Phase.SEND],
    }


def answers_late(answer: Callable[[int], l4.MsgTag]) -> Part:
    """A server that takes one call, and answers it by *answer* after LONG."""

    def server(cast: Cast) -> object:
        sender, _ = l4.Wait()
        sleep(LONG)
        put(2)
        return said(answer(sender))

    return server


def gives_up(cast: Cast, after: int) -> Said | Failed:
    """Call the server, and wait for its answer *after* microseconds at most; return long after it answered."""
    put(1)
    result = said(l4.Call_Timeouts(cast.server, l4.Never, l4.TimePeriod(after)))
    sleep(2 * LONG)
    return result


@conforms("IPC: a caller that gave up")
@pytest.mark.parametrize("seed", SEEDS)
def test_answering_a_caller_that_gave_up(seed: int) -> None:
    """A thread that no longer waits for an answer is not ready: a reply with ZeroTime is error 1, send phase."""
    results = play(seed=seed, server=answers_late(l4.Reply), client=partial(gives_up, after=MOMENT))

    assert results == {"server": TIMED_OUT[Phase.SEND], "client": TIMED_OUT[Phase.RECEIVE]}


@conforms("IPC: a caller that gave up")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_late_answer_waits_for_the_next_receive(seed: int) -> None:
    """An answer that may wait is taken when the caller that gave up receives from the server again."""

    def client(cast: Cast) -> object:
        return gives_up(cast, MOMENT), said(l4.Receive(cast.server))

    results = play(seed=seed, server=answers_late(l4.Send), client=client)

    assert results == {"server": Said(()), "client": (TIMED_OUT[Phase.RECEIVE], Said((2,)))}


@conforms("IPC: a caller that gave up")
@pytest.mark.parametrize("seed", range(30))
def test_giving_up_just_as_the_answer_comes(seed: int) -> None:
    """Server and caller agree: either both see the answer, or the caller a time-out and the server an error."""
    client = partial(gives_up, after=LONG + seed % 3)
    results = play(seed=seed, server=answers_late(l4.Reply), client=client)

    assert (results["server"], results["client"]) in (
        (Said(()), Said((2,))),
        (TIMED_OUT[Phase.SEND], TIMED_OUT[Phase.RECEIVE]),
    )


@conforms("IPC: convenience calls")
def test_sleep() -> None:
    """Sleep takes its time, to the microsecond the time can say, and messages wait meanwhile."""

    def sleeper(cast: Cast) -> object:
        start = now()
        l4.Sleep(l4.TimePeriod(500))
        short, start = now() - start, now()
        l4.Sleep(l4.TimePeriod(LONG))
        late = now() - start - (l4.TimePeriod(LONG).period or 0)
        return 500 <= short <= 500 + SLACK, 0 <= late <= SLACK, said(l4.Wait()[1])

    def sender(cast: Cast) -> object:
        put(3)
        return said(l4.Send(cast.sleeper))

    results = play(sleeper=sleeper, sender=sender)

    assert results == {"sleeper": (True, True, Said((3,))), "sender": Said(())}

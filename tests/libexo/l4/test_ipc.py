"""The system call Ipc: its two phases, their partners, and nothing in between."""

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    NEVER,
    SEEDS,
    WAITS,
    Cast,
    Failed,
    Part,
    Said,
    heard,
    play,
    put,
    said,
    sleep,
)

conforms = pytest.mark.conforms
REPLY = l4.Timeouts(l4.ZeroTime, l4.Never)
NOBODY = thread_id(3000)


def echo(cast: Cast) -> None:
    """Answer each sender with its own words."""
    sender, tag = l4.Wait()
    while True:
        put(*l4.StoreMRs(1, tag.u), label=tag.label)
        sender, tag = l4.ReplyWait(sender)


@conforms("IPC: phases")
@pytest.mark.parametrize("seed", SEEDS)
def test_send_then_receive(seed: int) -> None:
    """Both phases in one call: the message is sent to `to`, then one is received from `from`."""

    def client(cast: Cast) -> object:
        put(1, 2, label=5)
        sender, tag = l4.Ipc(cast.server, cast.server, NEVER)
        return sender == cast.server, said(tag)

    assert play(seed=seed, server=echo, client=client)["client"] == (True, Said((1, 2), 5))


@conforms("IPC: phases")
def test_send_only() -> None:
    """Without a from-specifier the call ends when the receiver took the message; the result is nilthread."""

    def server(cast: Cast) -> object:
        sleep()
        return heard(l4.Wait())[1]

    def client(cast: Cast) -> object:
        put(7)
        before = l4.SystemClock()
        sender, tag = l4.Ipc(cast.server, l4.nilthread, NEVER)
        return sender, tag.E, l4.SystemClock() - before >= MOMENT // 2

    results = play(server=server, client=client)

    assert results == {"server": Said((7,)), "client": (l4.nilthread, False, True)}


@conforms("IPC: phases")
def test_receive_only() -> None:
    """With `to` nil nothing is sent: what is in the message registers stays until something is received."""

    def server(cast: Cast) -> object:
        put(9, label=3)
        return said(l4.Receive(cast.client))

    def client(cast: Cast) -> object:
        put(4)
        return l4.Send(cast.server).E

    assert play(server=server, client=client) == {"server": Said((4,)), "client": False}


@conforms("IPC: phases")
def test_both_nil() -> None:
    """With both nil nothing happens: no error, no waiting."""

    def part(cast: Cast) -> object:
        sender, tag = l4.Ipc(l4.nilthread, l4.nilthread, NEVER)
        return sender, tag.E

    assert play(part=part) == {"part": (l4.nilthread, False)}


@conforms("IPC: message registers")
@pytest.mark.parametrize("count", [0, 1, 63])
def test_only_the_message_changes(count: int) -> None:
    """Words 1 to u arrive; the registers beyond the message are untouched on both sides."""
    words = list(range(1, count + 1))

    def receiver(cast: Cast) -> object:
        l4.LoadMRs(0, range(1000, 1064))
        l4.Receive(cast.sender)
        return list(l4.StoreMRs(1, 63))

    def sender(cast: Cast) -> object:
        put(*words)
        l4.LoadMRs(0, (int(l4.MsgTag()), *words, *range(2000, 2063 - count)))
        l4.Send(cast.receiver)
        return list(l4.StoreMRs(1, 63))

    results = play(receiver=receiver, sender=sender)

    assert results["receiver"] == [*words, *range(1001 + count, 1064)]
    assert results["sender"] == [*words, *range(2000, 2063 - count)]


@conforms("IPC: message registers")
def test_only_the_tag_changes_on_an_error() -> None:
    """A failed IPC leaves a tag with nothing but E, and every other message register as it was."""

    def part(cast: Cast) -> object:
        put(*range(1, 64), label=77)
        tag = l4.Send(NOBODY)
        return int(tag), int(l4.MsgTag()), l4.StoreMRs(1, 63) == tuple(range(1, 64))

    assert play(part=part) == {"part": (1 << 15, 1 << 15, True)}


@conforms("IPC: from-specifier thread")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_closed_receive(seed: int) -> None:
    """A closed receive takes the message of its thread only; those that came before wait for the next."""

    def server(cast: Cast) -> object:
        sleep()
        return said(l4.Receive(cast.late)), said(l4.Receive(cast.early))

    def early(cast: Cast) -> object:
        put(1)
        return l4.Send(cast.server).E

    def late(cast: Cast) -> object:
        sleep(MOMENT // 2)
        put(2)
        return l4.Send(cast.server).E

    results = play(seed=seed, server=server, early=early, late=late)

    assert results == {"server": (Said((2,)), Said((1,))), "early": False, "late": False}


@conforms("IPC: from-specifier anythread")
@pytest.mark.parametrize("seed", SEEDS)
def test_fifo(seed: int) -> None:
    """An open receive takes those who wait one by one; none of them is taken twice before another."""

    def server(cast: Cast) -> object:
        sleep()
        return [said(l4.Wait()[1]) for _ in range(4)]

    def sends(delay: int, word: int) -> Part:
        def client(cast: Cast) -> object:
            sleep(delay)
            put(word)
            return l4.Send(cast.server).E

        return client

    results = play(
        seed=seed, server=server, c=sends(1500, 3), a=sends(500, 1), d=sends(1000, 2), b=sends(1, 0)
    )

    assert results["server"] == [Said((n,)) for n in range(4)]


@conforms("IPC: from-specifier anylocalthread")
@pytest.mark.parametrize("seed", SEEDS)
def test_any_local_thread(seed: int) -> None:
    """`anylocalthread` takes the first sender of one's own space; strangers wait."""

    def server(cast: Cast) -> object:
        cast.beside("inner", inner)
        sleep()
        first = l4.Ipc(l4.nilthread, l4.anylocalthread, NEVER)
        got = first[0] == l4.LocalIdOf(cast.inner), said(first[1])
        return got, said(l4.Wait()[1])

    def inner(cast: Cast) -> object:
        sleep(MOMENT // 2)
        put(2)
        return l4.Send(cast.server).E

    def stranger(cast: Cast) -> object:
        put(1)
        return l4.Send(cast.server).E

    results = play(seed=seed, server=server, stranger=stranger)

    assert results == {"server": ((True, Said((2,))), Said((1,))), "stranger": False, "inner": False}


@conforms("IPC: from-specifier anylocalthread")
def test_any_local_thread_times_out_for_strangers() -> None:
    """A stranger does not satisfy `anylocalthread`, however long it waits."""

    def server(cast: Cast) -> object:
        sender, tag = l4.Ipc(l4.nilthread, l4.anylocalthread, l4.Timeouts(l4.Never, l4.TimePeriod(LONG)))
        return sender, said(tag)

    def stranger(cast: Cast) -> object:
        put(1)
        return l4.Send(cast.server).E

    results = play(server=server, stranger=stranger)

    assert results["server"] == (l4.nilthread, Failed(IpcCode.TIMEOUT, Phase.RECEIVE))


@conforms("IPC: atomic switch")
@pytest.mark.parametrize("seed", range(20))
def test_the_caller_is_ready_for_the_answer(seed: int) -> None:
    """A reply with send time-out zero, right after a call was taken, finds the caller receiving: always."""

    def server(cast: Cast) -> object:
        sender, tag = l4.Wait()
        failed = 0
        for _ in range(10):
            put(l4.StoreMR(1) + 1)
            sender, tag = l4.ReplyWait_Timeout(sender, l4.TimePeriod(LONG))
            failed += tag.E
        return failed

    def client(cast: Cast) -> object:
        answers = []
        for n in range(10):
            put(n)
            answers.append(said(l4.Call(cast.server)))
        return answers

    results = play(seed=seed, server=server, client=client)

    assert results == {"server": 1, "client": [Said((n + 1,)) for n in range(10)]}


@conforms("IPC: atomic switch")
@pytest.mark.parametrize("seed", range(20))
def test_ready_for_another_thread_at_once(seed: int) -> None:
    """With `to` and `from` different, `from` finds the caller receiving as soon as `to` took the message."""

    def client(cast: Cast) -> object:
        put(1)
        sender, tag = l4.Ipc(cast.first, cast.second, NEVER)
        return sender == cast.second, said(tag)

    def first(cast: Cast) -> object:
        l4.Receive(cast.client)
        put(2)
        return said(l4.Reply(cast.second))

    def second(cast: Cast) -> object:
        l4.Receive(cast.first)
        put(3)
        return said(l4.Reply(cast.client))

    results = play(seed=seed, client=client, first=first, second=second)

    assert results == {"client": (True, Said((3,))), "first": Said(()), "second": Said(())}


@conforms("IPC: local and global ids")
def test_the_result_is_local_for_ones_own_space() -> None:
    """The sender comes as its local id within a space, and as its global id from outside."""

    def server(cast: Cast) -> object:
        cast.beside("inner", inner)
        outside, tag = l4.Wait()
        inside, _ = l4.ReplyWait(outside)
        return outside == cast.client, inside == l4.LocalIdOf(cast.inner), l4.IsLocalId(inside), tag.E

    def inner(cast: Cast) -> object:
        sleep()
        put()
        return l4.Send(cast.server).E

    def client(cast: Cast) -> object:
        put()
        return l4.Call(cast.server).E

    assert play(server=server, client=client)["server"] == (True, True, True, False)


@conforms("IPC: local and global ids")
def test_local_ids_are_accepted() -> None:
    """`to` and `from` may be local ids of threads of the caller's space; the answer comes from the local id."""

    def server(cast: Cast) -> object:
        cast.beside("inner", inner)
        local = l4.LocalIdOf(cast.inner)
        put(5)
        sender, tag = l4.Ipc(local, local, NEVER)
        return sender == local, said(tag)

    def inner(cast: Cast) -> object:
        sender, _ = l4.Ipc(l4.nilthread, l4.LocalIdOf(cast.server), NEVER)
        put(6)
        return sender == l4.LocalIdOf(cast.server), said(l4.Reply(sender))

    results = play(server=server)

    assert results == {"server": (True, Said((6,))), "inner": (True, Said(()))}


@conforms("IPC: local and global ids")
@pytest.mark.parametrize("phase", Phase)
def test_a_local_id_of_nobody(phase: Phase) -> None:
    """A local id that no thread of the space has is a non-existing partner, in either phase."""

    def part(cast: Cast) -> object:
        put()
        nobody = l4.MyLocalId() + (1 << 20)
        return said(l4.Send(nobody) if phase is Phase.SEND else l4.Receive(nobody))

    assert play(part=part) == {"part": Failed(IpcCode.NO_PARTNER, phase)}


@conforms("IPC: local and global ids")
@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("local", [64, 0x1000])
def test_a_small_local_id(phase: Phase, local: int) -> None:
    """An address low in memory is no interrupt's id: it is a non-existing partner as any other."""

    def part(cast: Cast) -> object:
        put()
        return said(l4.Send(local) if phase is Phase.SEND else l4.Receive(local))

    assert play(part=part) == {"part": Failed(IpcCode.NO_PARTNER, phase)}


@conforms("IPC: phases")
def test_a_failed_send_skips_the_receive_phase() -> None:
    """After an error in the send phase nothing is received, even where a message waits."""

    def server(cast: Cast) -> object:
        sleep()
        put()
        sender, tag = l4.Ipc(NOBODY, l4.anythread, NEVER)
        return (sender, said(tag)), said(l4.Wait()[1])

    def client(cast: Cast) -> object:
        put(3)
        return l4.Send(cast.server).E

    results = play(server=server, client=client)

    assert results["server"] == ((l4.nilthread, Failed(IpcCode.NO_PARTNER, Phase.SEND)), Said((3,)))


@conforms("IPC: from-specifier thread")
def test_waiting_for_oneself_is_sleeping() -> None:
    """A receive from oneself ends with its time-out: nobody can send there but oneself."""

    def part(cast: Cast) -> object:
        before = l4.SystemClock()
        sender, tag = l4.Ipc(l4.nilthread, l4.Myself(), l4.Timeouts(l4.Never, l4.TimePeriod(4 * MOMENT)))
        return sender, said(tag), l4.SystemClock() - before >= 4 * MOMENT

    assert play(part=part) == {"part": (l4.nilthread, Failed(IpcCode.TIMEOUT, Phase.RECEIVE), True)}


@conforms("IPC: phases")
def test_sending_to_nobody_in_particular() -> None:
    """`anythread` and `anylocalthread` are nobody to send to."""

    def part(cast: Cast) -> object:
        put()
        return said(l4.Send(l4.anythread)), said(l4.Send(l4.anylocalthread)), said(l4.Send(l4.Myself()))

    assert play(part=part) == {"part": (Failed(IpcCode.NO_PARTNER, Phase.SEND),) * 3}


@conforms("IPC: phases")
def test_without_a_time_out_it_waits_for_ever() -> None:
    """Never is never: a send nobody takes, and a receive nobody sends to, go on when nothing else does."""

    def sender(cast: Cast) -> object:
        put()
        return l4.Send(cast.deaf)

    def receiver(cast: Cast) -> object:
        return l4.Wait()

    def deaf(cast: Cast) -> object:
        return l4.Receive(cast.receiver)

    results = play(sender=sender, receiver=receiver, deaf=deaf)

    assert results == {"sender": WAITS, "receiver": WAITS, "deaf": WAITS}

"""Lipc between threads of one environment: the same as Ipc, whichever way the message takes."""

import pytest

from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from tests.libexo.l4.stage import (
    LONG,
    NEVER,
    SEEDS,
    Cast,
    Failed,
    Said,
    await_name,
    heard,
    play,
    put,
    said,
    sleep,
)

conforms = pytest.mark.conforms


@conforms("Lipc: same as Ipc")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [0, 1, 62])
def test_lcall_and_lreply_wait(seed: int, count: int) -> None:
    """Lcall sends and takes the answer; LreplyWait answers and waits for threads of its own space only."""

    def space(cast: Cast) -> object:
        cast.beside("server", server)
        results = []
        for n in range(5):
            put(n, *range(count))
            results.append(said(l4.Lcall(cast.server)))
        return results

    def server(cast: Cast) -> None:
        sender, tag = l4.Ipc(l4.nilthread, l4.anylocalthread, NEVER)
        while True:
            put(l4.StoreMR(1) + 100, *l4.StoreMRs(2, tag.u - 1))
            sender, tag = l4.LreplyWait(sender)

    assert play(seed=seed, space=space)["space"] == [Said((n + 100, *range(count))) for n in range(5)]


@conforms("Lipc: same as Ipc")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_local_server_with_strangers(seed: int) -> None:
    """A stranger waits while a server does LreplyWait, and is served by ReplyWait; both kinds of callers mix."""

    def space(cast: Cast) -> object:
        cast.beside("server", server)
        sleep()
        put(1)
        return said(l4.Lcall(cast.server))

    def server(cast: Cast) -> object:
        put(7)
        local = l4.LreplyWait(l4.LocalIdOf(cast.space))  # nobody waits for that: an error, and no wait
        first = heard(l4.Ipc(l4.nilthread, l4.anylocalthread, NEVER))
        put(2)
        second = heard(l4.ReplyWait(first[0]))
        put(3)
        return (
            said(local[1]),
            (first[0] == l4.LocalIdOf(cast.space), first[1]),
            (second[0] == cast.stranger, second[1]),
            said(l4.Reply(second[0])),
        )

    def stranger(cast: Cast) -> object:
        server = await_name(cast, "server")
        put(5)
        return said(l4.Call(server))

    results = play(seed=seed, space=space, stranger=stranger)

    assert results == {
        "space": Said((2,)),
        "server": (Failed(IpcCode.TIMEOUT, Phase.SEND), (True, Said((1,))), (True, Said((5,))), Said(())),
        "stranger": Said((3,)),
    }


@conforms("Lipc: same as Ipc")
@pytest.mark.parametrize("seed", range(40))
def test_a_closed_receive_takes_no_other_message(seed: int) -> None:
    """Whatever the order, a message put into one's hands is not taken by a receive from somebody else."""

    def space(cast: Cast) -> object:
        cast.beside("server", server)
        put(1)
        return said(l4.Lcall(cast.server))

    def server(cast: Cast) -> object:
        received = [heard(l4.Wait())]
        if received[0][0] == cast.stranger:
            received.append(heard(l4.Ipc(l4.nilthread, cast.space, NEVER)))
        else:
            received.append(heard(l4.Ipc(l4.nilthread, cast.stranger, NEVER)))
        put(2)
        l4.Send(cast.space)
        return {(sender == cast.stranger, message) for sender, message in received}

    def stranger(cast: Cast) -> object:
        while "server" not in cast.ids:
            sleep(10)
        put(9)
        return said(l4.Send(cast.server))

    results = play(seed=seed, space=space, stranger=stranger)

    assert results == {
        "space": Said((2,)),
        "server": {(True, Said((9,))), (False, Said((1,)))},
        "stranger": Said(()),
    }


@conforms("Lipc: same as Ipc")
@pytest.mark.parametrize("seed", SEEDS)
def test_lipc_to_another_space(seed: int) -> None:
    """Lipc with a partner elsewhere is Ipc."""

    def server(cast: Cast) -> object:
        sender, _ = l4.Wait()
        put(2)
        return said(l4.Reply(sender))

    def client(cast: Cast) -> object:
        put(1)
        return said(l4.Lcall(cast.server))

    assert play(seed=seed, server=server, client=client) == {"server": Said(()), "client": Said((2,))}


@conforms("Lipc: same as Ipc")
@pytest.mark.parametrize("seed", SEEDS)
def test_time_outs_of_lipc(seed: int) -> None:
    """Time-outs count for both phases: nobody ready, and no answer."""

    def space(cast: Cast) -> object:
        cast.beside("deaf", lambda cast: sleep(2 * LONG))
        cast.beside("mute", lambda cast: (heard(l4.Wait()), sleep(2 * LONG)))
        sleep()
        put(1)
        _, first = l4.Lipc(cast.deaf, cast.deaf, l4.Timeouts(l4.ZeroTime, l4.Never))
        results = [said(first)]
        put(1)
        _, second = l4.Lipc(cast.mute, cast.mute, l4.Timeouts(l4.Never, l4.TimePeriod(LONG)))
        return [*results, said(second)]

    assert play(seed=seed, space=space)["space"] == [
        Failed(IpcCode.TIMEOUT, Phase.SEND),
        Failed(IpcCode.TIMEOUT, Phase.RECEIVE),
    ]


@conforms("Lipc: same as Ipc")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_thread_cancelled_beside_lipc(seed: int) -> None:
    """A thread whose receive is aborted as a message comes sees one or the other, and loses nothing."""

    def space(cast: Cast) -> object:
        cast.beside("server", server)
        cast.beside("aborter", lambda cast: l4.ExchangeRegisters(cast.server, 1 << 1).control)
        put(1)
        return said(l4.Lipc(cast.server, l4.nilthread, l4.Timeouts(l4.TimePeriod(LONG), l4.Never))[1])

    def server(cast: Cast) -> object:
        received = []
        while Said((1,)) not in received:
            received.append(heard(l4.Wait())[1])
        return received

    results = play(seed=seed, space=space)

    assert results["space"] == Said(())
    assert results["server"] in ([Said((1,))], [Failed(IpcCode.CANCELLED, Phase.RECEIVE), Said((1,))])

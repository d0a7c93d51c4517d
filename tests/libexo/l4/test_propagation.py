"""Propagation: permitted senders and names, the receiver's view, and the way of the answer."""

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    NEVER,
    SEEDS,
    TIMED_OUT,
    Cast,
    Failed,
    Said,
    await_name,
    play,
    put,
    said,
    sleep,
)

conforms = pytest.mark.conforms


def forward(to: int, virtual: int, *words: int, time: int = l4.Never) -> l4.MsgTag:
    """Send for *virtual*."""
    put(*words, p=True)
    l4.Set_VirtualSender(virtual)
    return l4.Send_Timeout(to, time)


def client(cast: Cast) -> object:
    """Call the front thread; return who answered what."""
    front = await_name(cast, "front")
    put(1)
    sender, tag = l4.Ipc(front, front, NEVER)
    return next((name for name, thread in cast.ids.items() if thread == sender), sender), said(tag)


def server_space(cast: Cast) -> object:
    """A front thread that passes calls on to the first thread, which answers."""
    cast.beside("front", front)
    return worker(cast)


def front(cast: Cast) -> object:
    caller, _ = l4.Wait()
    return said(forward(cast.worker, caller, 2))


def worker(cast: Cast) -> object:
    """Receive one message and answer its sender; return that sender, and the actual one."""
    sender, tag = l4.Wait()
    message, actual = said(tag), l4.ActualSender() if tag.p else l4.nilthread
    names = {thread: name for name, thread in cast.ids.items()}
    put(3)
    return names.get(l4.GlobalIdOf(sender)), names.get(actual), message, said(l4.Reply(sender))


PASSED_ON = {
    "worker": ("client", "front", Said((2,), flags="p"), Said(())),
    "client": ("worker", Said((3,))),
    "front": Said(()),
}
"""What each sees of a call that the front thread passed on."""


@conforms("IPC: propagation")
@pytest.mark.parametrize("seed", range(20))
def test_into_ones_own_space(seed: int) -> None:
    """A thread may send for anybody to a thread of its own space. The caller it had is answered by the third."""
    assert play(seed=seed, worker=server_space, client=client) == PASSED_ON


@conforms("IPC: propagation")
@pytest.mark.parametrize("seed", SEEDS)
def test_for_a_thread_of_ones_own_space(seed: int) -> None:
    """A thread may send for another of its own space to any thread, which answers that one."""

    def space(cast: Cast) -> object:
        cast.beside("front", front)
        return client(cast)

    assert play(seed=seed, client=space, worker=worker) == PASSED_ON


@conforms("IPC: propagation")
@pytest.mark.parametrize("seed", SEEDS)
def test_where_it_is_not_allowed(seed: int) -> None:
    """Between strangers p is dropped: the message is the actual sender's, and the caller goes on waiting for it."""

    def outside(cast: Cast) -> object:
        caller, _ = l4.Wait()
        result = said(forward(cast.worker, caller, 2))
        put(4)
        answered = said(l4.Reply(caller))
        sleep(LONG)
        return result, answered

    def named(cast: Cast) -> object:
        return worker(cast)

    results = play(seed=seed, front=outside, worker=named, client=client)

    assert results == {
        "front": (Said(()), Said(())),
        "worker": ("front", None, Said((2,)), TIMED_OUT[Phase.SEND]),
        "client": ("front", Said((4,))),
    }


@conforms("IPC: propagation")
@pytest.mark.parametrize("virtual", [l4.nilthread, thread_id(3000), l4.anythread])
def test_for_nobody(virtual: int) -> None:
    """A sender that names no existing thread as virtual sender sends as itself."""

    def space(cast: Cast) -> object:
        cast.beside("front", lambda cast: said(forward(cast.worker, virtual, 2)))
        return worker(cast)

    assert play(worker=space)["worker"] == ("front", None, Said((2,)), TIMED_OUT[Phase.SEND])


@conforms("IPC: propagation")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("specifier", ["client", "front", "local"])
def test_what_a_closed_receive_takes(seed: int, specifier: str) -> None:
    """A propagated message satisfies a receive from its virtual sender, its real one, and any local one."""

    def space(cast: Cast) -> object:
        cast.beside("front", front)
        from_ = l4.anylocalthread if specifier == "local" else cast.ids[specifier]
        sender, tag = l4.Ipc(l4.nilthread, from_, l4.Timeouts(l4.Never, l4.TimePeriod(LONG)))
        message = said(tag)
        put(3)
        return sender == cast.client, message, said(l4.Reply(sender))

    results = play(seed=seed, worker=space, client=client)

    assert results["worker"] == (True, Said((2,), flags="p"), Said(()))
    assert results["client"] == ("worker", Said((3,)))


@conforms("IPC: propagation")
@pytest.mark.parametrize("seed", SEEDS)
def test_turned_back(seed: int) -> None:
    """A propagated message that nobody takes has the caller wait for its first partner again, which may answer."""

    def space(cast: Cast) -> object:
        def front(cast: Cast) -> object:
            caller, _ = l4.Wait()
            result = said(forward(cast.space, caller, 2, time=l4.TimePeriod(MOMENT)))
            put(5)
            return result, said(l4.Reply(caller))

        cast.beside("front", front)
        return sleep(2 * LONG)

    results = play(seed=seed, space=space, client=client)

    assert results["front"] == (TIMED_OUT[Phase.SEND], Said(()))
    assert results["client"] == ("front", Said((5,)))


@conforms("IPC: propagation")
@pytest.mark.parametrize("seed", SEEDS)
def test_time_out_while_turned(seed: int) -> None:
    """The caller's own time-out ends its wait for the third, too; a late answer finds nobody ready."""

    def impatient(cast: Cast) -> object:
        to = await_name(cast, "front")
        put(1)
        result = said(l4.Call_Timeouts(to, l4.Never, l4.TimePeriod(3 * MOMENT)))
        sleep(LONG)
        return result

    def space(cast: Cast) -> object:
        cast.beside("front", front)
        sender, _ = l4.Wait()
        sleep(LONG // 2)
        put(3)
        return sender == cast.client, said(l4.Reply(sender))

    results = play(seed=seed, worker=space, client=impatient)

    assert results["client"] == TIMED_OUT[Phase.RECEIVE]
    assert results["worker"] == (True, TIMED_OUT[Phase.SEND])


@conforms("IPC: propagation")
@pytest.mark.parametrize("seed", SEEDS)
def test_death_of_who_is_to_answer(seed: int) -> None:
    """The caller is told when the thread that is to answer in the other's place is deleted."""

    def space(cast: Cast) -> object:
        cast.beside("worker", lambda cast: (l4.Wait(), sleep(10 * LONG)))
        cast.beside("front", front)
        sleep(10 * MOMENT)
        return l4.ThreadControl(cast.worker, l4.nilthread, l4.nilthread, l4.nilthread)

    results = play(seed=seed, space=space, client=client)

    assert results["client"] == (l4.nilthread, Failed(IpcCode.NO_PARTNER, Phase.RECEIVE))


@conforms("IPC: propagation")
def test_the_next_message_is_ones_own() -> None:
    """VirtualSender without p is nothing: it is p that makes a message another's."""

    def space(cast: Cast) -> object:
        def front(cast: Cast) -> object:
            caller, _ = l4.Wait()
            l4.Set_VirtualSender(caller)
            put(8)
            result = said(l4.Send(cast.worker))
            put(9)
            return result, said(l4.Reply(caller))

        cast.beside("front", front)
        sender, tag = l4.Wait()
        return sender == l4.LocalIdOf(cast.front), said(tag)

    results = play(worker=space, client=client)

    assert results["worker"] == (True, Said((8,)))
    assert results["client"] == ("front", Said((9,)))

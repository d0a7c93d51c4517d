"""Several threads of one environment: each sends and receives for itself, all at once."""

from functools import partial

import pytest

import libexo
from kernel.abi.ids import thread_id
from libexo import l4
from libexo.ipc import Message
from tests.libexo.l4.stage import SEEDS, Cast, Said, heard, play, put, said, sleep

conforms = pytest.mark.conforms


@conforms("IPC: several threads")
@pytest.mark.parametrize("seed", SEEDS)
def test_native_calls_of_several_threads(seed: int) -> None:
    """Threads of one environment call servers by the native calls all at once, and each gets its own answers."""

    def calls(cast: Cast, base: int) -> list[tuple[int, ...]]:
        thread = libexo.attach().current
        return [thread.call(cast.server, Message(words=(base + n,)), timeout=5).words for n in range(6)]

    def space(cast: Cast) -> object:
        for n in range(1, 4):
            cast.beside(f"t{n}", partial(calls, base=100 * n))
        return calls(cast, 0)

    def server(cast: Cast) -> None:
        thread = libexo.attach().thread
        _, message = thread.wait()
        for _ in range(23):
            _, message = thread.reply_wait(message, Message(words=(message.words[0] + 1,)))
        thread.reply(message, Message(words=(message.words[0] + 1,)))

    results = play(seed=seed, space=space, server=server)

    for n, name in enumerate(("space", "t1", "t2", "t3")):
        assert results[name] == [(100 * n + k + 1,) for k in range(6)]


@conforms("IPC: several threads")
@pytest.mark.parametrize("seed", SEEDS)
def test_each_thread_has_its_own_registers(seed: int) -> None:
    """One thread's registers are not seen by another of the same environment; ids and pagers are each its own."""

    def space(cast: Cast) -> object:
        def other(cast: Cast) -> object:
            put(7, 8)
            sleep()
            return (
                l4.StoreMRs(1, 2),
                l4.MyGlobalId() == cast.other,
                l4.MyLocalId() == l4.LocalIdOf(cast.other),
            )

        cast.beside("other", other)
        put(1, 2)
        before = l4.StoreMRs(1, 2)
        sleep()
        return before == l4.StoreMRs(1, 2), l4.MyGlobalId() == cast.space

    assert play(seed=seed, space=space) == {"space": (True, True), "other": ((7, 8), True, True)}


@conforms("IPC: several threads")
def test_many_clients_of_one_space() -> None:
    """Threads of one environment serve the same clients, each at its own id; nothing gets mixed up."""

    def space(cast: Cast) -> None:
        def worker(cast: Cast) -> object:
            return [heard(echo()) for _ in range(3)]

        def echo() -> tuple[int, l4.MsgTag]:
            sender, tag = l4.Wait()
            seen = l4.StoreMRs(1, tag.u)
            l4.Reply(sender)
            l4.LoadMRs(0, (int(tag), *seen))
            return sender, tag

        for name in ("w1", "w2"):
            cast.beside(name, worker)

    def client(cast: Cast) -> object:
        while "w2" not in cast.ids:
            sleep(100)
        sleep()
        answers = []
        for n in range(3):
            for worker in (cast.w1, cast.w2):
                put(n, worker)
                answers.append(said(l4.Call(worker)) == Said((n, worker)))
        return all(answers)

    results = play(space=space, client=client)

    assert results["client"] is True
    assert results["w1"] == [(results["w1"][0][0], Said((n, thread_id(2002)))) for n in range(3)]

"""X.2 threads and native programs: the same messages, and answers of a server even to nonsense."""

import pytest

import libexo
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from libexo.errors import IpcError
from libexo.ipc import Message
from libexo.stub import Interface, operation, serve
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    READY_US,
    SEEDS,
    Cast,
    Failed,
    Said,
    heard,
    play,
    put,
    said,
    sleep,
)

conforms = pytest.mark.conforms


class Adder(Interface, label=0x5A, name="adder"):
    """A native server."""

    @operation(1)
    def add(self, number: int) -> int:
        raise NotImplementedError


class AdderServer(Adder):
    def add(self, number: int) -> int:
        return number + 1


ITEMS = (*l4.MapItem(l4.Nilpage, 0).words, *l4.StringItem(0, 0).words)
"""A map item of nothing, and a string of nothing."""


@conforms("IPC: unanswered requests")
@pytest.mark.parametrize("label", [0, 0x5A, 0x5A << 8, 0x5A01, (1 << 48) - 1])
@pytest.mark.parametrize(("untyped", "typed"), [(0, ()), (1, ()), (63, ()), (0, ITEMS), (1, ITEMS)])
def test_a_native_server_answers_nonsense(label: int, untyped: int, typed: tuple[int, ...]) -> None:
    """Whatever an X.2 thread asks a native server, it is answered at once; the next caller is served."""

    def server(cast: Cast) -> None:
        serve(AdderServer(), "adder", libexo.attach())

    def client(cast: Cast) -> object:
        words = (*range(untyped), *typed)
        l4.LoadMRs(0, (int(l4.MsgTag.of(label, untyped, len(typed))), *words))
        tag = l4.Call_Timeouts(cast.adder, l4.TimePeriod(LONG), l4.TimePeriod(LONG))
        return said(tag)

    def stub(cast: Cast) -> object:
        sleep(3 * LONG)
        return Adder.connect(libexo.attach(), "adder").add(4)

    results = play(adder=server, client=client, stub=stub)

    assert results["client"] == Failed(IpcCode.OVERFLOW, Phase.RECEIVE)  # an answer with a string: why not
    assert results["stub"] == 5


@conforms("IPC: native programs")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_native_client_of_an_x2_server(seed: int) -> None:
    """A native call is an X.2 message: label and words arrive, and so does the answer."""

    def server(cast: Cast) -> object:
        received = heard(l4.Wait())
        put(8, label=3)
        return received == (cast.client, Said((7,), 2)), said(l4.Reply(cast.client))

    def client(cast: Cast) -> object:
        answer = libexo.attach().thread.call(cast.server, Message(2, (7,)), timeout=5)
        return answer.label, answer.words

    assert play(seed=seed, server=server, client=client) == {"server": (True, Said(())), "client": (3, (8,))}


@conforms("IPC: native programs")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_native_server_of_an_x2_client(seed: int) -> None:
    """An X.2 call is a native message; a native answer that comes too late is an error at the server."""

    def server(cast: Cast) -> object:
        thread = libexo.attach().thread
        sender, message = thread.wait()
        thread.reply(message, Message(message.label, (message.words[0] + 1,)))
        _, message = thread.wait()
        thread.sleep(0.05)
        try:
            thread.reply(message, Message())
        except IpcError as error:
            return sender == cast.client, error.code
        return None

    def client(cast: Cast) -> object:
        put(7, label=2)
        first = said(l4.Call(cast.server))
        put(7)
        second = said(l4.Call_Timeouts(cast.server, l4.Never, l4.TimePeriod(MOMENT)))
        sleep(LONG)
        return first, second

    assert play(seed=seed, server=server, client=client) == {
        "server": (True, IpcCode.TIMEOUT),
        "client": (Said((8,), 2), Failed(IpcCode.TIMEOUT, Phase.RECEIVE)),
    }


@conforms("IPC: a caller that gave up")
@pytest.mark.parametrize("seed", range(100))
def test_an_answer_and_a_time_out_at_once(seed: int) -> None:
    """Whatever comes first, caller and server agree on whether the answer came in time."""

    def server(cast: Cast) -> object:
        l4.Receive(cast.client)
        l4.Sleep(l4.TimePeriod(READY_US - 4 + seed % 8))
        put(2)
        return said(l4.Reply(cast.client))

    def client(cast: Cast) -> object:
        put(1)
        result = said(l4.Call_Timeouts(cast.server, l4.Never, l4.ZeroTime))
        sleep()
        return result

    results = play(seed=seed, server=server, client=client)

    assert (results["server"], results["client"]) in (
        (Said(()), Said((2,))),
        (Failed(IpcCode.TIMEOUT, Phase.SEND), Failed(IpcCode.TIMEOUT, Phase.RECEIVE)),
    )

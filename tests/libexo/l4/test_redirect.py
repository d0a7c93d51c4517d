"""Redirectors: whose messages they see, what they can do with them, and that there is no way around them."""

import pytest

import libexo
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from libexo.errors import IpcError
from libexo.ipc import Message
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    SEEDS,
    WAITS,
    Cast,
    Failed,
    Said,
    play,
    put,
    said,
    sleep,
    stage,
)
from tests.libexo.l4.test_propagation import forward

conforms = pytest.mark.conforms
NIL = l4.Nilpage


def redirect(whom: int, to: int) -> None:
    """Have everything that leaves the space of *whom* go to *to*; anythread: nowhere else any more."""
    assert l4.SpaceControl(whom, 0, NIL, NIL, to) == (0, 1), l4.ErrorCode_String(l4.ErrorCode())


def boss(cast: Cast) -> None:
    redirect(cast.client, cast.chief)


def client(cast: Cast) -> object:
    sleep()
    put(1)
    sender, tag = l4.Ipc(cast.server, cast.server, l4.Timeouts(l4.Never, l4.TimePeriod(9 * LONG)))
    names = {thread: name for name, thread in cast.ids.items()}
    return names.get(sender), said(tag)


def server(cast: Cast) -> object:
    """Answer one message."""
    sender, tag = l4.Wait()
    names = {thread: name for name, thread in cast.ids.items()}
    seen = names.get(sender), said(tag), names.get(l4.ActualSender())
    put(9)
    return seen, said(l4.Reply(sender))


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_redirector_gets_it(seed: int) -> None:
    """A redirected space's messages go to its redirector, with r and IntendedReceiver; it may answer itself."""

    def chief(cast: Cast) -> object:
        sender, tag = l4.Wait()
        seen = sender == cast.client, said(tag), l4.IntendedReceiver() == cast.server
        put(2)
        return seen, said(l4.Reply(sender))

    results = play(seed=seed, boss=boss, chief=chief, server=server, client=client)

    assert results == {
        "boss": None,
        "chief": ((True, Said((1,), flags="r"), True), Said(())),
        "server": WAITS,
        "client": ("chief", Said((2,))),
    }


def forwarder(cast: Cast) -> object:
    sender, _ = l4.Wait()
    result = said(forward(l4.IntendedReceiver(), sender, 5))
    sleep(LONG)
    return result


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", range(20))
def test_forwarded(seed: int) -> None:
    """The redirector forwards by propagation: the receiver sees the sender's message, and the sender the answer."""
    results = play(seed=seed, boss=boss, chief=forwarder, server=server, client=client)

    assert results == {
        "boss": None,
        "chief": Said(()),
        "server": (("client", Said((5,), flags="p"), "chief"), Said(())),
        "client": ("server", Said((9,))),
    }


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_chain(seed: int) -> None:
    """A redirector's messages go to the redirector of its own space, if that has one, which forwards in turn."""

    def boss(cast: Cast) -> None:
        redirect(cast.client, cast.chief)
        redirect(cast.chief, cast.above)

    def above(cast: Cast) -> object:
        sender, tag = l4.Wait()
        names = {thread: name for name, thread in cast.ids.items()}
        seen = names.get(sender), said(tag), names.get(l4.ActualSender()), names.get(l4.IntendedReceiver())
        return seen, said(forward(l4.IntendedReceiver(), sender, 6))

    results = play(seed=seed, boss=boss, chief=forwarder, above=above, server=server, client=client)

    assert results == {
        "boss": None,
        "chief": Said(()),
        "above": (("client", Said((5,), flags="pr"), "chief", "server"), Said(())),
        "server": (("client", Said((6,), flags="p"), "above"), Said(())),
        "client": ("server", Said((9,))),
    }


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_exempt(seed: int) -> None:
    """Threads of the same space, and all threads of the redirector's space, are reached directly."""

    def client(cast: Cast) -> object:
        cast.beside("inner", lambda cast: (l4.Wait()[1].r, put().E, l4.Reply(cast.client).E))
        sleep()
        results = []
        for to in (cast.inner, cast.aide):
            put(1)
            results.append(said(l4.Call(to)))
        return results

    def chief(cast: Cast) -> object:
        cast.beside("aide", lambda cast: (l4.Wait()[1].r, put().E, l4.Reply(cast.client).E))
        return said(l4.Wait_Timeout(l4.TimePeriod(LONG))[1])

    results = play(seed=seed, boss=boss, chief=chief, client=client)

    assert results["client"] == [Said(()), Said(())]
    assert (results["inner"], results["aide"]) == ((False, False, False), (False, False, False))
    assert results["chief"] == Failed(IpcCode.TIMEOUT, Phase.RECEIVE)


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
def test_answers_are_free(seed: int) -> None:
    """A redirected server answers its callers: they are ready, and the answer goes where the call came from."""

    def boss(cast: Cast) -> None:
        redirect(cast.server, cast.chief)

    def chief(cast: Cast) -> object:
        return said(l4.Wait()[1])

    results = play(seed=seed, boss=boss, chief=chief, server=server, client=client)

    assert results["client"] == ("server", Said((9,)))
    assert results["chief"] == WAITS


def vanishing(cast: Cast) -> None:
    sleep(MOMENT // 2)


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_vanished_redirector(seed: int) -> None:
    """Without its redirector a space sends nothing: the send waits, and its time-out counts."""

    def impatient(cast: Cast) -> object:
        sleep()
        put(1)
        return said(l4.Send_Timeout(cast.server, l4.TimePeriod(LONG)))

    results = play(seed=seed, boss=boss, chief=vanishing, server=server, client=impatient)

    assert (results["client"], results["server"]) == (Failed(IpcCode.TIMEOUT, Phase.SEND), WAITS)


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("removed", [True, False])
def test_until_another_is_set(seed: int, removed: bool) -> None:  # noqa: FBT001 - a case
    """A thread that waits without a redirector goes on when one is set, through it, or when none is to be."""

    def boss(cast: Cast) -> None:
        redirect(cast.client, cast.chief)
        sleep(LONG)
        redirect(cast.client, l4.anythread if removed else cast.second)

    results = play(seed=seed, boss=boss, chief=vanishing, second=forwarder, server=server, client=client)

    assert results["client"] == ("server", Said((9,)))
    assert results["second"] == (WAITS if removed else Said(()))


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("call", ["Send", "Call"])
def test_set_while_one_waits_to_send(seed: int, call: str) -> None:
    """A message that waits to be taken goes to the redirector that is set meanwhile; the sender sees no error."""

    def boss(cast: Cast) -> None:
        sleep(3 * MOMENT)
        redirect(cast.client, cast.chief)

    def busy(cast: Cast) -> object:
        sleep(LONG)
        return said(l4.Wait_Timeout(l4.TimePeriod(LONG))[1])

    def chief(cast: Cast) -> object:
        sender, tag = l4.Wait()
        seen = said(tag), l4.IntendedReceiver() == cast.server
        put(2)
        return *seen, call == "Send" or said(l4.Reply(sender))

    def client(cast: Cast) -> object:
        put(1)
        return said(getattr(l4, call)(cast.server))

    results = play(seed=seed, boss=boss, chief=chief, server=busy, client=client)

    assert results == {
        "boss": None,
        "chief": (Said((1,), flags="r"), True, call == "Send" or Said(())),
        "server": Failed(IpcCode.TIMEOUT, Phase.RECEIVE),
        "client": Said(() if call == "Send" else (2,)),
    }


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
def test_waiting_for_somebody_goes_on(seed: int) -> None:
    """A closed receive goes on when a redirector is set: it is what leaves the space that is redirected."""

    def client(cast: Cast) -> object:
        return said(l4.Receive(cast.server))

    def boss(cast: Cast) -> None:
        sleep()
        redirect(cast.client, cast.chief)

    def server(cast: Cast) -> object:
        sleep(LONG)
        put(3)
        return said(l4.Send(cast.client))

    def chief(cast: Cast) -> object:
        return said(l4.Wait()[1])

    results = play(seed=seed, boss=boss, chief=chief, server=server, client=client)

    assert results == {"boss": None, "chief": WAITS, "server": Said(()), "client": Said((3,))}


@conforms("IPC: redirection")
@pytest.mark.parametrize("seed", SEEDS)
def test_waiting_for_somebody_who_ends(seed: int) -> None:
    """A closed receive of a redirected space still sees the end of the thread it waits for."""

    def client(cast: Cast) -> object:
        sleep()
        return said(l4.Receive(cast.server))

    def chief(cast: Cast) -> object:
        return said(l4.Wait()[1])

    results = play(seed=seed, boss=boss, chief=chief, server=lambda cast: sleep(3 * MOMENT), client=client)

    assert results["client"] == Failed(IpcCode.NO_PARTNER, Phase.RECEIVE)


@conforms("IPC: redirection")
def test_no_way_around() -> None:
    """By the native calls, too, a redirected program reaches its redirector only: the kernel sees to it."""

    def hostile(cast: Cast) -> object:
        sleep()
        env = libexo.attach()
        answer = env.thread.call(cast.server, Message(words=(1,)), timeout=1)
        bound, tickets = env.sys.bind(cast.server)
        for ticket in tickets:
            env.host.close_descriptor(ticket)
        try:
            env.thread.send(cast.server, Message(words=(2,)), timeout=0)
        except IpcError as error:
            return answer.words, bound.thread == cast.chief, error.code
        return answer.words, bound.thread == cast.chief

    def chief(cast: Cast) -> object:
        sender, tag = l4.Wait()
        seen = said(tag), l4.IntendedReceiver() == cast.server
        put(7)
        l4.Reply(sender)
        sleep(LONG)
        return seen

    results = play(boss=boss, chief=chief, server=server, client=hostile)

    assert results["client"][:2] == ((7,), True)
    assert results["chief"] == (Said((1,), flags="r"), True)
    assert results["server"] == WAITS


@conforms("SpaceControl: redirector")
def test_who_may_redirect() -> None:
    """Only a privileged thread sets redirectors, and only to an existing one; nilthread leaves it as it is."""

    def boss(cast: Cast) -> object:
        wrong = l4.SpaceControl(cast.client, 0, NIL, NIL, 3000 << 32 | 1), l4.ErrorCode()
        redirect(cast.client, cast.chief)
        redirect(cast.client, l4.nilthread)
        return wrong

    def poor(cast: Cast) -> object:
        return l4.SpaceControl(cast.client, 0, NIL, NIL, l4.anythread), l4.ErrorCode()

    with stage() as cast:
        cast.add("chief", forwarder)
        cast.add("server", server)
        cast.add("boss", boss)
        cast.add("client", client)
        cast.add("poor", poor, holds=())
        cast.system.run()

        assert cast.result("boss") == ((0, 0), l4.ErrInvalidThread)
        assert cast.result("poor") == ((0, 0), l4.ErrNoPrivilege)
        assert cast.result("client") == ("server", Said((9,)))

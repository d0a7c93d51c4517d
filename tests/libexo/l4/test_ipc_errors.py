"""Error codes of Ipc: which, in which phase, at which offset, on the side that must see it."""

from collections.abc import Callable

import pytest

from kernel.abi.ids import thread_id, thread_number
from kernel.abi.messages import IpcCode, Phase
from libexo import attach, l4
from libexo.l4.space.space import space_of
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    NO_PARTNER,
    SEEDS,
    WAITS,
    Cast,
    Failed,
    Part,
    Said,
    await_name,
    heard,
    play,
    put,
    said,
    sleep,
    stage,
)

conforms = pytest.mark.conforms
Ask = Callable[[int], l4.MsgTag]


def in_phase(phase: Phase) -> Ask:
    return l4.Send if phase is Phase.SEND else l4.Receive


@conforms("IPC: error 2")
@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("number", [1999, 4095, 1 << 20, (1 << 32) - 2])
def test_a_thread_that_never_was(phase: Phase, number: int) -> None:
    """A partner that does not exist is error 2 of the phase it was named for."""

    def part(cast: Cast) -> object:
        put(1)
        return said(in_phase(phase)(thread_id(number)))

    assert play(part=part) == {"part": NO_PARTNER[phase]}


@conforms("IPC: error 2")
@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("version", [3, 5, 63, (1 << 32) - 1])
def test_another_version(phase: Phase, version: int) -> None:
    """An id whose version is not that of the living thread names nobody."""

    def part(cast: Cast) -> object:
        put(1)
        return said(in_phase(phase)(thread_id(thread_number(cast.other), version)))

    def other(cast: Cast) -> None:
        sleep(LONG)

    assert play(part=part, other=other)["part"] == NO_PARTNER[phase]


@conforms("IPC: error 2")
@pytest.mark.parametrize("phase", Phase)
def test_an_inactive_thread(phase: Phase) -> None:
    """A thread that was created and never activated can be neither sent to nor waited for."""

    def part(cast: Cast) -> object:
        thread = thread_id(2500)
        assert l4.ThreadControl(thread, l4.Myself(), l4.Myself(), l4.nilthread)
        put(1)
        return said(in_phase(phase)(thread))

    assert play(part=part) == {"part": NO_PARTNER[phase]}


@conforms("IPC: error 2")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("call", ["Send", "Call", "Receive"])
def test_a_partner_that_ends(seed: int, call: str) -> None:
    """A partner that ends before it took the message ends the send phase, or the receive that waits for it."""

    def partner(cast: Cast) -> None:
        sleep()

    def part(cast: Cast) -> object:
        put(1)
        return said(getattr(l4, call)(cast.partner))

    phase = Phase.RECEIVE if call == "Receive" else Phase.SEND

    assert play(seed=seed, partner=partner, part=part)["part"] == NO_PARTNER[phase]


@conforms("IPC: error 2")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_partner_that_ends_instead_of_answering(seed: int) -> None:
    """A partner that took the call and is deleted ends the caller's receive phase."""

    def partner(cast: Cast) -> None:
        l4.Wait()
        sleep()

    def part(cast: Cast) -> object:
        put(1)
        return said(l4.Call(cast.partner))

    assert play(seed=seed, partner=partner, part=part)["part"] == NO_PARTNER[Phase.RECEIVE]


@conforms("IPC: error 2")
@pytest.mark.parametrize("seed", SEEDS)
def test_queued_senders_of_a_deleted_thread(seed: int) -> None:
    """All threads queued to send to a thread see error 2 when ThreadControl deletes it; its space lives on."""

    def space(cast: Cast) -> object:
        cast.beside("victim", lambda cast: sleep(100 * LONG))
        sleep()
        deleted = l4.ThreadControl(cast.victim, l4.nilthread, l4.nilthread, l4.nilthread)
        sleep()
        return deleted

    def queued(ask: Ask) -> Part:
        def part(cast: Cast) -> object:
            victim = await_name(cast, "victim")
            put(1)
            return said(ask(victim))

        return part

    results = play(seed=seed, space=space, one=queued(l4.Send), two=queued(l4.Call))

    assert [results[name] for name in ("space", "one", "two")] == [1, *[NO_PARTNER[Phase.SEND]] * 2]


@conforms("IPC: error 2")
def test_a_killed_partner() -> None:
    """A partner whose program is killed by the host is gone like any other."""

    def partner(cast: Cast) -> None:
        l4.Wait()

    def part(cast: Cast) -> object:
        return said(l4.Receive(cast.partner))

    with stage(seed=1) as cast:
        cast.add("partner", partner)
        waits = cast.add("part", part)
        cast.system.pass_time(0.01)
        cast.tasks["partner"].kill()
        cast.system.run(waits)

        assert waits.result == NO_PARTNER[Phase.RECEIVE]


@conforms("IPC: error 3")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("call", "phase"), [("Send", Phase.SEND), ("Call", Phase.SEND), ("Receive", Phase.RECEIVE)]
)
def test_cancelled(seed: int, call: str, phase: Phase) -> None:
    """A phase that waits, aborted by another thread of the space, ends with error 3 of that phase."""

    def space(cast: Cast) -> object:
        cast.beside("victim", victim)
        sleep()
        control = (l4.AbortSend_and_stop if phase is Phase.SEND else l4.AbortReceive_and_stop)(cast.victim)
        l4.Start(cast.victim)
        return l4.ThreadWasSending(control), l4.ThreadWasReceiving(control)

    def victim(cast: Cast) -> object:
        put(1)
        return said(getattr(l4, call)(cast.deaf))

    def deaf(cast: Cast) -> object:
        sleep(LONG)
        return heard(l4.Wait_Timeout(l4.TimePeriod(LONG)))

    results = play(seed=seed, space=space, deaf=deaf)

    assert results == {
        "space": (phase is Phase.SEND, phase is Phase.RECEIVE),
        "victim": Failed(IpcCode.CANCELLED, phase),
        "deaf": (l4.nilthread, Failed(IpcCode.TIMEOUT, Phase.RECEIVE)),
    }


@conforms("IPC: error 3")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cancelled_call_that_was_taken(seed: int) -> None:
    """A caller that waits for its answer is in its receive phase: aborted, it sees error 3, and the reply 1."""

    def space(cast: Cast) -> object:
        cast.beside("victim", victim)
        sleep()
        control = l4.AbortIpc_and_stop(cast.victim)
        l4.Start(cast.victim)
        return l4.ThreadWasReceiving(control)

    def victim(cast: Cast) -> object:
        put(1)
        result = said(l4.Call(cast.server))
        sleep(3 * LONG)
        return result

    def server(cast: Cast) -> object:
        sender, _ = l4.Wait()
        sleep(LONG)
        put(2)
        return said(l4.Reply(sender))

    results = play(seed=seed, space=space, server=server)

    assert results == {
        "space": True,
        "victim": Failed(IpcCode.CANCELLED, Phase.RECEIVE),
        "server": Failed(IpcCode.TIMEOUT, Phase.SEND),
    }


@conforms("IPC: error 3")
def test_aborting_the_other_phase_changes_nothing() -> None:
    """S for a thread that receives, and R for one that sends, leave them waiting, then and later."""

    def space(cast: Cast) -> object:
        cast.beside("victim", victim)
        sleep()
        l4.AbortSend_and_stop(cast.victim)
        l4.ExchangeRegisters(cast.victim, 1 << 8)
        put(1)
        first = said(l4.Send(cast.victim))
        put(2)
        return first, said(l4.Send(cast.victim))

    def victim(cast: Cast) -> object:
        return said(l4.Receive(cast.space)), said(l4.Receive(cast.space))

    results = play(space=space)

    assert results == {"space": (Said(()), Said(())), "victim": (Said((1,)), Said((2,)))}


def malformed(*words: int, u: int = 0, t: int = 0) -> None:
    l4.LoadMRs(0, (int(l4.MsgTag.of(u=u, t=t)), *words))


@conforms("IPC: error 4")
@pytest.mark.parametrize(
    ("u", "words"), [(0, (0xA, 0)), (0, (0xE, 0)), (1, (7, 0xE, 0)), (0, (0x8,)), (0, (0x100,))]
)
def test_items_that_are_none(u: int, words: tuple[int, ...]) -> None:
    """A message with an unknown or unfinished item is cut before it goes: error 4 of the send phase, offset 0."""

    def sender(cast: Cast) -> object:
        malformed(*words, u=u, t=len(words) - u)
        return said(l4.Send_Timeout(cast.receiver, l4.TimePeriod(LONG)))

    def receiver(cast: Cast) -> object:
        return said(l4.Receive_Timeout(cast.sender, l4.TimePeriod(LONG)))

    assert play(sender=sender, receiver=receiver)["sender"] == Failed(IpcCode.OVERFLOW, Phase.SEND)


@conforms("IPC: error 4")
@pytest.mark.parametrize(("u", "t"), [(63, 1), (1, 63), (63, 63), (32, 32)])
def test_more_than_63_words(u: int, t: int) -> None:
    """U + t above 63 is a message overflow at the sender."""

    def sender(cast: Cast) -> object:
        l4.LoadMRs(0, (u | t << 6, *[0] * 63))
        return said(l4.Send_Timeout(cast.receiver, l4.TimePeriod(LONG)))

    def receiver(cast: Cast) -> object:
        return said(l4.Receive_Timeout(cast.sender, l4.TimePeriod(LONG)))

    assert play(sender=sender, receiver=receiver)["sender"] == Failed(IpcCode.OVERFLOW, Phase.SEND)


def with_memory(size: int, fill: bytes = b"") -> int:
    """Carve memory and map it; return where it is."""
    env = attach()
    space, base = space_of(env), 0x10_0000
    handle = env.sys.carve(env.sys.inventory()[-1], size // 4096).extent
    space.map(base, handle, size, 31)
    space.store(base, fill)
    return base


@conforms("IPC: error 4")
@pytest.mark.parametrize("room", [0, 1, 60, 99])
def test_a_cut_string(room: int) -> None:
    """A string longer than its buffer is cut: error 4 on both sides, the offset how much was copied."""

    def sender(cast: Cast) -> object:
        item = l4.StringItem(100, with_memory(4096, b"x" * 100))
        l4.LoadMRs(0, (int(l4.MsgTag.of(u=1, t=len(item.words))), 5, *item.words))
        return said(l4.Send(cast.receiver))

    def receiver(cast: Cast) -> object:
        base = with_memory(4096)
        if room:
            l4.LoadBRs(0, (int(l4.StringItemsAcceptor), *l4.StringItem(room, base).words))
        _, tag = l4.Wait()
        return said(tag), l4.StoreMR(1), space_of(attach()).load(base, 100).count(b"x")

    with stage(seed=1) as cast:
        tasks = [
            cast.add(name, part, holds=("ram",))
            for name, part in (("sender", sender), ("receiver", receiver))
        ]
        cast.system.run()

        assert [task.result for task in tasks] == [
            Failed(IpcCode.OVERFLOW, Phase.SEND, room),
            (Failed(IpcCode.OVERFLOW, Phase.RECEIVE, room), 5, room),
        ]


WHERE = 0x40_0000
"""Where nothing is mapped."""


def with_buffer(size: int) -> None:
    """Accept a string where nothing is mapped."""
    l4.LoadBRs(0, (int(l4.StringItemsAcceptor), *l4.StringItem(size, WHERE).words))


def with_string(*, fault: bool = False) -> l4.MsgTag:
    """Load a string of 100 bytes; with *fault*, one where nothing is mapped."""
    item = l4.StringItem(100, WHERE if fault else with_memory(4096, b"x" * 100))
    tag = l4.MsgTag.of(u=0, t=len(item.words))
    l4.LoadMRs(0, (int(tag), *item.words))
    return tag


def mute(cast: Cast) -> None:
    """Take a page fault, and never answer."""
    l4.Wait()
    l4.Sleep(l4.Never)


def aborted(seed: int, victim: Part, partner: Part) -> list[object]:
    """Abort whatever the second thread of a space is at, while a pager that never answers holds it up."""

    def space(cast: Cast) -> None:
        cast.beside("victim", victim)
        sleep(3 * MOMENT)
        l4.AbortIpc_and_stop(cast.victim)
        l4.Start(cast.victim)

    with stage(seed=seed) as cast:
        cast.add("pager", mute)
        cast.add("space", space, holds=("factory", "ram"))
        cast.add("partner", partner, holds=("ram",))
        cast.system.run()
        return [cast.result("victim"), cast.result("partner")]


@conforms("IPC: error 7")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_receiver_aborted_in_a_transfer(seed: int) -> None:
    """Aborted while its page fault holds up a string, a receiver sees error 7, and its sender, too."""

    def victim(cast: Cast) -> object:
        l4.Set_Pager(cast.pager)
        with_buffer(100)
        return said(l4.Receive(cast.partner))

    def partner(cast: Cast) -> object:
        sleep()
        with_string()
        return said(l4.Send(cast.victim))

    assert aborted(seed, victim, partner) == [
        Failed(IpcCode.ABORTED, phase) for phase in (Phase(1), Phase(0))
    ]


@conforms("IPC: error 7")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_sender_aborted_by_its_own_fault(seed: int) -> None:
    """Aborted while it fetches its string, a sender sees error 7; nothing has reached its receiver."""

    def victim(cast: Cast) -> object:
        l4.Set_Pager(cast.pager)
        with_string(fault=True)
        return said(l4.Send(cast.partner))

    def partner(cast: Cast) -> object:
        return said(l4.Wait_Timeout(l4.TimePeriod(LONG))[1])

    assert aborted(seed, victim, partner) == [
        Failed(IpcCode.ABORTED, Phase.SEND),
        Failed(IpcCode.TIMEOUT, Phase.RECEIVE),
    ]


@conforms("IPC: error 7")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("answers", [False, True])
def test_a_sender_aborted_in_a_transfer(seed: int, answers: bool) -> None:  # noqa: FBT001 - a case
    """Aborted while the receiver's page fault holds up its string, a sender sees error 7 and goes on."""

    def victim(cast: Cast) -> object:
        if answers:
            l4.Wait()
        with_string()
        return said(l4.Send(cast.partner))

    def partner(cast: Cast) -> object:
        l4.Set_Pager(cast.pager)
        with_buffer(100)
        sleep()
        put()
        return said(l4.Call(cast.victim) if answers else l4.Receive(cast.victim))

    assert aborted(seed, victim, partner) == [Failed(IpcCode.ABORTED, Phase.SEND), WAITS]

"""ExchangeRegisters: its reads, writes, aborts, halts and resumptions, and the threads they apply to."""

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from tests.libexo.l4.stage import (
    LONG,
    MOMENT,
    SEEDS,
    WAITS,
    Cast,
    Failed,
    Said,
    entry_of,
    play,
    put,
    said,
    sleep,
)

conforms = pytest.mark.conforms
H, R, S, SP, IP, FLAGS, HANDLE, PAGER, APPLY, DELIVER = (1 << bit for bit in range(10))
CANCELLED = {phase: Failed(IpcCode.CANCELLED, phase) for phase in Phase}


def sleeper(cast: Cast) -> None:
    """Receive from nobody for a long time."""
    l4.Receive_Timeout(cast.space, l4.TimePeriod(LONG))


@conforms("ExchangeRegisters: result")
def test_the_other_form_of_the_id() -> None:
    """The result is the local id for a global one, and the global id for a local one; the same thread by both."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", sleeper)
        local = l4.ExchangeRegisters(thread, 0).result
        return (
            l4.IsLocalId(local),
            l4.ExchangeRegisters(local, 0).result == thread,
            l4.LocalIdOf(thread) == l4.LocalIdOf(local) == l4.LocalId(thread) == local,
            l4.GlobalIdOf(local) == l4.GlobalIdOf(thread) == thread,
            l4.SameThreads(local, thread),
            l4.SameThreads(local, l4.Myself()),
            l4.LocalIdOf(l4.Myself()) == l4.MyLocalId(),
            l4.GlobalIdOf(l4.MyLocalId()) == l4.MyGlobalId(),
        )

    assert play(space=space)["space"] == (True, True, True, True, True, False, True, True)


@conforms("ExchangeRegisters: dest")
def test_wrong_threads() -> None:
    """Nobody, a thread of another space, another version and an inactive thread: nilthread, and error 2."""

    def space(cast: Cast) -> object:
        cast.beside("other", sleeper)
        inactive = thread_id(2600)
        assert l4.ThreadControl(inactive, l4.Myself(), l4.Myself(), l4.nilthread)
        wrong = [
            l4.nilthread,
            l4.anythread,
            l4.anylocalthread,
            cast.stranger,
            cast.other + 2,
            inactive,
            1 << 20,
        ]
        results = []
        for thread in wrong:
            exchanged = l4.ExchangeRegisters(thread, H | APPLY | DELIVER)
            results.append((exchanged, l4.ErrorCode()))
        return results

    def stranger(cast: Cast) -> object:
        return sleep(LONG)

    refused = (0, 0, 0, 0, 0, 0, 0), l4.ErrInvalidThread

    assert play(space=space, stranger=stranger)["space"] == [refused] * 7


@conforms("ExchangeRegisters: s, i, f, u, p, d")
@pytest.mark.parametrize(
    ("bit", "field"), [(SP, "sp"), (IP, "ip"), (FLAGS, "flags"), (HANDLE, "handle"), (PAGER, "pager")]
)
def test_each_write_bit(bit: int, field: str) -> None:
    """Each bit writes its register and no other; what was there before is delivered with d, and 0 without."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", sleeper)
        values = {"sp": 1, "ip": 2, "flags": 3, "handle": 4, "pager": 5}
        before = l4.ExchangeRegisters(thread, DELIVER)
        exchanged = l4.ExchangeRegisters(thread, bit | DELIVER, **values)
        after = l4.ExchangeRegisters(thread, DELIVER)
        silent = l4.ExchangeRegisters(thread, bit, **values)
        changed = {name for name in values if getattr(before, name) != getattr(after, name)}
        return exchanged == before, changed, getattr(after, field) == values[field], silent[2:] == (0,) * 5

    assert play(space=space)["space"] == (True, {field}, True, True)


@conforms("ExchangeRegisters: u, p")
def test_the_thread_sees_what_was_written() -> None:
    """UserDefinedHandle and Pager written by another thread are what the thread's own registers say."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", other)
        l4.Set_UserDefinedHandleOf(thread, 77)
        l4.Set_PagerOf(thread, cast.stranger)
        put()
        l4.Send(thread)
        return l4.UserDefinedHandleOf(thread), l4.PagerOf(thread) == cast.stranger

    def other(cast: Cast) -> object:
        l4.Receive(cast.space)
        return l4.UserDefinedHandle(), l4.Pager() == cast.stranger

    def stranger(cast: Cast) -> object:
        return sleep(LONG)

    results = play(space=space, stranger=stranger)

    assert (results["space"], results["other"]) == ((77, True), (77, True))


@conforms("ExchangeRegisters: h, H")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_halted_thread_does_not_run(seed: int) -> None:
    """Halted between two steps, a thread does nothing until it is resumed, then goes on where it was."""

    def space(cast: Cast) -> object:
        seen: list[int] = []

        def other(cast: Cast) -> object:
            for n in range(300):
                seen.append(n)
                sleep(100)
            return "done"

        thread = cast.beside("other", other)
        sleep()
        first = l4.Stop(thread)
        sleep()
        count = len(seen)
        sleep()
        again, later = l4.Stop(thread), len(seen)
        l4.ExchangeRegisters(thread, APPLY)
        sleep(LONG)
        return l4.ThreadWasHalted(first), l4.ThreadWasHalted(again), 0 < count == later < 300, len(seen)

    results = play(seed=seed, space=space)

    assert results == {"space": (False, True, True, 300), "other": "done"}


@conforms("ExchangeRegisters: h, H")
def test_a_halt_does_not_abort() -> None:
    """A thread halted while it waits to receive is still sent to; it goes on with the message once resumed."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", other)
        sleep()
        state = l4.Stop(thread)
        put(5)
        sent = said(l4.Send_Timeout(thread, l4.TimePeriod(LONG)))
        sleep()
        quiet = "other" not in cast.results
        l4.ExchangeRegisters(thread, APPLY)
        return l4.ThreadWasReceiving(state), sent, quiet

    def other(cast: Cast) -> object:
        return said(l4.Receive(cast.space))

    assert play(space=space) == {"space": (True, Said(()), True), "other": Said((5,))}


@conforms("ExchangeRegisters: h, H")
def test_halting_oneself() -> None:
    """A thread that halts itself stops there, until another resumes it."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", other)
        sleep()
        quiet = "other" not in cast.results
        return quiet, l4.ThreadWasHalted(l4.ExchangeRegisters(thread, APPLY).control)

    def other(cast: Cast) -> object:
        l4.Stop(l4.Myself())
        sleep(1)
        return "resumed"

    assert play(space=space) == {"space": (True, True), "other": "resumed"}


@conforms("ExchangeRegisters: R, S")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("bits", "outcome"),
    [(R, CANCELLED[Phase.RECEIVE]), (S, WAITS), (R | S, CANCELLED[Phase.RECEIVE]), (0, WAITS)],
)
def test_aborting_a_receive(seed: int, bits: int, outcome: object) -> None:
    """R ends a receive phase, with error 3; S does not touch it. The thread is not halted by that."""

    def space(cast: Cast) -> object:
        cast.beside("other", lambda cast: said(l4.Receive(cast.space)))
        sleep()
        exchanged = l4.ExchangeRegisters(cast.other, bits)
        return exchanged.control, l4.ExchangeRegisters(cast.other, 0).control & H

    results = play(seed=seed, space=space)

    assert results == {"space": (R, 0), "other": outcome}


@conforms("ExchangeRegisters: R, S")
@pytest.mark.parametrize("seed", SEEDS)
def test_an_abort_of_nothing_is_forgotten(seed: int) -> None:
    """Aborting a thread that is in no IPC, or that is through with it, does nothing to its next one."""

    def space(cast: Cast) -> object:
        cast.beside("other", other)
        put(1)
        l4.Send(cast.other)
        l4.ExchangeRegisters(cast.other, R | S)
        put(2)
        return said(l4.Send(cast.other))

    def other(cast: Cast) -> object:
        return said(l4.Receive(cast.space)), said(l4.Receive(cast.space))

    results = play(seed=seed, space=space)

    assert results["other"] in (
        (Said((1,)), Said((2,))),
        (Said((1,)), CANCELLED[Phase.RECEIVE]),  # it waited again already: then that is what was aborted
    )
    assert results["space"] == (Said(()) if results["other"] == (Said((1,)), Said((2,))) else WAITS)


@conforms("ExchangeRegisters: start message")
def test_starting_a_thread_without_its_pager() -> None:
    """A thread that waits for its start message can be started by IP and SP, which abort that wait."""

    def space(cast: Cast) -> object:
        seen: list[int] = []
        thread = cast.waiting("other")
        state = l4.ExchangeRegisters(thread, 0).control
        l4.Start_SpIp(thread, 42, entry_of("other", seen.append))
        sleep()
        return l4.ThreadWasReceiving(state), seen

    assert play(space=space)["space"] == (True, [42])


@conforms("ExchangeRegisters: i")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_thread_goes_on_elsewhere(seed: int) -> None:
    """A running thread whose IP is exchanged leaves what it was doing and begins there, with the SP it is given."""

    def space(cast: Cast) -> object:
        seen: list[tuple[str, int]] = []
        there = entry_of("elsewhere", lambda sp: seen.append(("there", sp)))

        def other(cast: Cast) -> None:
            sleep(LONG)
            seen.append(("here", 0))

        thread = cast.beside("other", other)
        sleep()
        state, sp, ip, flags = l4.AbortIpc_and_stop_SpIpFlags(thread)
        stopped = l4.ExchangeRegisters(thread, 0).control
        l4.Start_SpIpFlags(thread, 9, there, 3)
        sleep()
        after = l4.ExchangeRegisters(thread, DELIVER)
        return (
            l4.ThreadWasIpcing(state), stopped & H, seen, (sp, flags), ip != there,
            (after.sp, after.ip == there, after.flags),
        )  # fmt: skip

    results = play(seed=seed, space=space)

    assert results == {"space": (True, H, [("there", 9)], (0, 0), True, (9, True, 3)), "other": WAITS}


@conforms("ExchangeRegisters: convenience calls")
def test_the_control_words() -> None:
    """The calls made of ExchangeRegisters abort and halt what their names say."""

    def space(cast: Cast) -> object:
        def tried(call: str) -> object:
            name = f"{call} target"
            cast.beside(name, lambda cast: said(l4.Receive_Timeout(cast.space, l4.TimePeriod(MOMENT * 9))))
            sleep()
            getattr(l4, call)(cast.ids[name])
            halted = l4.ExchangeRegisters(cast.ids[name], 0).control & H
            l4.ExchangeRegisters(cast.ids[name], APPLY)
            sleep(MOMENT * 12)
            return halted, cast.results[name]

        calls = ("Start", "Stop", "AbortReceive_and_stop", "AbortSend_and_stop", "AbortIpc_and_stop",
                 "Stop_SpIpFlags", "AbortReceive_and_stop_SpIpFlags", "AbortSend_and_stop_SpIpFlags")  # fmt: skip
        return [tried(call) for call in calls]

    cancelled, timed_out = CANCELLED[Phase.RECEIVE], Failed(IpcCode.TIMEOUT, Phase.RECEIVE)

    assert play(space=space)["space"] == [
        (0, cancelled),
        (H, timed_out),
        (H, cancelled),
        (H, timed_out),
        (H, cancelled),
        (H, timed_out),
        (H, cancelled),
        (H, timed_out),
    ]

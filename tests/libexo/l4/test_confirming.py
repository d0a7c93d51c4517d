"""A caller in whose name a message is passed on confirms that it waits for another. If it does not, others go on.

That of one that lives is waited for; of one that ended, in an IPC that is aborted, or after its time, it is not.
"""

from collections.abc import Callable
from typing import Any

import pytest

from kernel.abi.messages import IpcCode, PacketKind, Phase
from libexo import attach, l4
from libexo.ipc import Message
from libexo.ipc.operation import LOOK_AGAIN
from libexo.l4.engine.context import READY_NS
from libexo.l4.engine.propagation import TURNING
from libexo.l4.exregs import SEND, ExchangeRegisters
from tests.libexo import moves
from tests.libexo.l4.meetings import load_message, text
from tests.libexo.l4.stage import (
    MOMENT,
    NO_PARTNER,
    SEEDS,
    Cast,
    Failed,
    Part,
    Said,
    await_name,
    now,
    play,
    put,
    said,
    sleep,
    stage,
)

ONCE, AGAIN = TURNING // 1000, READY_NS // 1000
"""How long a caller may take that was not silent before, and one that was, in microseconds."""
MARGIN = 1_000
"""More than anything else takes here."""
CALLS = 2


def silent(cast: Cast) -> None:
    """Call the front thread, each time over another binding, and look at nothing that comes back."""
    front = await_name(cast, "front")
    for _ in range(CALLS):
        moves.bind(attach(), front)
        moves.post_message(attach(), front, Message(), PacketKind.CALL, timed=False)
    attach().host.wait((), None)


def passes_on(time: int, calls: int = CALLS) -> Callable[[Cast], list[tuple[object, int]]]:
    """Return the front thread: it passes calls on, for *time*, and returns what came of each, and how soon."""

    def front(cast: Cast) -> list[tuple[object, int]]:
        came: list[tuple[object, int]] = []
        for _ in range(calls):
            caller, _ = l4.Wait()
            start = now()
            put(2, p=True)
            l4.Set_VirtualSender(caller)
            came.append((said(l4.Send_Timeout(cast.space, time)), now() - start))
        return came

    return front


def play_but_for_the_client(seed: int, **parts: Part) -> dict[str, Any]:
    """Run *parts* with a client that is silent, and killed by one of them; return what the others returned."""
    with stage(seed=seed) as cast:
        for name, part in {"client": silent, **parts}.items():
            cast.add(name, part)
        cast.system.run()
        return {name: cast.result(name) for name in cast.ids if name != "client"}


def space(*others: tuple[str, Part], calls: int = CALLS) -> Callable[[Cast], int]:
    """Return the first thread of a space in which *others* are, too: it takes the calls that were passed on."""

    def first(cast: Cast) -> int:
        for name, part in others:
            cast.beside(name, part)
        return sum(not l4.Wait()[1].E for _ in range(calls))

    return first


@pytest.mark.parametrize(
    ("time", "once"),
    [
        (l4.Never, ONCE),
        (l4.TimePeriod(10 * ONCE), ONCE),
        (l4.ZeroTime, ONCE),
        (l4.TimePeriod(MOMENT), MOMENT),
    ],
    ids=["never", "long", "zero", "short"],
)
def test_one_that_is_silent(time: int, once: int) -> None:
    """It is waited for within the sender's time, which the message then has still; the next time hardly at all."""
    results = play(space=space(("front", passes_on(time))), client=silent)
    [(first, took), (second, took_again)] = results["front"]

    assert (first, second, results["space"]) == (Said(()), Said(()), CALLS)
    assert once <= took <= once + MARGIN
    assert AGAIN <= took_again <= AGAIN + MARGIN


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_ends(seed: int) -> None:
    """Its end is found soon, and the message goes."""

    def killer(cast: Cast) -> int:
        await_name(cast, "front")
        sleep(ONCE // 4)
        cast.tasks["client"].kill()
        return now()

    def times(cast: Cast) -> int:
        passes_on(l4.Never, calls=1)(cast)
        return now()

    results = play_but_for_the_client(seed, space=space(("front", times), ("killer", killer), calls=1))

    assert results["space"] == 1
    assert 0 <= results["front"] - results["killer"] <= 2 * LOOK_AGAIN // 1000 + MARGIN


@pytest.mark.parametrize("seed", SEEDS)
def test_an_abort_meanwhile(seed: int) -> None:
    """The sender is not held up by a caller that is silent when its IPC is aborted."""

    def front(cast: Cast) -> tuple[object, int]:
        caller, _ = l4.Wait()
        put(2, p=True)
        l4.Set_VirtualSender(caller)
        return said(l4.Send(cast.late)), now()

    def aborter(cast: Cast) -> int:
        await_name(cast, "front")
        sleep(ONCE // 4)
        ExchangeRegisters(cast.front, SEND)
        return now()

    def first(cast: Cast) -> object:
        cast.beside("late", lambda cast: sleep(10 * ONCE))
        cast.beside("front", front)
        cast.beside("aborter", aborter)
        return sleep(10 * ONCE)

    results = play(seed=seed, space=first, client=silent)
    came, at = results["front"]

    assert came == Failed(IpcCode.CANCELLED, Phase.SEND)
    assert 0 <= at - results["aborter"] <= 2 * MARGIN


@pytest.mark.parametrize("seed", SEEDS)
def test_an_answer_with_items_to_one_that_ends(seed: int) -> None:
    """Who waits to hear how much of an answer was taken hears of the caller's end instead, not nothing for ever."""

    def server(cast: Cast) -> object:
        cast.ids["front"] = l4.Myself()
        caller, _ = l4.Wait()
        load_message(text(bytes(5000)))
        return said(l4.Reply(caller))

    def killer(cast: Cast) -> None:
        await_name(cast, "front")
        sleep(MOMENT)
        cast.tasks["client"].kill()

    results = play_but_for_the_client(seed, server=server, killer=killer)

    assert results["server"] == NO_PARTNER[Phase.SEND]

"""The fast path of Lipc, and the flag of messages between processors: how a message went, seen from outside."""

from collections.abc import Callable

import pytest

from kernel.abi.topology import MachineConfig, Topology
from libexo import attach, l4
from libexo.environment import Environment
from libexo.testing import simulated
from tests.libexo.l4.stage import NEVER, Cast, Said, play, put, said, sleep

conforms = pytest.mark.conforms

TWO_PROCESSORS = Topology(MachineConfig(memory="1 MiB", cpus=(0, 1)))
FLAGS = 0xE000
"""r, X and E, in their places in a tag."""


def bindings() -> int:
    """How many bindings were made since boot."""
    return attach().kip.counters()["binds"]


def sent(load: Callable[[], object]) -> object:
    """Send what *load* loads by Lipc to a thread of the same environment, which waits.

    Returns what that received, and how many bindings were made for it.
    """

    def receiver(_: Cast) -> object:
        l4.AcceptStrings(l4.StringItemsAcceptor, l4.MsgBuffer())
        return said(l4.Ipc(l4.nilthread, l4.anylocalthread, NEVER)[1])

    def sender(cast: Cast) -> int:
        sleep()
        before = bindings()
        load()
        assert not l4.Lipc(cast.receiver, l4.nilthread, NEVER)[1].E
        return bindings() - before

    def space(cast: Cast) -> None:
        cast.beside("receiver", receiver)
        cast.beside("sender", sender)

    played = play(space=space)
    return played["receiver"], played["sender"]


@conforms("Lipc: fast path")
def test_untyped_words_go_from_hand_to_hand() -> None:
    """To a thread of the same environment that waits, words go without a binding: no packet was sent."""
    assert sent(lambda: put(1, 2, 3, label=7)) == (Said((1, 2, 3), 7), 0)


@conforms("Lipc: fast path")
def test_items_take_the_ordinary_path() -> None:
    """A message with an item is an Ipc as any, over a binding."""

    def load() -> None:
        message = l4.Msg()
        l4.MsgPut(message, 7, (1,), (l4.StringItem(0, 0),))
        l4.MsgLoad(message)

    assert sent(load) == (Said((1,), 7), 1)


@conforms("Lipc: fast path")
def test_flags_are_not_the_senders_to_set() -> None:
    """r, X and E of the sender's tag are cleared from hand to hand, too: no receiver takes them for an error."""
    assert sent(lambda: l4.LoadMRs(0, (7 << 16 | FLAGS | 1, 5))) == (Said((5,), 7), 0)


@conforms("IPC: X flag")
def test_between_processors() -> None:
    """X says that the message came from another processor; the sender's own X does not."""

    def receive(_: Environment) -> list[tuple[bool, int]]:
        return [(l4.Wait()[1].X, l4.StoreMR(1)) for _ in range(2)]

    def sender(number: int, to: int) -> Callable[[Environment], object]:
        def send(_: Environment) -> None:
            l4.LoadMRs(0, (FLAGS | 1, number))
            assert not l4.Send(to).E

        return send

    with simulated(TWO_PROCESSORS) as system:
        receiver = system.spawn(receive, "receiver", cpu=1)
        for number in range(2):
            system.spawn(sender(number, receiver.thread), f"sender-{number}", cpu=number)
        system.run()

        assert receiver.result in ([(True, 0), (False, 1)], [(False, 1), (True, 0)])

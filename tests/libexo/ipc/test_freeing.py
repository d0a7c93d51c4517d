"""What was received holds nothing for ever: with the last who knows it, all that it knows is free."""

import gc
import weakref

from kernel.abi.ids import ANY_THREAD
from libexo.environment import Environment
from libexo.ipc.message import Message
from libexo.testing import System, simulated


def lived() -> "weakref.ref[System]":
    """Let two programs exchange a message, which the receiver's own text keeps; return their system."""
    kept: list[Message] = []

    def receiver(env: Environment) -> None:
        kept.append(env.thread.receive(ANY_THREAD)[1])

    with simulated() as system:
        task = system.spawn(receiver, "receiver")
        system.spawn(lambda env: env.thread.send(task.thread, Message(1, (2,))), "sender")
        system.run(task)
    assert [message.words for message in kept] == [(2,)]
    return weakref.ref(system)


def test_a_message_that_is_kept_is_no_anchor() -> None:
    """Its way back knows the sender, who knows the rest: a system that kept one is gone once nobody needs it."""
    system = lived()
    gc.collect()

    assert system() is None

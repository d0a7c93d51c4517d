"""A root task that answers the kernel's heartbeat, until a test has it do something else."""

from collections.abc import Callable

from kernel.abi.ids import KERNEL_ENVIRONMENTS
from kernel.abi.messages import Label
from libexo import attach
from libexo.environment import Environment
from libexo.ipc.message import Message
from libexo.stub import Interface

INSTEAD: list[Callable[[Environment], object]] = []
"""What the next one that is asked does instead of answering."""


class Answering(Interface, label=0x7D):
    """Says that it is there, first by itself, then whenever it is asked."""

    def __init__(self) -> None:
        attach().sys.acknowledge(KERNEL_ENVIRONMENTS)

    def kernel_message(self, _sender: int, message: Message) -> None:
        """Answer, or do what the test wants."""
        if message.label != Label.HEARTBEAT:
            return
        if INSTEAD:
            INSTEAD.pop()(self.environment)
        self.environment.sys.acknowledge(KERNEL_ENVIRONMENTS)

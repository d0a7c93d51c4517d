"""Traps on devices: interrupt lines."""

from kernel.abi.errors import Refusal
from kernel.abi.gate import Small
from kernel.abi.rights import Kind, Rights
from kernel.abi.trap import HANDLE_REFUSALS, Trap


class InterruptBind(Trap, tag=0x60):
    """Send the line's interrupts to the caller's thread, masked until it answers each; bind=False ends it."""

    interrupt: Small
    bind: bool = True
    needs = (Kind.INTERRUPT, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.LINE_BUSY)


class InterruptMask(Trap, tag=0x61):
    """Mask or unmask the line."""

    interrupt: Small
    masked: bool
    needs = (Kind.INTERRUPT, Rights.CONTROL)
    refusals = HANDLE_REFUSALS

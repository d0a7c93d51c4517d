"""Traps on the caller itself: its names, the pages it may read."""

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record
from kernel.abi.trap import Trap


class Interface(Record):
    """The caller's names, the sizes of the pages it may read, and its X.2 areas (first, end)."""

    thread: int
    environment: int
    kip_size: int
    trace_size: int
    utcb_area: tuple[int, int]
    kip_area: tuple[int, int]
    """Empty where its creator chose none."""


class KernelInterface(Trap, tag=0x01):
    """Tell the caller its names; hand over the KIP, its environment page and the event ring."""

    result = Interface
    gives_descriptors = "KIP (read-only), environment page, event ring (read-only)"
    refusals = (Refusal.HOST_FULL,)

"""What the kernel tells a caller about itself."""

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record
from kernel.abi.trap import Trap


class Interface(Record):
    """Who the caller is, how large the pages are that it may read, and where X.2 has its areas (first, end)."""

    thread: int
    environment: int
    kip_size: int
    trace_size: int
    utcb_area: tuple[int, int]
    kip_area: tuple[int, int]
    """Empty where nobody chose one."""


class KernelInterface(Trap, tag=0x01):
    """Say who the caller is; hand over the KIP, its environment page and the event ring."""

    result = Interface
    gives_descriptors = "KIP (read-only), environment page, event ring (read-only)"
    refusals = (Refusal.HOST_FULL,)

"""Requests to sigma0 for memory, by the names of X.2.

sigma0 owns all memory at the start: here it is the memory server, which maps a page to the first that asks for it,
and again to the same. An address is a physical one: frame 0 begins at 0. Each call returns the fpage that was
mapped, or Nilpage if it was refused; it may be larger than the one asked for, because memory that was handed
out as one extent is mapped as one. Message registers are used; the acceptor is as before.
"""

from kernel.abi.ids import thread_number
from kernel.abi.messages import Label
from libexo.kip import Kip
from libexo.l4.format.acceptor import Accept, Accepted, MapGrantItems
from libexo.l4.format.fpage import (
    CompleteAddressSpace,
    Fpage,
    FpageLog2,
    IsNilFpage,
    Nilpage,
    ReadWriteOnly,
    Size,
    SizeLog2,
)
from libexo.l4.format.registers import LoadMRs, StoreMR
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.tcrs import MyGlobalId
from libexo.l4.format.threadids import GlobalId, IsNilThread
from libexo.l4.format.words import word
from libexo.l4.ipc import Call
from libexo.l4.kip import (
    GetKernelInterface,
    IsMemoryDescVirtual,
    MemoryDesc,
    MemoryDescHigh,
    MemoryDescLow,
    MemoryDescType,
    NumMemoryDescriptors,
    ThreadIdUserBase,
)

__all__ = [
    "Sigma0_GetAny",
    "Sigma0_GetPage",
    "Sigma0_GetPage_RcvWindow",
    "Sigma0_GetPage_RcvWindow_High",
    "Sigma0_GetSpecial",
]

_EXTENDED = 1 << 3
"""The bit of an fpage that announces the upper bits of its address in a third word."""
_ADDRESS_BITS = 64


def sigma0(kip: Kip) -> int:
    """Return sigma0's thread: the first user thread, whose version is higher after a restart."""
    number = ThreadIdUserBase(kip)
    versions = (row.thread for row in kip.threads() if thread_number(row.thread) == number)
    return next(versions, GlobalId(number, 1))


def Sigma0_GetPage(s0: int, f: Fpage) -> Fpage:
    """Have *f* mapped to its own address; *s0* nilthread is sigma0."""
    return Sigma0_GetPage_RcvWindow(s0, f, CompleteAddressSpace)


def Sigma0_GetPage_RcvWindow(s0: int, f: Fpage, RcvWindow: Fpage) -> Fpage:
    """Have *f* mapped into *RcvWindow*."""
    return Sigma0_GetPage_RcvWindow_High(s0, f, RcvWindow, 0)


def Sigma0_GetPage_RcvWindow_High(s0: int, f: Fpage, RcvWindow: Fpage, high: int) -> Fpage:
    """Do the same; if *f* has bit 3 set, *high* is the part of its address above 64 bits: nothing, here."""
    words = (f, 0, word(high, "upper bits")) if f & _EXTENDED else (f, 0)
    before = Accepted()
    Accept(MapGrantItems(RcvWindow))
    LoadMRs(0, (MsgTag.of(Label.SIGMA0, u=len(words)), *words))
    try:
        tag = Call(sigma0(GetKernelInterface()) if IsNilThread(s0) else s0)
    finally:
        Accept(before)
    return Nilpage if tag.E or not tag.t else Fpage.of(StoreMR(2))


def Sigma0_GetAny(s0: int, s: int, RcvWindow: Fpage) -> Fpage:
    """Have any page of 2**s bytes mapped into *RcvWindow*. Raises ValueError when *s* is not a size of fpages."""
    return Sigma0_GetPage_RcvWindow(s0, FpageLog2((1 << _ADDRESS_BITS) - 1, s), RcvWindow)


def Sigma0_GetSpecial(type: int, address: int, pagesize: int) -> int:  # noqa: A002 - X.2's name
    """Have the first range of RAM of memory *type* mapped from *address* on, page by page, until one is refused.

    Returns the address; for *address* 0, that of the range itself. 0: there is no such range, or sigma0 refuses.
    """
    kip = GetKernelInterface()
    s0 = sigma0(kip)
    descriptors = (MemoryDesc(kip, number) for number in range(NumMemoryDescriptors(kip)))
    ranges = (d for d in descriptors if d and MemoryDescType(d) == type and not IsMemoryDescVirtual(d))
    found = next(ranges, None)
    if found is None or MyGlobalId() == s0:
        return 0
    target = address = word(address, "address") or MemoryDescLow(found)
    start = MemoryDescLow(found)
    while start <= MemoryDescHigh(found):
        asked = Fpage(start, pagesize) + ReadWriteOnly
        if IsNilFpage(Sigma0_GetPage_RcvWindow(s0, asked, FpageLog2(target, SizeLog2(asked)))):
            break
        start, target = start + Size(asked), target + Size(asked)
    return address

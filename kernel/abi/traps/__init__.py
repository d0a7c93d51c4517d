"""Every trap: its number, arguments, result, refusals and the right it needs. One class, one trap.

One module an object. Dispatch in the kernel, the stubs of libexo, the names in traces and the reference page are
made from these classes. On the wire a trap is a msgpack array: number, then the fields in order. An answer is
one status byte (`gate.Status`), then the result, or the refusal and its detail. No trap waits for another party;
one that has much to do is answered later, and until then the next of its caller is not read.
"""

from typing import Annotated, get_args

import msgspec

from kernel.abi.limits import MAX_BATCH
from kernel.abi.trap import Trap
from kernel.abi.traps.capability import (
    Accept,
    Accepted,
    Derive,
    Drop,
    Holder,
    Inspect,
    Inspection,
    Inventory,
    Revoke,
    Transfer,
)
from kernel.abi.traps.device import InterruptBind, InterruptMask
from kernel.abi.traps.environment import (
    Booted,
    BootInfo,
    Charge,
    Created,
    EnvironmentCreate,
    EnvironmentDestroy,
    EnvironmentSignal,
    NamePublish,
)
from kernel.abi.traps.information import Interface, KernelInterface
from kernel.abi.traps.memory import Carve, Carved, Limit, MapExtent, Mapped
from kernel.abi.traps.paging import Evict, ObjectCreate, PageState, Protect, Protection, Supply, Window
from kernel.abi.traps.processor import (
    Expire,
    How,
    Migrate,
    Plan,
    Power,
    ProcessorControl,
    Slice,
    ThreadSwitch,
)
from kernel.abi.traps.thread import (
    Acknowledge,
    Arrived,
    Bind,
    Bound,
    Identified,
    Identify,
    Incoming,
    Sends,
    SpaceControl,
    ThreadControl,
    Unbind,
    WaitPage,
    WakeWhen,
)

__all__ = [
    "TRAPS",
    "Accept",
    "Accepted",
    "Acknowledge",
    "AnyTrap",
    "Arrived",
    "Batch",
    "Bind",
    "BootInfo",
    "Booted",
    "Bound",
    "Carve",
    "Carved",
    "Charge",
    "Created",
    "Derive",
    "Drop",
    "EnvironmentCreate",
    "EnvironmentDestroy",
    "EnvironmentSignal",
    "Evict",
    "Expire",
    "Holder",
    "How",
    "Identified",
    "Identify",
    "Incoming",
    "Inspect",
    "Inspection",
    "Interface",
    "InterruptBind",
    "InterruptMask",
    "Inventory",
    "KernelInterface",
    "Limit",
    "MapExtent",
    "Mapped",
    "Migrate",
    "NamePublish",
    "ObjectCreate",
    "PageState",
    "Plan",
    "Power",
    "ProcessorControl",
    "Protect",
    "Protection",
    "Revoke",
    "Sends",
    "Single",
    "Slice",
    "SpaceControl",
    "Supply",
    "ThreadControl",
    "ThreadSwitch",
    "Transfer",
    "Trap",
    "Unbind",
    "WaitPage",
    "WakeWhen",
    "Window",
]

Single = (
    KernelInterface
    | EnvironmentCreate
    | EnvironmentDestroy
    | EnvironmentSignal
    | NamePublish
    | BootInfo
    | Charge
    | Incoming
    | Bind
    | Identify
    | Unbind
    | Acknowledge
    | ThreadControl
    | SpaceControl
    | WaitPage
    | Sends
    | WakeWhen
    | ThreadSwitch
    | Plan
    | Migrate
    | ProcessorControl
    | Expire
    | Derive
    | Transfer
    | Revoke
    | Drop
    | Inspect
    | Inventory
    | Accept
    | Carve
    | MapExtent
    | Limit
    | ObjectCreate
    | Window
    | Supply
    | Evict
    | Protect
    | InterruptBind
    | InterruptMask
)


class Batch(Trap, tag=0x02):
    """Do several traps in one crossing, in order; each has its own answer. An empty one is the null trap.

    Once the answers are longer than MAX_ANSWERS, the remaining traps are not done, and refused with HOST_FULL.
    """

    traps: Annotated[tuple[Single, ...], msgspec.Meta(max_length=MAX_BATCH)]
    result = tuple[bytes, ...]
    gives_descriptors = "those of its traps, in order"


AnyTrap = Single | Batch
TRAPS: dict[int, type[Trap]] = {t.__struct_config__.tag: t for t in get_args(AnyTrap)}
"""Every trap by its number, object by object."""

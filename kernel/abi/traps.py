"""Every trap: its number, arguments, result, refusals and the right it needs. One class, one trap.

Dispatch in the kernel, the stubs of libexo, the names in traces and the reference page are made from these
classes. On the wire a trap is a msgpack array: number, then the fields in order. An answer is one status byte
(`gate.Status`) and then the result, or the refusal and its detail. No trap waits.
"""

from typing import Annotated, Any, ClassVar, get_args

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Name, Record, Small, Word
from kernel.abi.ids import ANY_FRAME, NIL_HANDLE
from kernel.abi.limits import MAX_BATCH, MAX_SLICES, MAX_WORDS, TOKEN_BYTES
from kernel.abi.program import Program
from kernel.abi.rights import Kind, Rights

Frame = Annotated[int, msgspec.Meta(ge=ANY_FRAME, lt=1 << 40)]
Token = Annotated[bytes, msgspec.Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]


class Trap(Record):
    """The base of all traps."""

    result: ClassVar[Any] = None
    refusals: ClassVar[tuple[Refusal, ...]] = ()
    needs: ClassVar[tuple[Kind | None, Rights] | None] = None
    """Kind of the first argument's capability (None: any kind) and the rights it must carry."""
    takes_descriptors: ClassVar[bool] = False
    gives_descriptors: ClassVar[str] = ""


HANDLE_REFUSALS = (Refusal.BAD_HANDLE, Refusal.STALE_HANDLE, Refusal.WRONG_KIND, Refusal.MISSING_RIGHT)


# ---------------------------------------------------------------------------------------------- information


class Interface(Record):
    """Who the caller is, and how large the pages are that it may read."""

    thread: int
    environment: int
    kip_size: int
    trace_size: int


class KernelInterface(Trap, tag=0x01):
    """Say who the caller is; hand over the KIP, its environment page and the event ring."""

    result = Interface
    gives_descriptors = "KIP (read-only), environment page, event ring (read-only)"


# ---------------------------------------------------------------------------------------------- environment


class Created(Record):
    """A new environment."""

    environment: int
    thread: int


class EnvironmentCreate(Trap, tag=0x10):
    """Create an environment and start its program; it holds nothing yet but its gate.

    `cpu` is the processor whose plan it runs under, or -1: outside all plans. `keeps` says that its
    capabilities outlive it until a successor takes them; `succeeds` is the handle of such a dead
    environment, whose thread number (with the next version), capabilities and descriptors the new one takes.
    `may_bind` lists the thread numbers it may call; empty: any.
    """

    factory: Small
    name: Name
    program: Program
    cpu: Annotated[int, msgspec.Meta(ge=-1, lt=1 << 15)] = -1
    keeps: bool = False
    succeeds: Small = NIL_HANDLE
    may_bind: tuple[Small, ...] = ()
    result = Created
    needs = (Kind.FACTORY, Rights.CONTROL)
    takes_descriptors = True
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.BAD_ARGUMENT,
        Refusal.BAD_DESCRIPTORS,
        Refusal.TABLE_FULL,
        Refusal.HOST_FULL,
        Refusal.TOO_MANY_ENVIRONMENTS,
        Refusal.STILL_ALIVE,
        Refusal.NAME_TAKEN,
    )


class EnvironmentDestroy(Trap, tag=0x11):
    """End an environment at once; all it had returns."""

    environment: Small
    needs = (Kind.ENVIRONMENT, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.GONE)


class EnvironmentSignal(Trap, tag=0x12):
    """Send host signal `signal` (1..64) to an environment's program."""

    environment: Small
    signal: Small
    needs = (Kind.ENVIRONMENT, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.BAD_ARGUMENT, Refusal.GONE)


class NamePublish(Trap, tag=0x13):
    """Publish `name` for a thread in the KIP; thread 0 withdraws it. A name goes with its thread."""

    factory: Small
    name: Name
    thread: Word
    needs = (Kind.FACTORY, Rights.CONTROL)
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.BAD_ARGUMENT,
        Refusal.NAME_TAKEN,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.TABLE_FULL,
    )


class BootInfo(Trap, tag=0x14):
    """Hand over what boot leaves to the root task: the topology as JSON, and the console people's tools use."""

    factory: Small
    result = bytes
    needs = (Kind.FACTORY, Rights.CONTROL)
    gives_descriptors = "listening socket of the console"
    refusals = HANDLE_REFUSALS


# --------------------------------------------------------------------------------------------------- thread


class Endpoint(Trap, tag=0x20):
    """Hand over the listening socket of the caller's thread, bound to `ipc/NUMBER` in the run directory."""

    result = int
    gives_descriptors = "listening socket"


class Bound(Record):
    """A binding: the receiver's thread number names its socket, the token is the sender's routing id."""

    number: int
    token: bytes


class Bind(Trap, tag=0x21):
    """Check once that the caller may send to `thread`; the binding is then used without the kernel."""

    thread: Word
    result = Bound
    gives_descriptors = "ticket (eventfd)"
    refusals = (
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.MAY_NOT_BIND,
        Refusal.TOO_MANY_BINDINGS,
        Refusal.HOST_FULL,
    )


class Identified(Record):
    """Whose binding a token is."""

    thread: int
    environment: int


class Identify(Trap, tag=0x22):
    """Say whose binding to the caller carries `token`."""

    token: Token
    result = Identified
    gives_descriptors = "ticket (eventfd)"
    refusals = (Refusal.UNKNOWN_TOKEN,)


class Unbind(Trap, tag=0x23):
    """Give a binding of the caller's up."""

    token: Token
    refusals = (Refusal.UNKNOWN_TOKEN,)


class Acknowledge(Trap, tag=0x24):
    """Answer a message of kernel thread `thread`: for an interrupt thread, unmask its line."""

    thread: Word
    words: Annotated[tuple[Word, ...], msgspec.Meta(max_length=MAX_WORDS)] = ()
    refusals = (Refusal.NO_SUCH_THREAD, Refusal.NO_SUCH_MESSAGE)


# ------------------------------------------------------------------------------------------------ processor


class Slice(Record):
    """A span of CPU time for a thread's environment."""

    thread: Word
    microseconds: Small


class ThreadSwitch(Trap, tag=0x30):
    """Run `thread` on the processor for `microseconds`, then go back to the plan (X.2 ThreadSwitch)."""

    cpu: Small
    thread: Word
    microseconds: Small
    needs = (Kind.CPU, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.BAD_SLICE)


class Plan(Trap, tag=0x31):
    """Install the vector of slices that the kernel walks, round and round. Its installer is the scheduler."""

    cpu: Small
    slices: Annotated[tuple[Slice, ...], msgspec.Meta(max_length=MAX_SLICES)]
    needs = (Kind.CPU, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.BAD_SLICE)


# ----------------------------------------------------------------------------------------------- capability


class Derive(Trap, tag=0x40):
    """Make a capability with fewer rights, or (RAM only) to part of the range. `count` 0: to the end."""

    capability: Small
    rights: Small
    first: Frame = ANY_FRAME
    count: Word = 0
    result = int
    needs = (None, Rights(0))
    refusals = (
        *HANDLE_REFUSALS[:2],
        Refusal.MISSING_RIGHT,
        Refusal.BAD_ARGUMENT,
        Refusal.NOT_WHOLE,
        Refusal.TABLE_FULL,
    )


class Transfer(Trap, tag=0x41):
    """Give the receiver a derived capability (map), or the capability itself (grant)."""

    capability: Small
    to: Word
    rights: Small
    grant: bool = False
    result = int
    needs = (None, Rights.TRANSFER)
    refusals = (
        *HANDLE_REFUSALS[:2],
        Refusal.MISSING_RIGHT,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.MAY_NOT_BIND,
        Refusal.TABLE_FULL,
        Refusal.BAD_ARGUMENT,
    )


class Revoke(Trap, tag=0x42):
    """Take back everything derived from the capability; the caller keeps the capability itself.

    With `microseconds` the holders are asked first and what is left at the deadline is taken. Mappings
    cannot be taken from one holder only, so an extent that a loser has mapped gets new backing: the reply
    carries its descriptor (the caller maps it again), and everybody's old mapping ends in SIGBUS.
    """

    capability: Small
    microseconds: Small = 0
    result = int
    needs = (None, Rights(0))
    gives_descriptors = "new backing of the extent, where it was replaced"
    refusals = (*HANDLE_REFUSALS[:2],)


class Drop(Trap, tag=0x43):
    """Give a capability up, and everything derived from it; the last one to an extent frees its frames."""

    capability: Small
    needs = (None, Rights(0))
    refusals = (*HANDLE_REFUSALS[:2],)


class Holder(Record):
    """One direct derivative of a capability."""

    thread: int
    rights: int


class Inspection(Record):
    """What a capability is to. Fields that do not apply to its kind are zero."""

    kind: int
    rights: int
    origin: int
    """The thread that transferred it here, 0 when it came from the kernel."""
    first: int
    """First frame; CPU number; interrupt line; thread id of an environment."""
    count: int
    """Frames; 1 while an environment lives, else 0."""
    status: int
    """How a dead environment ended, as `os.waitstatus_to_exitcode` counts."""
    fault: int
    """The `Fault` a dead environment ended with, or 0."""
    text: str
    """An environment's name, and behind a colon the detail of its fault."""
    holders: tuple[Holder, ...]


class Inspect(Trap, tag=0x44):
    """Say what a capability is to, and who holds what was derived from it."""

    capability: Small
    result = Inspection
    needs = (None, Rights(0))
    refusals = (*HANDLE_REFUSALS[:2],)


class Inventory(Trap, tag=0x45):
    """List the handles of the caller's table."""

    result = tuple[int, ...]


# --------------------------------------------------------------------------------------------------- memory


class Carved(Record):
    """A new extent."""

    extent: int
    first: int


class Carve(Trap, tag=0x50):
    """Make `count` free frames of a RAM range into an extent, at frame `first` or anywhere (first fit).

    With `zero` the frames read as zeros; otherwise frames that were used before hold junk.
    """

    ram: Small
    count: Word
    first: Frame = ANY_FRAME
    zero: bool = True
    result = Carved
    needs = (Kind.RAM, Rights.CONTROL)
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.BAD_ARGUMENT,
        Refusal.HOST_FULL,
        Refusal.NO_FRAMES,
        Refusal.FRAME_BUSY,
        Refusal.TABLE_FULL,
    )


class Mapped(Record):
    """How many frames the descriptor covers, and whether it is writable."""

    count: int
    writable: bool


class MapExtent(Trap, tag=0x51):
    """Hand over the descriptor of an extent, writable as far as the capability goes."""

    extent: Small
    result = Mapped
    needs = (Kind.EXTENT, Rights.READ)
    gives_descriptors = "memory"
    refusals = HANDLE_REFUSALS


# ------------------------------------------------------------------------------------------------- devices


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


# ---------------------------------------------------------------------------------------------------- batch

Single = (
    KernelInterface
    | EnvironmentCreate
    | EnvironmentDestroy
    | EnvironmentSignal
    | NamePublish
    | BootInfo
    | Endpoint
    | Bind
    | Identify
    | Unbind
    | Acknowledge
    | ThreadSwitch
    | Plan
    | Derive
    | Transfer
    | Revoke
    | Drop
    | Inspect
    | Inventory
    | Carve
    | MapExtent
    | InterruptBind
    | InterruptMask
)


class Batch(Trap, tag=0x02):
    """Do several traps in one crossing, in order; each has its own answer. An empty one is the null trap."""

    traps: Annotated[tuple[Single, ...], msgspec.Meta(max_length=MAX_BATCH)]
    result = tuple[bytes, ...]
    gives_descriptors = "those of its traps, in order"


AnyTrap = Single | Batch
TRAPS: dict[int, type[Trap]] = {t.__struct_config__.tag: t for t in get_args(AnyTrap)}
"""Every trap by its number, in the order of this file."""

"""Traps on environments: create, destroy, signal, name."""

from typing import Annotated, Literal

import msgspec

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.gate import Name, Record, Small, Word
from kernel.abi.heartbeat import MAX_REASON
from kernel.abi.ids import NIL_HANDLE
from kernel.abi.operators import Operators
from kernel.abi.program import Back, Program
from kernel.abi.rights import Kind, Rights
from kernel.abi.trap import HANDLE_REFUSALS, Trap


class Created(Record):
    """A new environment."""

    environment: int
    thread: int


class EnvironmentCreate(Trap, tag=0x10):
    """Create an environment and start its program; it holds only its gate at first.

    `cpu` is the processor whose plan it runs under, or -1: outside all plans. `keeps` says that its
    capabilities outlive it until a successor takes them. `succeeds` is the handle of such a dead
    environment: the new one takes its thread number (with the next version), capabilities and descriptors. Where
    descriptors come along they replace the old ones, which are kept, so that `back` can undo the exchange.
    `may_bind` lists the thread numbers it may call; empty: any. Its budget comes out of that of thread `payer`'s
    environment, 0: the system's; `limits` are the items whose limits differ from the usual ones.
    """

    factory: Small
    name: Name
    program: Program
    cpu: Annotated[int, msgspec.Meta(ge=-1, lt=1 << 15)] = -1
    keeps: bool = False
    succeeds: Small = NIL_HANDLE
    may_bind: tuple[Small, ...] = ()
    back: Annotated[int, msgspec.Meta(ge=0, le=2)] = Back.SAME
    """A `Back`."""
    payer: Word = 0
    limits: Annotated[tuple[tuple[Small, Small], ...], msgspec.Meta(max_length=len(Item))] = ()
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
        Refusal.PLAN_FULL,
        Refusal.PROCESSOR_OFF,
        Refusal.OVER_BUDGET,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.ENDING,
    )


class EnvironmentDestroy(Trap, tag=0x11):
    """End an environment at once; everything it had returns.

    `fault` 16, with the reason in `text`, says that it did not answer: its record and its callers are told so.
    """

    environment: Small
    fault: Literal[0, 16] = 0
    text: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] = ""
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
        Refusal.OVER_BUDGET,
    )


class Booted(Record):
    """The topology, and its operators."""

    topology: bytes
    """As JSON."""
    operators: Operators


class BootInfo(Trap, tag=0x14):
    """Hand over what boot leaves to the root task: the topology, its operators, and the console they use."""

    factory: Small
    result = Booted
    needs = (Kind.FACTORY, Rights.CONTROL)
    gives_descriptors = "listening socket of the console"
    refusals = (*HANDLE_REFUSALS, Refusal.HOST_FULL)


class Charge(Trap, tag=0x15):
    """Count `amount` of `item` against the environment of `thread`: what the caller, a server, now holds for it.

    It replaces the caller's last amount, 0 ends it, and it is void when either of them ends. Only
    servers of the topology charge others, and only for items that servers hold.
    """

    thread: Word
    item: Small
    amount: Small
    refusals = (
        Refusal.NO_PRIVILEGE,
        Refusal.BAD_ARGUMENT,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.OVER_BUDGET,
    )

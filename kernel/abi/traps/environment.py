"""Traps on environments: create, destroy, signal, name."""

from typing import Annotated

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Name, Record, Small, Word
from kernel.abi.ids import NIL_HANDLE
from kernel.abi.program import Program
from kernel.abi.rights import Kind, Rights
from kernel.abi.trap import HANDLE_REFUSALS, Trap


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
    refusals = (*HANDLE_REFUSALS, Refusal.HOST_FULL)

"""Traps on processors: switch, plan, migrate, expire."""

from enum import IntEnum, IntFlag
from typing import Annotated

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Record, Small, Word
from kernel.abi.limits import MAX_SLICES
from kernel.abi.rights import Kind, Rights
from kernel.abi.trap import HANDLE_REFUSALS, Trap


class Slice(Record):
    """A span of CPU time for a thread's environment."""

    thread: Word
    microseconds: Small


class ThreadSwitch(Trap, tag=0x30):
    """Run `thread` on the processor for `microseconds`, then go back to the plan (X.2 ThreadSwitch).

    With a `giver`, only if that one has the processor: it gives up the rest of its slice to `thread`, or, if 0, to
    the next of the plan. `microseconds` means nothing then. The switch takes 250 us of that rest.
    """

    cpu: Small
    thread: Word
    microseconds: Small
    giver: Word = 0
    needs = (Kind.CPU, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.BAD_SLICE)


class How(IntFlag):
    """How a plan begins, and what its scheduler is told of it."""

    NOW = 1
    """The running slice ends at once; what is left of it is carried."""
    ENDS = 2
    """A message at the end of each slice, not only of those that were directed, or slept in."""


class Plan(Trap, tag=0x31):
    """Install the vector of slices that the kernel walks, round and round. Its installer is the scheduler.

    The running slice is finished first, if its owner is in the plan and `how`, of `How`, does not say NOW; then the
    walk begins at the first one. A scheduler that leaves out a member that is awake sends it again within a second.
    """

    cpu: Small
    slices: Annotated[tuple[Slice, ...], msgspec.Meta(max_length=MAX_SLICES)]
    how: Annotated[int, msgspec.Meta(ge=0, le=int(How.NOW | How.ENDS))] = 0
    needs = (Kind.CPU, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.BAD_SLICE)


class Migrate(Trap, tag=0x32):
    """Move the environment of `thread` under the plan of processor `cpu` (X.2 Schedule's processor control).

    With a capability to a reservation, have the environment, which is under the plan of its processor, run by it:
    the caller's own, one that the caller commands, or any if the caller is the scheduler. It has one at a time, and
    the reservation one environment; `thread` 0: none any more. Its slices of the plan stay what they are.
    """

    cpu: Small
    thread: Word
    needs = (None, Rights.CONTROL)
    refusals = (
        *HANDLE_REFUSALS,
        Refusal.NO_SUCH_THREAD,
        Refusal.STALE_THREAD,
        Refusal.BAD_SLICE,
        Refusal.PLAN_FULL,
        Refusal.PROCESSOR_OFF,
        Refusal.HOST_FULL,
    )


class Power(IntEnum):
    """What becomes of a processor."""

    SAME = 0
    ON = 1
    """It is back."""
    OFF = 2
    """It is taken out: its scheduler is told to move its members, and the kernel moves those that are left."""


class ProcessorControl(Trap, tag=0x33):
    """Show the frequencies of a processor (kHz) in the KIP; the host sets them (X.2 ProcessorControl).

    With a `power`, of `Power`, that is not SAME, take it out, or put it back, and change nothing else.
    """

    processor: Word
    internal: Word
    external: Word
    voltage: Word
    power: Annotated[int, msgspec.Meta(ge=0, le=int(Power.OFF))] = Power.SAME
    refusals = (Refusal.NO_PRIVILEGE, Refusal.BAD_ARGUMENT, Refusal.PROCESSOR_NEEDED)


class Expire(Trap, tag=0x34):
    """Send the X.2 scheduler of `thread` a preemption message from it: its total quantum is used up.

    Nothing else happens: leave a thread that is to stop out of the plan. If its X.2 scheduler does not exist, or
    is of the caller's own environment, no message is sent.
    """

    cpu: Small
    thread: Word
    needs = (Kind.CPU, Rights.CONTROL)
    refusals = (*HANDLE_REFUSALS, Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD, Refusal.BAD_SLICE)

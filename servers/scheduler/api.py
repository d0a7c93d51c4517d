"""The operations of the scheduler server. X.2's Schedule is a message of its own: see schedule.py."""

from typing import Annotated

import msgspec

from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES
from libexo.nouns import Microseconds, Name, Share, ThreadId
from libexo.sched import Parameter, Reservation
from libexo.stub import Interface, operation
from libexo.trace import Explanation

MAX_SOURCE = 8 << 10
"""Bytes of a policy's file: it is kept for the next scheduler server."""
MAX_FILE = 512
"""Characters of its name."""


Slices = Annotated[list[tuple[ThreadId, int]], msgspec.Meta(max_length=MAX_SLICES)]
Wait = Annotated[int, msgspec.Meta(ge=0, le=MAX_SLICE_US, description="microseconds")]


class Choice(msgspec.Struct, array_like=True, frozen=True):
    """Which policy, and how it is made."""

    name: str = "round-robin"
    """One of POLICIES, or a class in *source*."""
    parameters: dict[str, Parameter] = {}
    """Arguments of its constructor."""
    source: Annotated[str, msgspec.Meta(max_length=MAX_SOURCE)] = ""
    file: Annotated[str, msgspec.Meta(max_length=MAX_FILE)] = ""
    """What *source* is called in tracebacks."""

    def __str__(self) -> str:
        """Return it as `exo sched use` takes it."""
        said = [f"{key}={value}" for key, value in self.parameters.items()]
        return " ".join([f"{self.file}:{self.name}" if self.file else self.name, *said])


class Planned(msgspec.Struct, array_like=True):
    """One slice of an installed plan."""

    cpu: int
    thread: int
    microseconds: int


class Reserved(msgspec.Struct, array_like=True):
    """What is reserved for one environment."""

    cpu: int
    thread: int
    runtime: int
    """Microseconds in each period, less what was handed on."""
    period: int


class Scheduler(Interface, label=0x43, name="scheduler"):
    """The division of CPU time."""

    @operation(1, repeatable=True)
    def set_share(self, thread: ThreadId, share: Share) -> None:
        """Give *thread*'s environment *share* parts (1..1000) of its family's part; others have one each.

        Servers and operators may set any share; for the head of a family, or an environment without one, it is also
        the family's part of the processor. A program sets its own, inside its family. Fails with NotAllowed.
        """

    @operation(2, repeatable=True)
    def plan(self) -> list[Planned]:
        """Return the plans in force."""

    @operation(3, repeatable=True)
    def switch(self, to: ThreadId) -> None:
        """Give up the rest of the caller's slice: to thread *to*, if it is awake under the same processor.

        Otherwise, and for 0, to the next in the plan. A thread of the caller's own environment shares its
        slices, so then nothing happens; nor when the caller is under no plan. The answer comes when the caller
        has the processor again.
        """

    @operation(4, repeatable=True)
    def place(self, thread: ThreadId, family: ThreadId, part: Share, share: Share) -> None:
        """Put *thread*'s environment into *family*, which has *part* parts of the processor, with *share* of that.

        The thread of its first program names a family, whether that lives or not. Servers only.
        Fails with NotAllowed.
        """

    @operation(5, repeatable=True)
    def refused(self) -> str:
        """Return why the policy's last plan was refused, and what is in force instead; empty: it was not."""
        raise NotImplementedError

    @operation(6)
    def use(self, choice: Choice) -> None:
        """Put a policy in force, one by name or a class in a text, while everything keeps running.

        It is made and asked for a plan first; if that fails, the one before is in force. For servers and operators:
        what they send runs in the server. Fails with NotAllowed, PolicyRefused.
        """

    @operation(7, repeatable=True)
    def in_force(self) -> Choice:
        """Return the policy in force; its text to servers and operators only, so that they can put it back."""
        raise NotImplementedError

    @operation(8, repeatable=True)
    def set(self, thread: ThreadId, parameters: dict[str, Parameter]) -> None:
        """Say to the policy *parameters* of the family of *thread*, besides what was said; '' forgets one.

        From a server or an operator they are its parameters; from a program of that family, what it declares. Fails
        with NotAllowed, PolicyRefused: too much is said, or the policy cannot honour it, and nothing is changed.
        """

    @operation(9, repeatable=True)
    def said(self, thread: ThreadId) -> dict[str, Parameter]:
        """Return the parameters of the family of *thread*, and what it declared that they leave open."""
        raise NotImplementedError

    @operation(31, repeatable=True)
    def divide(self, slices: Slices) -> None:
        """Divide the part of the caller's family by *slices*: threads and µs, in order, round and round.

        It goes by what the members use of what the family is given; nobody else's part changes. A member that is
        not among them has nothing, but for the caller, which has a quarter while it is awake. Without slices, while
        none of them is awake, and when the caller has ended, it is by shares. For the first program of a family.
        Fails with NotAllowed; BadDivision: a thread is of no living member, or a length is no slice's.
        """

    @operation(32, repeatable=True)
    def changed(self, seen: int, microseconds: Wait) -> int:
        """Wait until a member of the caller's family came, went, fell asleep or woke, or for so long.

        *seen* is what it returned last, 0 at first. What changed since then counts, and answers come 10 ms apart.
        For the first program of a family. Fails with NotAllowed.
        """
        raise NotImplementedError

    @operation(11, repeatable=True)
    def why(self, name: Name, microseconds: Wait) -> Explanation:
        """Return why environment *name*, which may have ended, did not run in the last *microseconds*.

        It takes a second or two: the server goes through the trace beside its work. A program that is in a hurry
        reads the trace itself (`libexo.trace`). Fails with NotKnown; StillAsked: the caller's environment has
        another question that is not answered yet.
        """
        raise NotImplementedError

    @operation(10, repeatable=True)
    def policies(self) -> dict[str, str]:
        """Return the policies that have names, each with what it says of itself in a line."""
        raise NotImplementedError

    @operation(21, repeatable=True)
    def reserve(self, thread: ThreadId, runtime: Microseconds, period: Microseconds) -> None:
        """Reserve for *thread*'s environment *runtime* us in each *period* us of its processor; 0: nothing.

        For servers and operators. The kernel holds it, beside its slices of the plan. Fails with NotAllowed,
        NotReserved: what was reserved before still is.
        """

    @operation(22, repeatable=True)
    def reserved(self) -> list[Reserved]:
        """Return what is reserved by this server."""
        raise NotImplementedError

    @operation(23)
    def reservation(self) -> Reservation:
        """Return the capability to what is reserved for the caller's environment: it may hand parts on.

        Fails with NotReserved.
        """
        raise NotImplementedError

"""The operations of the scheduler server. X.2's Schedule is a message of its own: see schedule.py."""

import msgspec

from libexo.nouns import Share, ThreadId
from libexo.stub import Interface, operation


class Planned(msgspec.Struct, array_like=True):
    """One slice of an installed plan."""

    cpu: int
    thread: int
    microseconds: int


class Scheduler(Interface, label=0x43, name="scheduler"):
    """The division of CPU time."""

    @operation(1, repeatable=True)
    def set_share(self, thread: ThreadId, share: Share) -> None:
        """Give *thread*'s environment *share* parts (1..1000) of its family's part; others have one each.

        Servers may set any share; for the head of a family, or an environment without one, it is also the family's
        part of the processor. A program sets its own, inside its family. Fails with NotAllowed.
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
        """Return why the policy's last plan was refused, so that round robin is in force; empty: it was not."""
        raise NotImplementedError

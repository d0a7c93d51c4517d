"""What the scheduler server does for its callers. X.2's Schedule is a message of its own: see schedule.py."""

import msgspec

from libexo.nouns import Share, ThreadId
from libexo.stub import Interface, operation


class Planned(msgspec.Struct, array_like=True):
    """One slice of a plan, as it was installed."""

    cpu: int
    thread: int
    microseconds: int


class Scheduler(Interface, label=0x43, name="scheduler"):
    """The division of CPU time."""

    @operation(1, repeatable=True)
    def set_share(self, thread: ThreadId, share: Share) -> None:
        """Give *thread*'s environment *share* parts of its processor (1..1000); others have one part each.

        Servers and operators may set anybody's, a program its own. Fails with NotAllowed.
        """

    @operation(2, repeatable=True)
    def plan(self) -> list[Planned]:
        """Return the plans in force."""

    @operation(3, repeatable=True)
    def switch(self, to: ThreadId) -> None:
        """Give up the rest of the caller's slice: to thread *to*, if it is awake under the same processor.

        Otherwise, and for 0, to whoever is next in the plan. A thread of the caller's own environment shares its
        slices, so then nothing happens; nor when the caller is under no plan. The answer comes when the caller
        has the processor again.
        """

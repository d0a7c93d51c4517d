"""Lending: who falls asleep in its slice, and waits for another that is stopped, lends it the rest.

The kernel sees no message: for whom a thread waits is the word of its program, in its page. What is lent is the
lender's own time, so nobody else has less for anything that is said there.
"""

from typing import TYPE_CHECKING

from kernel.abi.events import ANYBODY
from kernel.abi.kip import awaited

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernel.environment import Environment
    from kernel.member import Member

_LONGEST = 8
"""Members that may wait one for another."""


def waits_for(member: "Member") -> int:
    """Return the number of the thread for which the first thread of *member* says that it waits; 0, ANYBODY."""
    return awaited(member.environment.page, member.environment.first.row)


def heir(lender: "Member", members: "Mapping[Environment, Member]") -> "Member | None":
    """Return who is to run for *lender*: itself if it is awake, or who is awake of those that it waits for.

    That may be one for whom another waits that sleeps, and so on.
    """
    member: Member | None = lender
    for _ in range(_LONGEST):
        if member is None or not member.asleep:
            break
        whom = waits_for(member)
        waits = 0 < whom < ANYBODY
        member = next((m for of, m in members.items() if whom in of.threads), None) if waits else None
    return member if member is not None and not member.asleep else None

"""What servers page for programs: their frames count to the pager in the kernel's table, and are the programs'.

An object counts to one environment: to that whose capability all others, but the pager's, derive from. The pager
made it for that one, of frames it was promised. To share it on changes nothing, so no program has its use counted
to those it shares with, and none of them loses it when it is asked for memory. An environment that was granted the
whole, and accepted, has it from then on. Plain memory counts by the same rule, in the kernel.
"""

from typing import TYPE_CHECKING, NamedTuple

from servers.memory.victims import extents

if TYPE_CHECKING:
    from libexo.kip import ExtentRow, Kip


class Paged(NamedTuple):
    """An object that a server pages."""

    environment: int
    """The number of the environment it counts to."""
    frames: int


def paged_by_servers(kip: "Kip", table: str) -> dict[int, Paged]:
    """Return the objects that servers page for others, by first frame; *table* is a `snapshot`."""
    found: dict[int, Paged] = {}
    for server in [row for row in kip.environments() if not row.family]:
        for run in extents(table, kip.extent_frames, server.number):
            row = kip.extent(run.first)
            if row is not None and row.paged and (user := payer(row)) >= 0:
                found[run.first] = Paged(user, run.length)
    return found


def payer(row: "ExtentRow") -> int:
    """Return the number of the environment that the object of *row* counts to; -1: only its pager has it.

    The kernel shows the oldest capabilities first, so what others derive from comes before them.
    """
    return next((held.environment for held in row.holdings if held.environment != row.pager), -1)

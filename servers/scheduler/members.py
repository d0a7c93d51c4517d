"""The members of the processors, as the kernel shows them."""

from collections.abc import Collection

from kernel.abi.kip import EnvironmentState
from libexo.kip import EnvironmentRow, Kip

_WAITING = (EnvironmentState.STARTING, EnvironmentState.DEAD)


def members(kip: Kip, cpus: Collection[int]) -> dict[int, list[EnvironmentRow]]:
    """Return those of each of *cpus* that can be planned, oldest first."""
    found: dict[int, list[EnvironmentRow]] = {cpu: [] for cpu in cpus}
    for row in sorted(kip.environments(), key=lambda row: row.started):
        if row.cpu in found and row.state not in _WAITING:
            found[row.cpu].append(row)
    return found

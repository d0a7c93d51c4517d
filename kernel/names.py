"""Names and their owners.

The name of an environment is its own from its first moment to its last, and, if it keeps its capabilities for a
successor, until that has come. The names of the topology's servers are always theirs, whether one runs or
not, so that nobody can answer in its place. Any other name counts against the budget of its thread's
environment, and leaves a row of the table for the own name of every environment that may come.
"""

from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_NAME
from kernel.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection

    from kernel.environment import Environment
    from kernel.kip import Kip


def check_name(name: str) -> str:
    """Return *name* if it can be one. Raises Refused."""
    if not name or len(name.encode()) > MAX_NAME or not name.isprintable() or name != name.strip():
        raise Refused(Refusal.BAD_ARGUMENT, f"{name!r} is no name: 1..{MAX_NAME} printable bytes")
    return name


class Names:
    """The owners of names."""

    def __init__(self, kip: "Kip", environments: "Collection[Environment]") -> None:
        """Judge by the names published in *kip*, and those kept for successors of *environments*."""
        self._kip = kip
        self._environments = environments
        self.servers: frozenset[str] = frozenset()
        """The names of the servers of the topology, which the boot loader knows."""

    def why_taken(self, name: str, *, system: bool = False) -> str:
        """Say why a newcomer may not have *name*; empty: it is free. The *system* may use those of its servers."""
        if self._kip.owner(name):
            return f"{name} is the name of a living thread"
        if any(e.name == name and e.keeps and not e.alive for e in self._environments):
            return f"{name} is kept for the successor of an environment that ended"
        if name in self.servers and not system:
            return f"{name} is the name of a server of the topology: 'exo serve' replaces one"
        return ""

    def check_free(self, name: str, *, system: bool = False) -> None:
        """Refuse a *name* that is taken, or kept."""
        if taken := self.why_taken(name, system=system):
            raise Refused(Refusal.NAME_TAKEN, taken)

"""Names: whose they are.

The name of an environment is its own from its first moment to its last, and, where it leaves its all to a
successor, until that has come. The names of the servers of the topology are theirs always, whether one runs or
not, so that nobody can answer in its place. What else is published counts against the budget of the environment
of its thread, and leaves a row of the table for the own name of every environment there can be.
"""

from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_NAME
from kernel.errors import Refused

if TYPE_CHECKING:
    from kernel.kernel import Kernel


def check_name(name: str) -> str:
    """Return *name* if it can be one. Raises Refused."""
    if not name or len(name.encode()) > MAX_NAME or not name.isprintable() or name != name.strip():
        raise Refused(Refusal.BAD_ARGUMENT, f"{name!r} is no name: 1..{MAX_NAME} printable bytes")
    return name


def why_taken(kernel: "Kernel", name: str, *, system: bool = False) -> str:
    """Say why nobody new may have *name*; empty: it is free. The *system* itself may have those of its servers."""
    if kernel.kip.owner(name):
        return f"{name} is the name of a living thread"
    if any(e.name == name and e.keeps and not e.alive for e in kernel.environments):
        return f"{name} is kept for the successor of an environment that ended"
    if name in kernel.servers and not system:
        return f"{name} is the name of a server of the topology: 'exo serve' replaces one"
    return ""


def check_free(kernel: "Kernel", name: str, *, system: bool = False) -> None:
    """Refuse a *name* that somebody has, or is to have."""
    if taken := why_taken(kernel, name, system=system):
        raise Refused(Refusal.NAME_TAKEN, taken)

"""Names: whose they are, and the trap that publishes one.

The name of an environment is its own from its first moment to its last, and, where it leaves its all to a
successor, until that has come. The names of the servers of the topology are theirs always, whether one runs or
not, so that nobody can answer in its place. What else is published counts against the budget of the environment
of its thread, and leaves a row of the table for the own name of every environment there can be.
"""

from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_ENVIRONMENTS, MAX_NAME, MAX_NAMES
from kernel.dispatch import Call, handles
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


@handles(traps.NamePublish)
def _publish(kernel: "Kernel", call: Call[traps.NamePublish]) -> None:
    name, thread, kip = check_name(call.trap.name), call.trap.thread, kernel.kip
    if not thread:
        kip.publish(name, 0)
        return
    environment = kernel.threads.living(thread)
    if kip.owner(name) == thread:
        return
    if name != environment.name or environment.first.id != thread:
        check_free(kernel, name)
    if len(kip.payers) >= MAX_NAMES - MAX_ENVIRONMENTS:
        raise Refused(
            Refusal.TABLE_FULL, f"{len(kip.payers)} names are published beside those of environments"
        )
    environment.budget.charge(Item.NAMES)
    kip.publish(name, thread)
    kip.payers[name] = environment.budget

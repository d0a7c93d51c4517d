"""X.2 address spaces: their names, their controllers, SpaceControl.

An address space is an environment. One that ThreadControl made has no UTCB area yet, and none of its threads can
be activated before SpaceControl gave it one; every other has the areas of `kernel.abi.space` from the start.
The page itself lies where its readers map it: the area for it is checked and remembered.
"""

from typing import TYPE_CHECKING, Any

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import ANY_THREAD, NIL_THREAD, ThreadId, show_thread, thread_number
from kernel.abi.kip import UTCB_SIZE
from kernel.abi.limits import MAX_ENVIRONMENTS
from kernel.abi.space import MIN_UTCB_AREA, USER_END, fpage
from kernel.dispatch import Call
from kernel.errors import Refused

if TYPE_CHECKING:
    from kernel.environment import Environment, Thread
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


def check_privilege(call: Call[Any]) -> None:
    """Refuse a caller that X.2 does not call privileged."""
    if not call.caller.privileged:
        raise Refused(Refusal.NO_PRIVILEGE, f"{call.caller.name} holds no factory")


def space_of(kernel: "Kernel", thread: int) -> "Environment":
    """Return the space that *thread*, active or not, is in. Raises Refused."""
    found = kernel.threads.known(thread)
    if found is None:
        raise Refused(Refusal.NO_SUCH_SPACE, f"there is no thread {show_thread(thread)}")
    return found.environment


def create_space(kernel: "Kernel", first: ThreadId, creator: "Environment") -> "Environment":
    """Create an address space with one inactive thread *first*, whose number is free. Raises Refused.

    It may send where its *creator* may; the two may send to one another, and to the creator's other spaces.
    """
    environments, number = kernel.environments, thread_number(first)
    names = (f"space-{number}{'+' * more}" for more in range(MAX_ENVIRONMENTS))
    name = next(name for name in names if not environments.names.why_taken(name))
    space = environments.enter(name, environments.places.near(creator.cpu), creator.may_bind, None, first)
    kernel.threads.choose(first)
    space.utcb_area, space.family = None, creator.family
    space.budget.family = creator.budget.family or space.budget.family
    environments.introduce(space)
    return space


def check_aligned(location: int) -> None:
    """Refuse a UTCB *location* that cannot be in any area."""
    if not location or location % UTCB_SIZE:
        raise Refused(Refusal.BAD_UTCB, f"{location:#x} is no multiple of {UTCB_SIZE}")


def check_utcb(space: "Environment", location: int, of: "Thread | None") -> None:
    """Refuse unless the UTCB of thread *of* of *space*, or of a new one, can be at *location*."""
    area = space.utcb_area
    check_aligned(location)
    if area is not None and not area.start <= location <= area.stop - UTCB_SIZE:
        raise Refused(Refusal.BAD_UTCB, f"{location:#x} is not in {area.start:#x}..{area.stop:#x}")
    if any(other.utcb == location for other in space.threads.values() if other is not of):
        raise Refused(Refusal.BAD_UTCB, f"another thread of {space.name} has {location:#x}")


def space_control(kernel: "Kernel", call: Call[traps.SpaceControl]) -> "Steps[int]":
    """Set the areas of a space, or its redirector."""
    trap = call.trap
    check_privilege(call)
    space = space_of(kernel, trap.space)
    if trap.control:
        raise Refused(Refusal.BAD_ARGUMENT, f"control word {trap.control:#x}: this machine has none")
    is_open = not any(thread.active for thread in space.threads.values())
    kip_area, utcb_area = fpage(trap.kip_area), fpage(trap.utcb_area)
    if is_open:
        _check_areas(kernel, kip_area, utcb_area)
    redirector = _redirector(kernel, space, trap.redirector)
    if is_open:
        space.kip_area, space.utcb_area = kip_area, utcb_area
    if redirector is not space.redirector:
        space.redirector = redirector
        fallen = kernel.bindings.reroute(space)
        kernel.threads.show_all(space)
        yield from fallen
    return 0


def _check_areas(kernel: "Kernel", kip: range, utcb: range) -> None:
    """Refuse areas that are too small, outside user addresses, or not apart."""
    if utcb.stop - utcb.start < MIN_UTCB_AREA or not utcb.start or utcb.stop > USER_END:
        raise Refused(Refusal.BAD_UTCB, f"UTCB area {utcb.start:#x}..{utcb.stop:#x}")
    apart = kip.stop <= utcb.start or utcb.stop <= kip.start
    if kip.stop - kip.start < kernel.kip.size or kip.stop > USER_END or not apart:
        raise Refused(Refusal.BAD_KIP_AREA, f"KIP area {kip.start:#x}..{kip.stop:#x} of {kernel.kip.size}")


def _redirector(kernel: "Kernel", space: "Environment", wanted: int) -> "Thread | None":
    """Return the redirector *space* is to have. Raises Refused."""
    if wanted == NIL_THREAD:
        return space.redirector
    if wanted == ANY_THREAD:
        return None
    thread = kernel.threads.known(wanted)
    if thread is None or not thread.active:
        raise Refused(Refusal.NO_SUCH_THREAD, f"redirector {show_thread(wanted)}")
    return thread

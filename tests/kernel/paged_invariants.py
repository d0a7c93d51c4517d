"""What must be true of objects, windows and faults between any two traps."""

from collections.abc import Iterator
from itertools import pairwise

from kernel.abi.limits import MAX_WINDOWS
from kernel.abi.traps import PageState
from kernel.capability import Capability
from kernel.environment import Environment
from kernel.kernel import Kernel
from kernel.objects import Object


def of_objects(kernel: Kernel, rows: list[Environment], capabilities: list[Capability]) -> Iterator[str]:
    """No object has more pages than frames; its windows are those of who holds a capability to it."""
    things = {c.resource: None for c in capabilities if isinstance(c.resource, Object)}
    opened = [window for windows in kernel.faults._windows.values() for window in windows]
    for thing in things:
        supplied = sum(bool(state & PageState.SUPPLIED) for state in thing.states)
        if not thing.locked and (supplied != thing.resident or supplied > thing.count):
            yield f"{thing} has {supplied} pages, counts {thing.resident}, of {thing.count} frames"
        if any(state and not state & PageState.SUPPLIED for state in thing.states):
            yield f"{thing} has states of pages that are not there"
        if thing.owner is not None and thing.owner not in capabilities:
            yield f"{thing} is paged by nobody's right"
        if set(thing.windows) != {window for window in opened if window.object is thing}:
            yield f"{thing} does not know its windows"
        if not thing.locked and thing.leaving:
            yield f"{thing} has pages that leave, and nobody evicts them"
        if not {window.capability for window in thing.windows} <= set(capabilities):
            yield f"{thing} is seen by who lost it"
    for environment, windows in kernel.faults._windows.items():
        if environment not in rows or not environment.alive or len(windows) > MAX_WINDOWS:
            yield f"{environment} ended, and has {len(windows)} windows"
        spans = sorted(window.whole for window in windows)
        if any(a + size > b for (a, size), (b, _) in pairwise(spans)):
            yield f"{environment} has windows one over another"


def of_faults(kernel: Kernel) -> Iterator[str]:
    """Who waits for a page that is supplied, unless it is guarded or the host would not show it, waits in vain."""
    for thing, table in kernel.faults._pending.items():
        for page, pending in table.items():
            if (pending.object, pending.page) != (thing, page) or not pending.waiting:
                yield f"a fault of page {page} of {thing} is kept for nobody"
            if any(window.object is not thing or page not in window for window in pending.waiting):
                yield f"page {page} of {thing} is waited for where it is not"
            if thing.pager is None:
                yield f"page {page} of {thing} is waited for, and nobody pages it"
            if not pending.told and not thing.locked and not thing.states[page] & PageState.SUPPLIED:
                yield f"nobody was told of page {page} of {thing}"

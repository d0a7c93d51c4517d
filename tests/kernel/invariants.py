"""Invariants of the kernel between any two traps, checked from all its records against one another."""

from collections.abc import Callable, Collection, Iterator

from hwmodel.simulated.machine import SimulatedMachine
from kernel.abi.budget import Item
from kernel.abi.ids import FIRST_PROGRAM
from kernel.abi.kip import (
    BUDGET_ROW,
    BUDGETS,
    ENVIRONMENT,
    ENVIRONMENTS,
    FRAMES,
    NAME,
    NAMES,
    THREAD,
    THREADS,
    EnvironmentState,
    Head,
    ThreadState,
)
from kernel.abi.limits import (
    MAX_BINDINGS,
    MAX_ENVIRONMENTS,
    MAX_HANDLES,
    MAX_NAMES,
    MAX_OFFERS,
    MAX_SPACE_THREADS,
    MAX_THREADS,
)
from kernel.abi.rights import Rights
from kernel.capability import Capability, Holder
from kernel.environment import Binding, Environment
from kernel.frames import Extent, Ram
from kernel.kernel import Kernel
from kernel.processor import Processor
from kernel.reservation import Reservation
from tests.kernel.paged_invariants import of_faults, of_objects
from tests.kernel.reserved_invariants import of_reservations
from tests.kernel.shown_invariants import of_extents, of_pieces, of_plans


def violations(kernel: Kernel, machine: SimulatedMachine) -> list[str]:
    """Return a line for each invariant that is broken."""
    rows = list(kernel.environments)
    everything = [capability for e in rows for capability in e.table]
    capabilities = [capability for capability in everything if capability.offer is None]
    return [
        *(line for e in rows for line in _table(e)),
        *_tree(everything),
        *(line for e in rows for line in _offers(e)),
        *_things(capabilities, rows),
        *_watched(rows, kernel.environments._leaving),
        *_frames(kernel, machine, capabilities),
        *_carved(capabilities),
        *_environments(kernel, machine, rows),
        *_threads(kernel, rows),
        *_bindings(rows),
        *_ways(rows, machine),
        *_kip_rows(kernel, rows),
        *_kip_names(kernel),
        *_kip_threads(kernel),
        *of_plans(kernel),
        *_budgets(kernel, rows, everything),
        *of_objects(kernel, rows, capabilities),
        *of_faults(kernel),
        *of_reservations(kernel, capabilities),
        *(f"{word.name} is odd" for word in Head if "SEQUENCE" in word.name and kernel.kip._words[word] % 2),
    ]


def _table(e: Environment) -> Iterator[str]:
    table = e.table
    free = list(table._free)
    taken = {slot for slot, capability in enumerate(table._slots) if capability is not None}
    if table.used != len(taken) or table.used - table.offered > MAX_HANDLES:
        yield f"{e} counts {table.used} handles, has {len(taken)}"
    if (
        len(set(free)) != len(free)
        or taken & set(free)
        or taken | set(free) | {0} != set(range(len(table._slots)))
    ):
        yield f"{e}: slots are lost or used twice"
    for capability in table:
        if capability.holder is not e or table.find(capability.handle) is not capability:
            yield f"{capability} sits in the table of {e}"
    if not e.alive and not e.keeps and taken:
        yield f"{e} ended and still holds {len(taken)} capabilities"


def _tree(capabilities: list[Capability]) -> Iterator[str]:
    known = set(capabilities)
    for capability in capabilities:
        parent = capability.parent
        if parent is not None and (parent not in known or capability not in parent.children):
            yield f"{capability} has a parent that does not know it"
        for child in capability.children:
            if child not in known or child.parent is not capability:
                yield f"{capability} has a child that does not know it"
        steps = 0
        while parent is not None and steps <= len(capabilities):
            parent, steps = parent.parent, steps + 1
        if steps > len(capabilities):
            yield f"{capability} is its own ancestor"


def _offers(e: Environment) -> Iterator[str]:
    indexed = {receiver: list(offers) for receiver, offers in e.table.offers.items()}
    found: dict[Holder, list[Capability]] = {}
    for capability in e.table:
        if capability.offer is not None:
            found.setdefault(capability.offer.receiver, []).append(capability)
    if {r: set(offers) for r, offers in indexed.items()} != {r: set(offers) for r, offers in found.items()}:
        yield f"{e} does not know its offers: {indexed}, has {found}"
    for receiver, offers in found.items():
        if not e.alive or not receiver.alive or len(offers) > MAX_OFFERS:
            yield f"{e} has {len(offers)} offers to {receiver}"
        for offer in offers:
            of = offer.parent
            if of is None or of.offer is not None or of.holder is not e or of.resource is not offer.resource:
                yield f"{offer} is of {of}"
            if offer.children or offer.mapped or (of and offer.rights & ~of.rights):
                yield f"{offer} is more than an offer, or none"


def _things(capabilities: list[Capability], rows: list[Environment]) -> Iterator[str]:
    for capability in capabilities:
        thing, parent = capability.resource, capability.parent
        if parent is None:
            continue
        above = parent.resource
        part = isinstance(above, Ram) and isinstance(thing, Ram | Extent)
        part |= isinstance(above, Processor | Reservation) and isinstance(thing, Reservation)
        if thing is not above and not part:
            yield f"{capability} is derived from {parent}"
        if isinstance(thing, Extent) and isinstance(above, Extent):
            pages, outside = thing.span(capability), above.span(parent)
            if not pages or pages.start < outside.start or pages.stop > outside.stop:
                yield f"{capability} is to pages that {parent} is not to"
        if isinstance(above, Ram) and isinstance(thing, Ram | Extent):
            inside = above.first <= thing.first and thing.first + thing.count <= above.first + above.count
            if not inside:
                yield f"{capability} is outside {parent}"
    for e in rows:
        if set(e.watchers) != {c for c in capabilities if c.resource is e}:
            yield f"{e} is watched by others than hold it"


def _watched(rows: list[Environment], leaving: Collection[Environment]) -> Iterator[str]:
    """The dead are there for their watchers, or for a later restart; those of *leaving* go, step by step."""
    for e in rows:
        if e.over and not (e.watchers or e.held or e in leaving):
            yield f"nobody watches {e}, which ended"


def rights_grow(
    capabilities: list[Capability], spared: Callable[[Capability], int] = lambda _: 0
) -> list[str]:
    """Name holders of more rights than their capability was derived from (EXECUTE comes with carving).

    *spared*: which of them it has had since before that was granted with fewer.
    """
    return [
        f"{c} of {c.parent}"
        for c in capabilities
        if c.parent is not None and c.rights & ~(c.parent.rights | Rights.EXECUTE | spared(c))
    ]


def _frames(kernel: Kernel, machine: SimulatedMachine, capabilities: list[Capability]) -> Iterator[str]:
    extents: dict[Extent, list[Capability]] = {}
    for capability in capabilities:
        if isinstance(capability.resource, Extent):
            extents.setdefault(capability.resource, []).append(capability)
    runs = kernel.frames._runs
    spans = sorted([*runs._ends.items()] + [(x.first, x.first + x.count) for x in extents])
    edges = [0, *(edge for span in spans for edge in span), kernel.frames.total]
    if any(a != b for a, b in zip(edges[::2], edges[1::2], strict=True)):
        yield f"free runs and extents do not make up RAM: {spans}"
    if runs.free != sum(end - start for start, end in runs._ends.items()):
        yield "the free runs are counted wrong"
    if machine.ram.carved() != kernel.frames.total - kernel.frames.free:
        yield f"{machine.ram.carved()} frames carved, {kernel.frames.free} free of {kernel.frames.total}"
    if kernel.kip._words[Head.FREE_FRAMES] != kernel.frames.free:
        yield "the KIP shows another number of free frames"
    yield from _users(kernel, extents)


def _users(kernel: Kernel, extents: dict[Extent, list[Capability]]) -> Iterator[str]:
    shown = [0] * kernel.frames.total
    used: dict[Holder, int] = {}
    rings = {
        b.ring._extent: b for e in kernel.environments for b in e.outgoing.values() if b.ring is not None
    }
    for extent, holders in extents.items():
        yield from of_pieces(extent, holders)
        yield from _ring(extent, rings.get(extent), holders)
        user = extent.user
        if set(extent._capabilities) != set(holders):
            yield f"{extent} knows others than hold it"
        if user is None or all(c.holder is not user for c in holders):
            yield f"{extent} is accounted to {user}, who does not hold it"
            continue
        used[user] = used.get(user, 0) + extent.count
        shown[extent.first : extent.first + extent.count] = [user.number + 1] * extent.count
    for e in kernel.environments:
        if e.frames != used.get(e, 0):
            yield f"{e} is said to have {e.frames} frames, has {used.get(e, 0)}"
    table = kernel.kip._buffer[FRAMES : FRAMES + 4 * kernel.frames.total].cast("I")
    if table.tolist() != shown:
        yield "the KIP shows other users of frames"
    yield from of_extents(kernel, extents)


def _carved(capabilities: list[Capability]) -> Iterator[str]:
    """Carved frames count to all capabilities that the one they were carved through was derived from."""
    carved = dict.fromkeys((c for c in capabilities if isinstance(c.resource, Ram)), 0)
    for capability in capabilities:
        above = capability.parent
        if isinstance(capability.resource, Extent) and above is not None and isinstance(above.resource, Ram):
            while (above := above.parent) is not None:
                carved[above] += capability.resource.count
    for ram, count in carved.items():
        if ram.carved != count:
            yield f"{ram} is said to have lent {ram.carved} frames that were carved, has {count}"


def _ring(extent: Extent, binding: Binding | None, holders: list[Capability]) -> Iterator[str]:
    if (extent.on_lost is None) is not (binding is None):
        yield f"{extent} is the ring of no binding, or does not know that it is one"
    if binding is None:
        return
    sender = binding.sender.environment
    if [holder.holder for holder in holders] != [sender] or holders[0].children or holders[0].mapped:
        yield f"{extent} is a ring's, and {holders} are to it"


def _environments(kernel: Kernel, machine: SimulatedMachine, rows: list[Environment]) -> Iterator[str]:
    environments = kernel.environments
    alive = {e for e in rows if e.alive}
    if sorted([*(e.number for e in rows), *environments._free]) != list(range(MAX_ENVIRONMENTS)):
        yield "rows of environments are lost or used twice"
    if set(environments._by_body.values()) != {e for e in alive if e.launched}:
        yield "bodies and living environments differ"
    for line in kernel.interrupts.lines:
        if line.handler is not None and not (line.handler.active and line.handler.environment in alive):
            yield f"line {line.number} is handled by {line.handler}"
    for processor in kernel.processors:
        members = set(processor._members)
        if not members <= alive or {e for e, _ in processor._plan.slices} - members:
            yield f"{processor} plans others than its members"
        started = {e for e in alive if e.cpu == processor.number and e.state is not EnvironmentState.STARTING}
        if members != started:
            yield f"{processor} has the members {members}, not {started}"
        awake = [m for e, m in processor._members.items() if not m.asleep and not _paused(e)]
        if len(awake) > 1 or any(m is not processor._current for m in awake):
            yield f"{processor} runs {[m.environment.name for m in awake]}"


def _threads(kernel: Kernel, rows: list[Environment]) -> Iterator[str]:
    threads = kernel.threads
    living = {number: thread for number, thread in threads._threads.items() if thread.living}
    if living != {number: thread for e in rows for number, thread in e.threads.items()}:
        yield "threads and those of environments differ"
    for e in rows:
        if e.threads if not e.alive else not e.ending and e.first not in e.threads.values():
            yield f"{e} has threads {list(e.threads.values())}, its first is {e.first}"
        utcbs = [thread.utcb for thread in e.threads.values() if thread.utcb]
        if len(set(utcbs)) != len(utcbs) or len(e.threads) > MAX_SPACE_THREADS:
            yield f"{e} has UTCBs {utcbs}"
        for number, thread in e.threads.items():
            if (thread.number, thread.environment) != (number, e) or (thread.active and not thread.utcb):
                yield f"{thread} is in the wrong place"
            if thread.active and not e.launched:
                yield f"{thread} is active without a body"
    kept = {e.first.number for e in rows if e.keeps and not e.first.living}
    # A thread's number is free when its bindings have fallen, step by step.
    ending = (
        {n for n, thread in threads._threads.items() if not thread.living} if kernel.jobs.under_way else set()
    )
    if set(threads._threads) != set(living) | kept | ending:
        yield "numbers are kept for nobody, or lost"
    if len(set(threads._free)) != len(threads._free) or set(threads._threads) & set(threads._free):
        yield "thread numbers are free twice, or free and in use"
    if not set(range(FIRST_PROGRAM, MAX_THREADS)) <= {*threads._threads, *threads._free}:
        yield "thread numbers are lost"


def _kip_threads(kernel: Kernel) -> Iterator[str]:
    table = bytes(kernel.kip._buffer[THREADS : THREADS + MAX_THREADS * THREAD.size])
    shown = {number: row for number, row in enumerate(THREAD.iter_unpack(table)) if any(row)}
    true = {
        number: (
            t.id,
            t.environment.number + 1,
            ThreadState.ACTIVE if t.active else ThreadState.INACTIVE,
            t.pager,
            t.scheduler,
            redirector.id if redirector else 0,
        )
        for number, t in kernel.threads._threads.items()
        if t.living
        for redirector in [t.environment.redirector]
    }
    for number in {n for n, _ in shown.items() ^ true.items()}:
        yield f"row of thread {number} shows {shown.get(number)}, not {true.get(number)}"


def _ways(rows: list[Environment], machine: SimulatedMachine) -> Iterator[str]:
    """A binding has its end point until it is handed over; its receiver was told of it if it has connected."""
    waiting = {b.endpoint.name: b for e in rows for b in e.outgoing.values() if b.receivers}
    if set(waiting) != set(machine.endpoints):
        yield f"end points {sorted(machine.endpoints)}, bindings that wait {sorted(waiting)}"
    for thread in [thread for e in rows for thread in e.threads.values()]:
        if any(b.endpoint.name not in waiting for b in thread.arrived.values()):
            yield f"{thread} could take a binding again, or one that fell"
        if thread.arrived and not thread.told:
            yield f"{thread} was not told that somebody is bound to it"


def _paused(e: Environment) -> bool:
    return bool(getattr(e.body, "paused", False))


def _bindings(rows: list[Environment]) -> Iterator[str]:
    for e in rows:
        if len(e.outgoing) > MAX_BINDINGS or (not e.alive and (e.outgoing or e.backlog)):
            yield f"{e} has bindings it cannot have"
        for token, binding in e.outgoing.items():
            sender, receiver = binding.sender, binding.receiver
            if (binding.token, sender.environment, receiver.incoming.get(token)) != (token, e, binding):
                yield f"{e} has a binding its receiver does not know"
            if not (sender.active and receiver.active):
                yield f"{sender} is bound to {receiver}"
            if e.leads(binding.intended) not in (receiver, None):
                yield f"{sender} is bound past the redirector {e.redirector}"
        for thread in e.threads.values():
            for token, binding in thread.incoming.items():
                known = binding.sender.environment.outgoing.get(token)
                if (binding.receiver, known) != (thread, binding):
                    yield f"{thread} has a binding its sender does not know"


def _kip_rows(kernel: Kernel, rows: list[Environment]) -> Iterator[str]:
    size = ENVIRONMENT.size
    table = bytes(kernel.kip._buffer[ENVIRONMENTS : ENVIRONMENTS + MAX_ENVIRONMENTS * size])
    expected = {e.number: e for e in rows}
    for number, row in enumerate(ENVIRONMENT.iter_unpack(table)):
        e = expected.get(number)
        if e is None:
            if row[0] != EnvironmentState.FREE:
                yield f"row {number} shows {row[-1]!r}, which is no more"
            continue
        state, _, _, cpu, thread, started, _, _, frames, handles, fault, family, name = row
        shown = (state, cpu, thread, started, frames, handles, fault, family, name.rstrip(b"\0").decode())
        true = (
            e.state,
            e.cpu,
            e.thread,
            e.started,
            e.frames,
            e.table.used,
            e.fault,
            e.budget.family or 0,
            e.name,
        )
        if shown != true:
            yield f"row {number} shows {shown}, not {true}"


def _kip_names(kernel: Kernel) -> Iterator[str]:
    table = bytes(kernel.kip._buffer[NAMES : NAMES + MAX_NAMES * NAME.size])
    shown = {n.rstrip(b"\0").decode(): thread for thread, n in NAME.iter_unpack(table) if thread}
    if set(shown) != set(kernel.kip._names):
        yield "the names shown are not those kept"
    living = {t.id for e in kernel.environments for t in e.threads.values()}
    if not set(shown.values()) <= living:
        yield f"names of threads that are gone: {shown}"
    slots = sorted([*kernel.kip._names.values(), *kernel.kip._free_names])
    if slots != list(range(MAX_NAMES)):
        yield "slots of the name table are lost or used twice"


def counted(kernel: Kernel, e: Environment, everything: list[Capability]) -> dict[Item, int]:
    """Count what there really is of each item that counts against *e*."""
    extents = {c.resource for c in everything if isinstance(c.resource, Extent) and c.resource.user is e}
    rings = sum(binding.ring is not None for binding in e.outgoing.values())
    all_extents = {c.resource for c in everything if isinstance(c.resource, Extent)}
    pieces = sum(payer.last() is e.budget for extent in all_extents for payer in extent._payers)
    names = [name for name, payer in kernel.kip.payers.items() if payer is e.budget]
    parts = e.budget.parts
    waits = kernel.predicates._waits.items()
    predicates = sum(len(numbers) for thread, numbers in waits if thread.environment is e)
    return {
        Item.HANDLES: sum(c.offer is None for c in e.table),
        Item.DESCRIPTORS: len(extents) + pieces + 4 * len(e.outgoing) + 2 * rings + e.starts.held,
        Item.BINDINGS: len(e.outgoing),
        Item.THREADS: len(e.threads),
        Item.CHILDREN: len(parts),
        Item.RESTARTS: sum(part.costs.get(Item.RESTARTS, 0) for part in parts),
        Item.KEPT: sum(part.costs.get(Item.KEPT, 0) for part in parts),
        Item.NAMES: len(
            [name for name in names if kernel.kip.owner(name) in {t.id for t in e.threads.values()}]
        ),
        Item.ALARMS: sum(c.deadline is not None for c in e.table),
        Item.WAITS: sum(n for (_, item), n in e.budget.charges.items() if item is Item.WAITS),
        Item.OFFERS: sum(c.offer is not None and c.offer.payer is e for c in everything),
        Item.UPCALLS: len(e.backlog) + predicates,
        Item.PREDICATES: predicates,
    }


def _budgets(kernel: Kernel, rows: list[Environment], everything: list[Capability]) -> Iterator[str]:
    budgets = {e.budget: e for e in rows}
    for e in rows:
        budget, true = e.budget, counted(kernel, e, everything)
        if budget.used != [true[item] for item in Item]:
            wrong = {i.name: (budget.used[i], true[i]) for i in Item if budget.used[i] != true[i]}
            yield f"the budget of {e} counts otherwise than there is: {wrong}"
        for item in Item:
            given = sum(part.limit[item] for part in budget.parts) if item.divided else 0
            if budget.given[item] != given:
                yield f"{e} gave {budget.given[item]} of {item.name}, its children have {given}"
            # What is shared with an environment may become its own to account for, whatever it may have.
            if item is not Item.DESCRIPTORS and budget.used[item] + budget.given[item] > budget.limit[item]:
                yield f"{e} has {budget.used[item]} and gave {given} of {budget.limit[item]} {item.name}"
        at = BUDGETS + e.number * BUDGET_ROW
        shown = kernel.kip._buffer[at : at + BUDGET_ROW].cast("I").tolist()
        own = [max(limit - given, 0) for limit, given in zip(budget.limit, budget.given, strict=True)]
        if shown != [word for pair in zip(budget.used, own, strict=True) for word in pair]:
            yield f"the KIP shows another budget of {e}: {shown}"
    for budget in budgets:
        if any(part.payer is not budget or part not in budgets for part in budget.parts):
            yield f"{budget.name} pays for others than there are"
        if budget.payer is not None and (budget.payer not in budgets or budget not in budget.payer.parts):
            yield f"the payer of {budget.name} does not know it"

"""Page faults: who waits for which page, and until when.

A fault that the kernel's own records answer is answered at once: a page that is supplied is shown, and a first
write is noted. Any other waits for the pager, which is told once of each page, however many touch it. When it has
not supplied the page in time, or is gone, the access ends in SIGBUS, and the record of a program that dies of that
names the pager.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted, PageFault
from kernel.abi.budget import Item
from kernel.abi.errors import Fault, Refusal
from kernel.abi.events import Event
from kernel.abi.limits import FRAME_SIZE, MAX_FAULTS, MAX_PAGERS, MAX_VIEWS, MAX_WINDOWS
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from kernel.errors import Refused
from kernel.jobs import Latch
from kernel.objects import GUARDED, IDLE, SUPPLIED, WRITTEN, Object, Window

if TYPE_CHECKING:
    from hwmodel.machine import Machine
    from kernel.capability import Holder
    from kernel.environment import Environment
    from kernel.exposure import Exposure
    from kernel.jobs import Jobs, Steps

_BUS_ERROR = -7
"""The status of what died of SIGBUS."""
_MOMENT = 5_000_000
"""After how many ns what the host would not show is shown again, and what a full gate did not take told again."""
_LOADED, _STORED = int(Label.PAGE_FAULT + Rights.READ), int(Label.PAGE_FAULT + Rights.WRITE)
_TAKEN = "it has no right any more to what it mapped, of"
_LOOKS = 2000
"""Windows that are looked at to find out who waits for whom."""


@dataclass(slots=True, eq=False)
class Pending:
    """A page of an object that is waited for."""

    object: Object
    page: int
    until: int
    waiting: dict[Window, bool] = field(default_factory=dict)
    """In which windows, and whether to write."""
    told: bool = False
    """Its pager was told."""


class Faults:
    """All windows, and all page faults that wait."""

    def __init__(
        self,
        machine: "Machine",
        exposure: "Exposure",
        jobs: "Jobs",
        end: "Callable[[Environment, Fault, str], object]",
    ) -> None:
        """Start with none; *end* ends an environment whose access cannot be made to fail."""
        self._clock = machine.clock
        self._exposure = exposure
        self._jobs = jobs
        self._end = end
        self._windows: dict[Holder, list[Window]] = {}
        self._things: dict[Holder, dict[Object, None]] = {}
        """What each pager pages."""
        self._pending: dict[Object, dict[int, Pending]] = {}
        self._timed, self._late = set[Object](), set[Object]()
        """Those with an alarm for what came first: all wait as long; those that are looked at again in a moment."""
        self._failed: dict[Environment, str] = {}
        """Whom an access failed, and why."""

    # ------------------------------------------------------------------------------------------------ windows

    def open(self, window: Window) -> "Steps[None]":
        """Answer the faults of *window*; it takes the place of others there. Raises Refused, Exhausted."""
        environment, (address, size) = window.environment, window.whole
        thing = window.object
        assert thing is not None
        if sum(not _overlap(known, address, size) for known in self._of(environment)) >= MAX_WINDOWS:
            raise Refused(Refusal.TOO_MANY_WINDOWS, f"{environment.name} has {MAX_WINDOWS}")
        if len(thing.windows) >= MAX_VIEWS:
            raise Refused(Refusal.TOO_MANY_WINDOWS, f"{MAX_VIEWS} are onto {thing!r}")
        self._check_chain(environment, thing.pager)
        self._windows.setdefault(environment, []).append(window)
        thing.windows[window] = None
        answers: list[bool | Exhausted] = []
        window.space.watch(
            address, size, answers.append, writable=bool(window.capability.rights & Rights.WRITE)
        )
        yield from self.settled((window,))
        (is_there,) = answers
        if is_there is not True and window in self._of(environment):
            self._windows[environment].remove(window)
            self._drop(window)
        if isinstance(is_there, Exhausted):
            raise is_there
        if not is_there:
            raise Refused(
                Refusal.BAD_ARGUMENT, f"nothing that can be paged is mapped at {address:#x}+{size:#x}"
            )
        if window.object is None:
            raise Refused(Refusal.STALE_HANDLE, f"handle {window.capability.handle:#x}")
        self.shut(environment, lambda one: one is not window and _overlap(one, address, size), window.whole)
        window.space.wake(address, size)  # who waited in those

    def settled(self, windows: "Iterable[Window]") -> "Steps[None]":
        """Wait until all is done that was asked of the address spaces of *windows*."""
        latches = {window.space: Latch() for window in windows}
        for space, latch in latches.items():
            space.settled(latch.open)
        yield from latches.values()

    def shut(
        self, environment: "Environment", which: Callable[[Window], bool], spared: tuple[int, int] = (0, 0)
    ) -> None:
        """End the windows of *environment* that *which* says: but for what is *spared*, the host answers there."""
        for window in [window for window in self._of(environment) if which(window)]:
            self._windows[environment].remove(window)
            self._drop(window)
            (start, size), (first, length) = window.whole, spared
            for low, high in ((start, min(start + size, first)), (max(start, first + length), start + size)):
                if low < high:
                    window.space.unwatch(low, high - low)
        if not self._of(environment):
            self._windows.pop(environment, None)

    def divide(self, window: Window, page: int) -> None:
        """Make two of *window*, the second from *page* on."""
        address, count = window.span(page, window.count)[0], window.first + window.count - page
        behind = replace(window, address=address, first=page, count=count, waits={})
        window.count -= count
        self._windows[window.environment].append(behind)
        thing = window.object
        if thing is None:
            window.closed[behind] = None
            return
        thing.windows[behind] = None
        for waited in [waited for waited in window.waits if waited in behind]:
            behind.waits[waited] = window.waits.pop(waited)
            waiting = self._pending[thing][waited].waiting
            waiting[behind] = waiting.pop(window)

    def end(self, window: Window) -> None:
        """The memory of *window* is cut: nobody needs to watch it."""
        self.shut(window.environment, lambda known: known is window)

    def forget(self, environment: "Environment", status: int) -> None:
        """*environment* ended with *status*; if of an access that failed, its record says so."""
        for window in self._windows.pop(environment, []):
            self._drop(window)
        why = self._failed.pop(environment, "")
        if why and status == _BUS_ERROR and not environment.fault:
            environment.fault, environment.detail = Fault.NO_PAGE, why

    def _drop(self, window: Window) -> None:
        """Let nobody wait in *window*."""
        thing, window.object = window.object, None
        if thing is None:
            window.closed.pop(window, None)
            return
        del thing.windows[window]
        for page in window.waits:
            pending = self._pending[thing][page]
            del pending.waiting[window]
            self._settle(pending)
        window.waits.clear()

    def _of(self, environment: "Holder") -> list[Window]:
        return self._windows.get(environment, [])

    def _check_chain(self, environment: "Environment", pager: "Holder | None") -> None:
        """Refuse when *pager* would wait for *environment*, or too many for one another."""
        below: dict[Holder, int] = {}
        try:
            below, above = _levels(pager, self._pagers_of), _levels(environment, self._users_of)
            deep = len(set(above.values())) + len(set(below.values())) > MAX_PAGERS + 1
        except OverflowError:
            deep = True
        if deep or environment in below:
            raise Refused(
                Refusal.PAGER_CIRCLE, f"{environment.name} by {pager.name if pager is not None else 'nobody'}"
            )

    def before(self, pager: "Holder") -> Container["Holder"]:
        """Return for whom *pager* may wait, itself included; all who have windows, where those are many."""
        try:
            return _levels(pager, self._pagers_of)
        except OverflowError:
            return self._windows

    def _pagers_of(self, user: "Holder") -> "Iterator[Holder | None]":
        return (window.object.pager for window in self._of(user) if window.object is not None)

    def _users_of(self, pager: "Holder") -> "Iterator[Holder | None]":
        return (window.environment for thing in self._things.get(pager, ()) for window in thing.windows)

    def appoint(self, thing: Object, before: "Holder | None", after: "Holder | None") -> None:
        """The pager of *thing* is another one."""
        if before is not None:
            del self._things[before][thing]
            if not self._things[before]:
                del self._things[before]
        if after is not None:
            self._things.setdefault(after, {})[thing] = None

    # ------------------------------------------------------------------------------------------------- faults

    def arrived(self, environment: "Environment", fault: "PageFault") -> None:
        """A thread of *environment* waits for a page."""
        address = fault.address
        for window in self._of(environment):
            if window.address <= address < window.address + window.count * FRAME_SIZE:
                page, thing = window.page(address), window.object
                words = page | fault.write << 32, thing.first if thing is not None else 0
                self._exposure.trace.record(Event.PAGE_FAULT, environment.number, *words)
                self._answer(window, page, write=fault.write, there=fault.protected)
                return
        if environment.body.space is not None:
            environment.body.space.wake(address, FRAME_SIZE)

    def supplied_page(self, thing: Object, page: int) -> "Steps[None] | None":
        """One page is there: show it to who waits for it; in steps, if those are many."""
        pending = self._pending.get(thing, {}).get(page)
        if pending is None or len(pending.waiting) > 1:
            return self._again(pending) if pending is not None else None
        for window in list(pending.waiting):
            self._answer(window, page, write=self._release(pending, window))
        self._settle(pending)
        return None

    def supplied(self, thing: Object, first: int, count: int) -> "Steps[None]":
        """The pages are there: show them to who waits for one, and with it the run around."""
        table = self._pending.get(thing, {})
        windows: dict[Window, None] = {}
        for pending in [table[page] for page in range(first, first + count) if page in table]:
            windows.update(dict.fromkeys(pending.waiting))
            yield from self._again(pending)
        for window in windows if count > 1 else ():
            if window.object is thing and thing.states.find(0, first, first + count) < 0:  # else one by one
                for _, run in thing.pieces.runs(range(first, first + count)):
                    window.space.place(*window.span(run.start, len(run)), bool, writable=False)
                yield None

    def review(self, thing: Object, gone: Container[int] | None = None) -> None:
        """Whatever the faults of *thing* wait for may have changed: look at each; its pager hears of the *gone*."""
        if thing in self._pending:
            self._jobs.begin(self._review(thing, gone))

    def _review(self, thing: Object, gone: Container[int] | None) -> "Steps[None]":
        for pending in list(self._pending[thing].values()):
            pending.told = pending.told and gone is not None and pending.page not in gone
            yield from self._again(pending)

    def _again(self, pending: Pending) -> "Steps[None]":
        """Look at each access that waits for a page as if it came now."""
        for window in list(pending.waiting):
            if window in pending.waiting:
                self._answer(window, pending.page, write=self._release(pending, window))
                yield None
        self._settle(pending)

    def _answer(self, window: Window, page: int, *, write: bool, there: bool = False) -> None:
        """Show the page, if it is supplied; otherwise have the pager told. *there*: it is seen, and protected."""
        thing = window.object
        if thing is None:
            self._poison(window, page, f"{_TAKEN} {window.pager}", there=there)
            return
        state = thing.states[page]
        if state & SUPPLIED and not (write and state & GUARDED):
            self._show(window, thing, page, write=write)
        elif thing.pager is None:
            self._poison(window, page, f"page {page} of {thing!r}: {thing.pager_name} is gone", there=there)
        else:
            pending = self._wait(window, thing, page, write=write)
            if pending is not None and not pending.told and page not in thing.leaving:
                pending.told = self._tell(window, thing, thing.pager, page, write=write)
                if not pending.told:
                    self._in_a_moment(thing)

    def _show(self, window: Window, thing: Object, page: int, *, write: bool) -> None:
        """Show a page that is supplied; it counts as used, and as written if it is, from now on."""
        thing.states[page] = thing.states[page] & ~IDLE | WRITTEN * write
        hidden = partial(self._hidden, window, page, write)
        window.space.place(window.at(page), FRAME_SIZE, hidden, writable=write)

    def _hidden(self, window: Window, page: int, write: bool, full: Exhausted | None) -> None:  # noqa: FBT001
        """A page could not be shown: the host is *full*, or nothing is there.

        What is mapped there is the program's affair: that it is empty says nothing about the object.
        """
        thing = window.object
        if page not in window:  # it was made two meanwhile
            self.arrived(window.environment, PageFault(window.at(page), write, protected=False))
        elif full is not None and thing is not None:
            if self._wait(window, thing, page, write=write) is not None:
                self._in_a_moment(thing)
        elif thing is not None and thing.states[page] & SUPPLIED:
            self._poison(window, page, f"page {page} of {thing!r} was supplied, and nothing is mapped")
        else:
            self._answer(window, page, write=write)

    def _wait(self, window: Window, thing: Object, page: int, *, write: bool) -> Pending | None:
        """Have an access wait for the page; None: it fails, for its program waits for too many."""
        waits = sum([len(known.waits) for known in self._of(window.environment)])
        if waits >= MAX_FAULTS and page not in window.waits:
            self._poison(window, page, f"{window.environment.name} waits for {waits} pages already")
            return None
        table = self._pending.setdefault(thing, {})
        pending = table.get(page)
        if pending is None:
            pending = table[page] = Pending(thing, page, self._clock.now() + thing.patience)
            if thing not in self._timed:
                self._set_alarm(thing, pending.until)
        pending.waiting[window] = write or pending.waiting.get(window, False)
        window.waits[page] = None
        return pending

    def _release(self, pending: Pending, window: Window) -> bool:
        """Let an access wait no more; say whether it is a write."""
        del window.waits[pending.page]
        return pending.waiting.pop(window)

    def _in_a_moment(self, thing: Object) -> None:
        """Look again at what waits for pages of *thing*."""
        if thing not in self._late:
            self._late.add(thing)
            self._clock.alarm(self._clock.now() + _MOMENT, lambda: self._look_again(thing))

    def _look_again(self, thing: Object) -> None:
        self._late.discard(thing)
        self.review(thing, ())

    def _tell(self, window: Window, thing: Object, pager: "Holder", page: int, *, write: bool) -> bool:
        """Tell the pager; False: its gate is full, but for what else it is to be told."""
        assert thing.owner is not None
        if pager.budget.room(Item.UPCALLS) < len(pager.backlog):
            return False
        window.space.told(pager.body)
        words = (window.at(page), 0, thing.owner.handle, page)
        return self._exposure.tell(
            pager, _STORED if write else _LOADED, words, sender=window.environment.thread, thread=thing.thread
        )

    # ------------------------------------------------------------------------------------------ when it fails

    def _set_alarm(self, thing: Object, until: int) -> None:
        self._timed.add(thing)
        self._clock.alarm(until, lambda: self._jobs.add(self._expire(thing)))

    def _expire(self, thing: Object) -> "Steps[None]":
        table, now = self._pending.get(thing, {}), self._clock.now()
        while table and (due := next(iter(table.values()))).until <= now:
            due.until = now + thing.patience  # for who comes while these fail
            table[due.page] = table.pop(due.page)
            what = f"{thing.pager_name} did not supply it in {thing.patience / 1e6:g} ms"
            yield from self._fail([due], what, lambda _: True)
        self._timed.discard(thing)
        if table := self._pending.get(thing, {}):
            self._set_alarm(thing, next(iter(table.values())).until)

    def fail(self, thing: Object, closed: dict[Window, None]) -> None:
        """Nobody will answer the faults of *thing* in windows that were *closed*."""
        table = self._pending.get(thing, {})
        if table:
            failing = [table[page] for window in closed for page in window.waits]
            name = thing.pager_name
            what = f"{_TAKEN} {name}" if thing.pager is not None else f"{name} is gone"
            self._jobs.begin(self._fail(failing, what, lambda window: window.object is None))

    def _fail(self, failing: list[Pending], what: str, which: Callable[[Window], bool]) -> "Steps[None]":
        """End the accesses to these pages of an object in the windows that *which* says."""
        for pending in failing:
            for window in [window for window in pending.waiting if which(window)]:
                if window in pending.waiting:
                    self._release(pending, window)
                    thing, page = pending.object, pending.page
                    why = f"page {page} of {thing!r}: {what}"
                    self._poison(window, page, why, there=bool(thing.states[page] & GUARDED))
                    self._settle(pending)
                    yield None

    def _poison(self, window: Window, page: int, why: str, *, there: bool = False) -> None:
        """Make an access end in SIGBUS; where that cannot be, for the page is *there*, its program ends."""
        environment = window.environment

        def failed(full: Exhausted | None) -> None:
            if environment.alive and (there or full is not None):
                self._end(environment, Fault.NO_PAGE, why if full is None else f"{why}; {full}")

        if not window.moves:
            self._failed[environment] = why
            window.space.poison(*window.span(page, 1), failed)

    def _settle(self, pending: Pending) -> None:
        """Forget the page if nobody waits for it. Twice is harmless."""
        table = self._pending.get(pending.object, {})
        if not pending.waiting and table.get(pending.page) is pending:
            del table[pending.page]
            if not table:
                del self._pending[pending.object]


def _overlap(window: Window, address: int, size: int) -> bool:
    start, length = window.whole
    return start < address + size and address < start + length


def _levels(
    top: "Holder | None", after: "Callable[[Holder], Iterator[Holder | None]]"
) -> "dict[Holder, int]":
    """Return who can be reached from *top*, and in how many steps. Raises OverflowError: they are too many."""
    found: dict[Holder, int] = {} if top is None else {top: 0}
    waiting, looks = list(found), 0
    for at in waiting:
        for one in after(at):
            looks += 1
            if looks > _LOOKS:
                raise OverflowError
            if one is not None and one not in found and found[at] < MAX_PAGERS:
                found[one] = found[at] + 1
                waiting.append(one)
    return found

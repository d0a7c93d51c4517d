"""Paged objects: memory whose pages appear when they are touched, from the program that made it.

    def fill(store: pager.PagedObject, fault: pager.Fault) -> None:
        store.supply(fault.page, b"what is to be there")

    memory.promise(4)
    store = pager.PagedObject(env, memory.ram(), pages=100, frames=4, on_fault=fill)
    ...                                          # pass `store.extent` on, and receive: `serve`, `env.thread.wait`

Who was started `paged` maps it by `vm.map`, as any extent, and waits at a page that is not there. `fill` is called
in the middle of whatever the pager receives, so a pager waits for messages; it must not wait for who waits for it.
A page that is not supplied in time, and every page when the pager is gone, is a bus error.

At most `frames` pages are there at a time. To make room, `guard` pages, save those that were WRITTEN, and `evict`
them; not what was supplied a moment ago, or who waits for it may never find it.

A system call of who maps it (read(2) into it, say) does not wait: it fails with EFAULT where a page is absent, or
to be written for the first time. `vm.touch` the pages first. On the simulated machine every access needs that.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE, MAX_RUN
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from kernel.abi.traps import PageState, Protection
from libexo.extent import Extent, Ram

if TYPE_CHECKING:
    from kernel.abi.gate import Upcall
    from libexo.environment import Environment

__all__ = ["GRACE", "Fault", "PageState", "PagedObject"]

GRACE = 0.0002
"""Seconds after which a page that was supplied may be evicted: earlier, who waited for it may never see it."""
_CONTROL = int(Rights.CONTROL)
_SUPPLIED, _GUARDED = int(PageState.SUPPLIED), int(PageState.GUARDED)
"""Members of an enum take longer than all that is done with them."""
_STATES = tuple(PageState(state) for state in range(16))
_ONCE_GUARDED = bytes(state | (_GUARDED if state & _SUPPLIED else 0) for state in range(256))
"""What each state is when it was guarded."""
_LABELS = tuple(int(Label.PAGE_FAULT + access) for access in (Rights.READ, Rights.WRITE))


class Fault(NamedTuple):
    """A page that somebody waits for."""

    page: int
    write: bool
    """It is to be written: it was absent, or guarded."""
    thread: int
    """The first of the program that waits."""


OnFault = Callable[["PagedObject", Fault], object]


class PagedObject:
    """Memory whose pages the calling program supplies."""

    def __init__(
        self,
        environment: "Environment",
        ram: Ram | Extent,
        pages: int,
        frames: int,
        on_fault: OnFault,
        *,
        patience: float = 1.0,
    ) -> None:
        """Make one of *pages*, of which *frames* carved from *ram* are there at a time; *on_fault* answers.

        A fault waits for *patience* seconds. A successor gives the extent of its predecessor's in place of *ram*,
        before it receives anything: it is told of each page that is waited for. Raises TrapRefused, OSError.
        """
        self._environment = environment
        self._sys = environment.sys
        self._store = environment.host.store
        self.pages, self.frames = pages, frames
        self.extent = self._created(ram, patience) if isinstance(ram, Ram) else ram
        """To be passed on; `read_only()` of it to who may only read. Who got it is no pager of it."""
        self._on_fault = on_fault
        try:
            self._known = self._found() if self.extent is ram else bytearray(pages)
            """What each page is, by what we did."""
            self.view = environment.views.map(self.extent.handle)
            """All of it, as the pager sees it: what it stores there nobody sees before it is supplied."""
        except BaseException:
            self._sys.drop(self.extent.handle)
            raise
        _objects_of(environment)[self.extent.handle] = self

    def _created(self, ram: Ram, patience: float) -> Extent:
        made = self._sys.object_create(
            traps.ObjectCreate(
                ram.handle,
                self.frames,
                self.pages,
                microseconds=int(patience * 1_000_000),
                thread=self._environment.current.id,
            )
        )
        return Extent(made.extent, self.pages, made.first, ram.rights & ~_CONTROL)

    def _found(self) -> bytearray:
        """Return what the pages of a predecessor's are."""
        runs = ((first, min(MAX_RUN, self.pages - first)) for first in range(0, self.pages, MAX_RUN))
        return bytearray().join(self._sys.protect(self.extent.handle, *run) for run in runs)

    def known(self, page: int) -> int:
        """Return what a page is (`PageState`) by what was done to it here: writes that came since are not in it."""
        return self._known[page]

    def _note(self, page: int, count: int, state: int) -> None:
        if count == 1:
            self._known[page] = state
        else:
            self._known[page : page + count] = bytes([state]) * count

    def supply(
        self, page: int, data: bytes | memoryview = b"", count: int = 1, *, quiet: bool = False
    ) -> None:
        """Store *data* from *page* on, and show *count* pages to who waits for them.

        Raises TrapRefused (NO_FRAMES: evict some). One that is *quiet* takes the caller less: it does not wait for
        the kernel, and where it is refused who waits goes on waiting. That is for who knows that there is room.
        """
        if data:
            self.store(page, data)
        self._sys.supply(self.extent.handle, page, count, quiet=quiet)
        self._note(page, count, _SUPPLIED)

    def supply_runs(self, runs: Sequence[range]) -> list[range]:
        """Supply up to MAX_BATCH runs of pages, stored to before, in one crossing; return those there was room for.

        Raises TrapRefused when it is not ours any more.
        """
        batch = [traps.Supply(self.extent.handle, run.start, len(run)) for run in runs]
        done = []
        for run, outcome in zip(runs, self._sys.batch(batch)[0], strict=True):
            if outcome is None:
                self._note(run.start, len(run), _SUPPLIED)
                done.append(run)
            elif outcome.refusal == Refusal.STALE_HANDLE:
                raise outcome
        return done

    def store(self, page: int, data: bytes | memoryview) -> None:
        """Store *data* from *page* on."""
        self._store(self.view, page * FRAME_SIZE, data)

    def load(self, page: int, count: int = 1) -> bytes:
        """Return what is in pages that are there. Raises MemoryTaken where loss is expected, and it was taken."""
        self._environment.host.touch(self.view, page * FRAME_SIZE, count * FRAME_SIZE, write=False)
        data = bytes(self.view[page * FRAME_SIZE : (page + count) * FRAME_SIZE])
        self._environment.views.check((self.extent.handle,))
        return data

    def states(self, page: int = 0, count: int = 1) -> list[PageState]:
        """Return what pages are."""
        return self._protect(page, count, Protection.LOOK)

    def clean(self, page: int, count: int = 1) -> list[PageState]:
        """Have the next write to each page noted as WRITTEN; return what they were."""
        return self._protect(page, count, Protection.CLEAN)

    def guard(self, page: int, count: int = 1) -> list[PageState]:
        """Have a write wait until the page is supplied again, or evicted; return what they were."""
        before = self._sys.protect(self.extent.handle, page, count, Protection.GUARD)
        self._known[page : page + count] = before.translate(_ONCE_GUARDED)
        return [_STATES[state] for state in before]

    def age(self, page: int, count: int = 1) -> list[PageState]:
        """Have the next access to each page noticed, it is IDLE until then; return what they were.

        A page is IDLE in the next answer if it was not accessed since this one. A page that two programs map is
        never so, and of one nobody waits for the next access: it costs its program a fault that the kernel answers.
        Raises TrapRefused (HOST_FULL) where the host does not do that.
        """
        self._environment.host.unsee(self.view, page * FRAME_SIZE, count * FRAME_SIZE)
        return self._protect(page, count, Protection.AGE)

    def evict(self, page: int, count: int = 1) -> int:
        """Make pages absent, but those that are WRITTEN and not guarded; return how many were there before."""
        gone = self._sys.evict(self.extent.handle, page, count)
        if gone == count:
            self._note(page, count, 0)
        else:
            self._known[page : page + count] = bytes(self.states(page, count))
        return gone

    def sweep(self) -> None:
        """Take from everybody what is in no supplied page: who maps it without a window puts zeros there.

        They take room beyond `frames`. Store nothing meanwhile.
        """
        for page in range(0, self.pages, MAX_RUN):
            run = self._known[page : page + MAX_RUN]
            for absent in re.finditer(rb"\0+", run):
                self._sys.evict(self.extent.handle, page + absent.start(), absent.end() - absent.start())

    def expect_loss(self) -> None:
        """From now on, an access of ours to it when it was taken raises nothing: a trap, or `load`, tells."""
        self._environment.views.lent((self.extent.handle,))

    def close(self) -> None:
        """Give it up: every access to it is a bus error. Twice is harmless."""
        if _objects_of(self._environment).pop(self.extent.handle, None) is self:
            self._on_fault = _ignore  # it may lead back to us, and our view is to go with us
            self._sys.drop(self.extent.handle)

    def _protect(self, page: int, count: int, how: Protection) -> list[PageState]:
        return [_STATES[state] for state in self._sys.protect(self.extent.handle, page, count, how)]

    def faulted(self, fault: Fault) -> None:
        """Somebody waits for a page, unless it was supplied since."""
        state = self._known[fault.page]
        if not state & _SUPPLIED or (fault.write and state & _GUARDED):
            self._on_fault(self, fault)


def _ignore(_store: PagedObject, _fault: Fault) -> None:
    """Answer nothing."""


_objects: "WeakKeyDictionary[Environment, dict[int, PagedObject]]" = WeakKeyDictionary()
"""What each environment pages, by handle."""


def _objects_of(environment: "Environment") -> dict[int, PagedObject]:
    known = _objects.get(environment)
    if known is None:
        found = known = _objects[environment] = {}
        for label in _LABELS:
            environment.on(label, lambda upcall: _tell(found, upcall))
    return known


def _tell(found: dict[int, PagedObject], upcall: "Upcall") -> None:
    """Have the object answer, unless it was given up meanwhile."""
    _, _, handle, page = upcall.words
    if handle in found:
        found[handle].faulted(Fault(page, upcall.label == _LABELS[1], upcall.sender))

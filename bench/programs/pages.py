"""A pager, for who measures what it takes: all pages of its object are alike."""

import os
from time import monotonic_ns

from bench.references.userfault import AROUND, CONTENT, PAGES
from libexo.extent import Extent
from libexo.pager import Fault, PagedObject, PageState
from libexo.stub import Interface, operation, serve
from servers.memory.api import Memory

RUN = CONTENT * AROUND
SOME = 100
"""Pages of Appel and Li's measures."""
STRIDE = 37
"""From one of them to the next, so that no two are neighbours."""


class Pages(Interface, label=0x7B):
    """The object, and what is to be done with it."""

    @operation(1)
    def open(self) -> Extent:
        """Return it."""

    @operation(2)
    def clear(self, around: int) -> None:
        """Make all pages absent; from now on supply *around* of them for a fault."""

    @operation(3)
    def fill(self) -> None:
        """Have the first pages there; from now on, a fault lets go what was guarded."""

    @operation(4)
    def guard(self, swaps: bool) -> None:  # noqa: FBT001
        """Guard them; from now on a fault guards what the last one let go, if it *swaps*."""

    @operation(5)
    def clean(self) -> int:
        """Have the next write to each of them noted; return how many were written."""

    @operation(6)
    def timed(self, what: str, count: int) -> list[int]:
        """Do that so often, and return what each took, in nanoseconds."""


class PagesServer(Pages):
    """Serves `Pages`."""

    def __init__(self) -> None:
        """Make the object when it is asked for."""
        self._object: PagedObject | None = None
        self._around = 1
        """Pages supplied for a fault; 0: what is there is let go."""
        self._swaps = False
        self._last = 0

    def open(self) -> Extent:
        """Carve it."""
        memory = Memory.connect(self.environment)
        memory.promise(PAGES)
        self._object = PagedObject(self.environment, memory.ram(), PAGES, PAGES, self._fill)
        return self._object.extent

    def clear(self, around: int) -> None:
        """Nobody touches it meanwhile."""
        store = self._store()
        store.guard(0, PAGES)
        store.evict(0, PAGES)
        self._around = around

    def fill(self) -> None:
        """All are alike."""
        self._around = 0
        self._store().supply(0, CONTENT * SOME, SOME)

    def guard(self, swaps: bool) -> None:  # noqa: FBT001
        """Nobody touches them meanwhile."""
        self._swaps = swaps
        self._store().guard(0, SOME)

    def clean(self) -> int:
        """Ask the kernel, which noted it."""
        return sum(PageState.WRITTEN in state for state in self._store().clean(0, SOME))

    def timed(self, what: str, count: int) -> list[int]:
        """Undo each, so that the next finds what it found."""
        store = self._store()

        def protect(number: int) -> None:
            store.guard(number * STRIDE % SOME)

        def let_go(number: int) -> None:
            store.supply(number * STRIDE % SOME)

        def protect_all(_number: int) -> None:
            store.guard(0, SOME)

        def let_all_go(_number: int) -> None:
            store.supply(0, count=SOME)

        done, undo = {
            "prot1": (protect, let_go),
            "prot100": (protect_all, let_all_go),
            "unprot100": (let_all_go, protect_all),
        }[what]
        if done is let_all_go:
            protect_all(0)
        samples = []
        for number in range(count):
            start = monotonic_ns()
            done(number)
            samples.append(monotonic_ns() - start)
            undo(number)
        return samples

    def _store(self) -> PagedObject:
        assert self._object is not None
        return self._object

    def _fill(self, store: PagedObject, fault: Fault) -> None:
        if not self._around:
            if self._swaps:
                store.guard(self._last)
                self._last = fault.page
            store.supply(fault.page, quiet=True)
        elif self._around == 1:
            store.supply(fault.page, CONTENT, quiet=True)
        else:
            store.supply(fault.page // AROUND * AROUND, RUN, AROUND, quiet=True)


if __name__ == "__main__":
    serve(PagesServer(), name=os.environ["EXO_NAME"])

"""A pager, for who measures what it takes: all pages of its object are alike."""

import os

from bench.references.userfault import AROUND, CONTENT, PAGES
from libexo.extent import Extent
from libexo.pager import Fault, PagedObject
from libexo.stub import Interface, operation, serve
from servers.memory.api import Memory

RUN = CONTENT * AROUND


class Pages(Interface, label=0x7B):
    """The object, and what is to be done with it."""

    @operation(1)
    def open(self) -> Extent:
        """Return it."""

    @operation(2)
    def clear(self, around: int) -> None:
        """Make all pages absent; from now on supply *around* of them for a fault."""


class PagesServer(Pages):
    """Serves `Pages`."""

    def __init__(self) -> None:
        """Make the object when it is asked for."""
        self._object: PagedObject | None = None
        self._around = 1

    def open(self) -> Extent:
        """Carve it."""
        memory = Memory.connect(self.environment)
        memory.promise(PAGES)
        self._object = PagedObject(self.environment, memory.ram(), PAGES, PAGES, self._fill)
        return self._object.extent

    def clear(self, around: int) -> None:
        """Nobody touches it meanwhile."""
        assert self._object is not None
        self._object.guard(0, PAGES)
        self._object.evict(0, PAGES)
        self._around = around

    def _fill(self, store: PagedObject, fault: Fault) -> None:
        if self._around == 1:
            store.supply(fault.page, CONTENT)
        else:
            store.supply(fault.page // AROUND * AROUND, RUN, AROUND)


if __name__ == "__main__":
    serve(PagesServer(), name=os.environ["EXO_NAME"])

"""A pager with an object, and programs with windows onto it, moved by a test."""

from kernel.abi import traps
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from kernel.abi.traps import PageState
from kernel.objects import Object
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre
from tests.libexo import moves

PAGES, FRAMES = 8, 4
LOAD, STORE = int(Label.PAGE_FAULT + Rights.READ), int(Label.PAGE_FAULT + Rights.WRITE)
SUPPLIED, WRITTEN, GUARDED, IDLE = PageState


def mapped(puppet: Puppet, handle: int) -> memoryview:
    """Map an extent without a word to the kernel about where."""
    found, descriptor = puppet.sys.map_extent(handle)
    return puppet.host.map(descriptor, found.count * FRAME_SIZE, writable=found.writable)


class Paging:
    """A pager with an object, and programs that have a window onto it."""

    def __init__(self, stage: Theatre, name: str = "pager", *, keeps: bool = False) -> None:
        self.stage, count = stage, FRAMES
        self.pager = stage.puppet(name, holds=("ram",), keeps=keeps)
        made = self.pager.sys.object_create(traps.ObjectCreate(self.pager.handles[0], count, PAGES))
        self.handle = made.extent
        self.view = self.pager.env.views.map(self.handle)
        self.parts: list[int] = []
        self.object: Object = next(c.resource for c in self.pager.caps if c.handle == self.handle)  # type: ignore[assignment]

    def program(
        self,
        rights: Rights = Rights.READ | Rights.WRITE,
        name: str = "program",
        lent: int = 0,
        first: int = 0,
    ) -> "Program":
        """Start one that has a window onto all of it, by *lent* or what it was made with.

        Where *lent* is to a part, *first* is the page with which that begins.
        """
        return Program(self, self.stage.puppet(name), rights, lent or self.handle, first)

    def part(self, first: int, count: int, rights: int = int(Rights.READ | Rights.WRITE)) -> int:
        """Derive a part, and map again what moved by that."""
        made = self.pager.sys.derive(self.handle, rights | Rights.TRANSFER, first, count)
        self.stage.settle()
        moves.pump_gate(self.pager.env)
        self.parts.append(made)
        return made

    def store(self, page: int, byte: int, count: int = 1) -> None:
        """Store *byte* at the beginning of pages."""
        for each in range(page, page + count):
            self.pager.host.touch(self.view, each * FRAME_SIZE, 1, write=True)
            self.view[each * FRAME_SIZE] = byte

    def supply(self, page: int, byte: int = 7, count: int = 1) -> None:
        """Store and supply pages."""
        self.store(page, byte, count)
        self.pager.sys.supply(self.handle, page, count)

    def states(self) -> list[int]:
        """What the kernel says of each page."""
        return list(self.pager.sys.protect(self.handle, 0, PAGES))

    def told(self) -> list[tuple[int, int, int]]:
        """Which faults the pager was told of: label, from whom, page."""
        return [(u.label, u.sender, u.words[3]) for u in self.pager.upcalls() if u.label in (LOAD, STORE)]


class Program:
    """A puppet with a window; an access goes on in the background."""

    def __init__(self, paging: Paging, puppet: Puppet, rights: Rights, lent: int, first: int = 0) -> None:
        self.puppet, self.stage, self.lent, self.first = puppet, paging.stage, lent, first
        self.handle = passed(paging.pager, lent, puppet, rights)
        self.view = puppet.env.views.map(self.handle)
        self.address = puppet.host.address(self.view)
        self.pages = len(self.view) // FRAME_SIZE

    @property
    def thread(self) -> int:
        return self.puppet.thread

    def touch(self, page: int, *, write: bool = False) -> bool:
        """Begin an access to a page of the object, or try it again; say whether that is there."""
        there = self.puppet.body.touch(self.view, (page - self.first) * FRAME_SIZE, write=write) is None
        self.stage.settle()
        return there

    def maps_again(self) -> None:
        """Take in what the kernel told it, and map what moved."""
        moves.pump_gate(self.puppet.env)

    def byte(self, page: int) -> int:
        return self.view[(page - self.first) * FRAME_SIZE]

    def fails(self, page: int, *, write: bool = False) -> bool:
        """Whether the access is a bus error."""
        try:
            self.touch(page, write=write)
        except ValueError:
            return True
        return False

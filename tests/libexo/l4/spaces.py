"""Address spaces of puppets, and what the IPC engine does between two of them, in the order a test writes down."""

from collections.abc import Iterator
from contextlib import contextmanager

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Kind
from kernel.abi.traps import Accepted
from libexo import l4
from libexo.l4.space.buffers import BadAddress
from libexo.l4.space.space import AddressSpace, space_of
from tests.kernel.puppets import Puppet, Theatre, theatre

PAGE = FRAME_SIZE
BASE = 0x10_0000
THERE = 0x40_0000
ALL = l4.CompleteAddressSpace + l4.FullyAccessible


class Side:
    """One environment, and its address space."""

    def __init__(self, puppet: Puppet) -> None:
        self.puppet = puppet
        self.sys = puppet.sys
        self.thread = puppet.thread
        self.space: AddressSpace = space_of(puppet.env)

    def carve(self, address: int, pages: int = 1, fill: bytes = b"") -> int:
        """Map a new extent at *address*, which begins with *fill*; return its handle."""
        handle = self.sys.carve(self.puppet.handles[0], pages).extent
        self.space.map(address, handle, pages * PAGE, 31)
        if fill:
            self.space.store(address, fill)
            self.space.unmap([fpage(address, pages, l4.NoAccess)])
        return handle

    def accept(self, sender: "Side", offer: int, rights: int) -> Accepted:
        return self.sys.accept(sender.thread, offer, rights)

    @property
    def shown(self) -> list[tuple[int, int]]:
        """Where something is mapped, and how large it is."""
        return [(region.base, region.size) for region in self.space]

    @property
    def extents(self) -> int:
        """How many capabilities to extents it has, offers not counted."""
        return sum(self.sys.inspect(handle).kind == Kind.EXTENT for handle in self.sys.inventory())

    def reads(self, address: int, size: int = 1) -> bytes | None:
        """The content at *address*; None: a page fault."""
        try:
            return self.space.load(address, size)
        except BadAddress:
            return None

    def writes(self, address: int, data: bytes) -> bool:
        """Whether *data* could be written."""
        try:
            self.space.store(address, data)
        except BadAddress:
            return False
        return True


def fpage(address: int, pages: int = 1, rights: int = l4.FullyAccessible) -> l4.Fpage:
    return l4.Fpage(address, pages * PAGE) + rights


def send(
    a: Side,
    b: Side,
    item: "l4.MapItem | l4.GrantItem",
    window: l4.Fpage = l4.CompleteAddressSpace,
    *,
    local: bool = False,
) -> list[int]:
    """Carry *item* from *a* to *b*, as the engine does; return the offers that were made."""
    grant = isinstance(item, l4.GrantItem)
    extents = [
        (offset, size, a.sys.transfer(handle, b.thread, rights, grant=grant))
        for offset, size, handle, rights in a.space.outgoing(item)
    ]
    b.space.incoming(window, item, extents, lambda offer, rights: b.accept(a, offer, rights), local=local)
    if isinstance(item, l4.GrantItem):
        a.space.granted(item)
    return [offer for _, _, offer in extents]


@contextmanager
def sides(count: int = 2) -> Iterator[list[Side]]:
    """Boot; the first of *count* environments holds the RAM."""
    with theatre() as stage:
        yield enter(stage, count)


def enter(stage: Theatre, count: int) -> list[Side]:
    return [Side(stage.puppet(f"side-{n}", holds=() if n else ("ram",))) for n in range(count)]

"""Two X.2 threads with memory of their own meet: what one sends, and what both have then.

    def a(cast): carve(BASE, fill=b"x"); return send(l4.MapItem(fpage(BASE), 0))
    def b(cast): accept(ALL); return receive(), reads(BASE)
    assert meet(a, b) == (Said(...), (Said(...), b"x"))

Each part is the first thread of an environment that may carve; it stays, with all it holds, until every part has
returned what it saw, so nothing is taken back because somebody ended.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kernel.abi.kip import Head
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import IpcCode, Phase
from kernel.abi.rights import ALL_RIGHTS, Kind
from libexo import attach, l4
from libexo.l4.space.addresses import no_pager
from libexo.l4.space.buffers import BadAddress, Buffer
from libexo.l4.space.space import AddressSpace, space_of
from tests.libexo.l4.stage import LONG, Cast, Failed, Part, Said, said, sleep, stage

PAGE = FRAME_SIZE
BASE = 0x10_0000
THERE = 0x40_0000
SENT = Said(())
"""A message of no untyped words; what a send that went well leaves in the registers."""
ALL = l4.CompleteAddressSpace
CUT_HERE = Failed(IpcCode.OVERFLOW, Phase.RECEIVE)
CUT_THERE = Failed(IpcCode.OVERFLOW, Phase.SEND)
TUNNELLED = (1 << 64) - 1
"""The instruction pointer of a fault in the middle of a message."""
Answer = Callable[[int], tuple[l4.Item, ...]]
"""What a pager answers a fault at an address with."""
_ASIDE = 1 << 40
"""Where an extent stays of which only some rights are to be at its address."""
_STAYS = 10 * LONG
_PATIENCE = 60.0


def meet(a: Part, b: Part, c: Part | None = None, *, seed: int = 0) -> tuple[object, ...]:
    """Play *a*, *b* and *c*, which know each other by these names; return what each saw: None, if it was killed."""
    parts = {"a": a, "b": b} | ({"c": c} if c else {})
    with stage(seed=seed) as cast:
        for name, part in parts.items():
            cast.add(name, staying(part), holds=("factory", "ram"))
        cast.system.run(seconds=_PATIENCE)
        frames = cast.system.kernel.frames
        assert frames.free == frames.total, "frames are held by nobody"
        return tuple(None if cast.tasks[name].status else cast.result(name) for name in parts)


def staying(part: Part) -> Part:
    """*part*, which stays with what it holds after it has returned what it saw."""

    def stays(cast: Cast) -> object:
        seen = part(cast)
        sleep(_STAYS)
        return seen

    return stays


# ------------------------------------------------------------------------------------------- in a part's script


def own() -> AddressSpace:
    """The calling environment's space."""
    return space_of(attach())


def carve(address: int, pages: int = 1, fill: bytes = b"", rights: int = ALL_RIGHTS) -> int:
    """Map a new extent at *address*, which begins with *fill*; return its handle."""
    sys = attach().sys
    ram = next(h for h in sys.inventory() if sys.inspect(h).kind == Kind.RAM)
    handle = sys.carve(ram, pages).extent
    home = address if rights == ALL_RIGHTS else address + _ASIDE
    own().map(home, handle, pages * PAGE, ALL_RIGHTS)
    if fill:
        own().store(home, fill)
    if rights != ALL_RIGHTS:
        handle = sys.derive(handle, rights)
        own().map(address, handle, pages * PAGE, rights)
    return handle


def fpage(address: int, pages: int = 1, rights: int = l4.FullyAccessible) -> l4.Fpage:
    return l4.Fpage(address, pages * PAGE) + rights


def shown() -> list[tuple[int, int]]:
    """Where something is mapped in the calling environment, and how large it is."""
    return [(region.base, region.size) for region in own()]


def reads(address: int, size: int = 1) -> bytes | None:
    """The content at *address*; None: a page fault. The calling thread has no pager then, and wants none."""
    found: list[bytes] = []
    with _unpaged():
        found.append(own().load(address, size))
    return found[0] if found else None


def writes(address: int, data: bytes) -> bool:
    """Whether *data* could be written at *address*: else it is a page fault."""
    written: list[bytes] = []
    with _unpaged():
        own().store(address, data)
        written.append(data)
    return bool(written)


@contextmanager
def _unpaged() -> Iterator[None]:
    """Leave the block at a page fault."""
    space = own()
    kept, space.fault = space.fault, no_pager
    try:
        yield
    except BadAddress:
        pass
    finally:
        space.fault = kept


def extents() -> int:
    """How many capabilities to extents the calling environment has; offers count as well."""
    sys = attach().sys
    return sum(sys.inspect(handle).kind == Kind.EXTENT for handle in sys.inventory())


def free() -> int:
    """How many frames are free."""
    return attach().kip.head(Head.FREE_FRAMES)


def load_message(*items: l4.Item, words: Sequence[int] = (), label: int = 0) -> None:
    """Load the message registers with untyped *words* and *items*."""
    message = l4.Msg()
    l4.MsgPut(message, label, words, items)
    l4.MsgLoad(message)


def send(to: int, *items: l4.Item, words: Sequence[int] = (), label: int = 0) -> Said | Failed:
    """Send untyped *words* and *items* to *to*; return what came of it (for a success: of the registers)."""
    load_message(*items, words=words, label=label)
    return said(l4.Send(to))


def accept(window: l4.Fpage = ALL, *buffers: l4.StringItem, c: bool = False, s: bool = False) -> None:
    """Accept mappings into *window*, strings into *buffers* (and, with *s*, into none), registers with *c*."""
    acceptor = l4.MapGrantItems(window) + (l4.CtrlXferAcceptor if c else 0)
    if not buffers and not s:
        l4.Accept(acceptor)
        return
    held = l4.MsgBuffer()
    for buffer in buffers:
        l4.MsgBufferAppendRcvString(held, buffer)
    l4.AcceptStrings(acceptor + l4.StringItemsAcceptor, held)


def receive() -> Said | Failed:
    """Receive from anybody; return the untyped words, or how it failed."""
    return said(l4.Wait()[1])


def received_items() -> tuple[l4.Item, ...]:
    """The items of the message in the registers, whose tag is MR0."""
    return l4.MsgGet(l4.MsgStore(l4.MsgTag(l4.StoreMR(0))))[1]


def at(buffer: Buffer) -> int:
    """The address of *buffer*."""
    return own().buffer(buffer)


def text(data: Buffer) -> l4.StringItem:
    """The string, or the buffer, that is all of *data*."""
    return l4.StringItem(len(data), at(data))


def pieces(*parts: Buffer) -> l4.StringItem:
    """The string of *parts*, gathered: a compound of one descriptor each."""
    first, *rest = (text(part) for part in parts)
    for part in rest:
        first = l4.AddSubstringTo(first, part)
    return first


# ------------------------------------------------------------------------------------------------ whole meetings


def four_pages() -> None:
    """Pages 0 to 3 at BASE, each an extent that says its number."""
    for number in range(4):
        carve(BASE + number * PAGE, fill=b"%d" % number)


def landed(
    item: l4.MapItem | l4.GrantItem, window: l4.Fpage, carves: Callable[[], object] = four_pages
) -> tuple[object, ...]:
    """Have *carves* make what is sent, and send *item* into *window*; return what came of it at both sides.

    The receiver's is the outcome, and what is where: address and first byte of each extent.
    """

    def a(cast: Cast) -> object:
        carves()
        return send(cast.b, item)

    def b(cast: Cast) -> object:
        accept(window)
        outcome = receive()
        return outcome, {address: own().load(address, 1) for address, _ in shown()}

    return meet(a, b)


# ---------------------------------------------------------------------------------------------------- as a pager


def mapping(address: int) -> tuple[l4.Item, ...]:
    """A map item of the page of *address*, to the same address."""
    return (l4.MapItem(fpage(address & -PAGE), address & -PAGE),)


def serve(answers: Sequence[Answer], *, then: Callable[[], object] = lambda: None) -> list[tuple[int, ...]]:
    """Answer faults, one by each of *answers*, then do *then*; return label, u, t, address and IP of each fault."""
    seen: list[tuple[int, ...]] = []
    sender, tag = l4.Wait()
    for number, answer in enumerate(answers):
        address, ip = l4.StoreMRs(1, 2)
        seen.append((tag.label, tag.u, tag.t, address, ip))
        load_message(*answer(address))
        if number < len(answers) - 1:
            sender, tag = l4.ReplyWait(sender)
        else:
            assert not l4.Reply(sender).E
    then()
    return seen

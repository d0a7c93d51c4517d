"""Map and grant items between address spaces, with the kernel's capabilities underneath."""

from collections.abc import Sequence

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.kip import Head
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.rights import Rights
from libexo import l4
from libexo.l4.errors import Overflow
from libexo.l4.space.buffers import BUFFERS
from tests.kernel.puppets import ram_of, refusal, theatre
from tests.libexo.l4.spaces import ALL, BASE, PAGE, THERE, enter, fpage, send, sides

RW = l4.ReadWriteOnly


def test_memory_is_shared() -> None:
    """The receiver finds the sender's memory at the send base; both see what either writes."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"from a")
        send(a, b, l4.MapItem(fpage(BASE, rights=RW), THERE))
        b.space.store(THERE + 6, b" and b")

        assert a.space.load(BASE, 12) == b"from a and b"
        assert b.shown == [(THERE, PAGE)]


def test_every_extent_of_an_fpage() -> None:
    """All extents that lie in the fpage go, each to its own place; holes stay holes."""
    with sides() as (a, b):
        a.carve(BASE, 2, fill=b"one")
        a.carve(BASE + 3 * PAGE, fill=b"two")
        send(a, b, l4.MapItem(fpage(BASE, 4), THERE))

        assert b.shown == [(THERE, 2 * PAGE), (THERE + 3 * PAGE, PAGE)]
        assert (b.reads(THERE, 3), b.reads(THERE + 3 * PAGE, 3)) == (b"one", b"two")
        assert b.reads(THERE + 2 * PAGE) is None


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (l4.Readable, Rights.READ),
        (RW, Rights.READ | Rights.WRITE),
        (l4.Writable, Rights.READ | Rights.WRITE),  # what can be written can be read
        (l4.eXecutable, Rights.READ | Rights.EXECUTE),
        (l4.FullyAccessible, Rights.READ | Rights.WRITE | Rights.EXECUTE),
    ],
)
def test_the_rights_asked_for(asked: int, granted: Rights) -> None:
    """The capability the receiver gets carries the rights of the item's fpage, and that to pass it on."""
    with sides() as (a, b):
        a.carve(BASE)
        send(a, b, l4.MapItem(fpage(BASE, rights=asked), THERE))
        (region,) = b.space

        assert b.sys.inspect(region.holding.handle).rights == granted | Rights.TRANSFER
        assert b.writes(THERE, b"x") is bool(granted & Rights.WRITE)


def test_no_more_rights_than_held() -> None:
    """A holder with the right to read only cannot map for writing, whatever the item says."""
    with sides(3) as (a, b, c):
        a.carve(BASE, fill=b"kept")
        send(a, b, l4.MapItem(fpage(BASE, rights=l4.Readable), BASE))
        send(b, c, l4.MapItem(fpage(BASE), THERE))

        assert c.reads(THERE, 4) == b"kept"
        assert not c.writes(THERE, b"x")


@pytest.mark.parametrize("rights", [Rights.READ | Rights.WRITE, Rights.WRITE | Rights.TRANSFER])
def test_what_may_not_be_passed_on_is_a_hole(rights: Rights) -> None:
    """Without the right to pass it on, or one that was asked for, an extent is not sent, and cuts nothing."""
    with sides() as (a, b):
        handle = a.carve(BASE)
        a.space.map(BASE + PAGE, a.sys.derive(handle, int(rights)), PAGE, int(rights))
        offers = send(a, b, l4.MapItem(fpage(BASE, 2, l4.Readable), THERE))

        assert (len(offers), b.shown) == (1, [(THERE, PAGE)])


def test_no_rights_map_nothing() -> None:
    """An item whose fpage has no rights sends nothing."""
    with sides() as (a, b):
        a.carve(BASE)

        assert send(a, b, l4.MapItem(fpage(BASE, rights=l4.NoAccess), THERE)) == []
        assert b.shown == []


def test_a_larger_fpage_than_the_window() -> None:
    """The send base selects what is taken; the rest stays on offer, to be taken back."""
    with sides() as (a, b):
        for n in range(4):
            a.carve(BASE + n * PAGE, fill=b"%d" % n)
        offers = send(a, b, l4.MapItem(fpage(BASE, 4), 2 * PAGE), fpage(THERE))
        left = [offer for offer in offers if offer in a.sys.inventory()]

        assert (b.shown, b.reads(THERE)) == ([(THERE, PAGE)], b"2")
        assert left == [offers[0], offers[1], offers[3]]


def test_a_smaller_fpage_than_the_window() -> None:
    """The send base selects the place inside the window."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"here")
        send(a, b, l4.MapItem(fpage(BASE), 3 * PAGE), fpage(THERE, 4))

        assert (b.shown, b.reads(THERE + 3 * PAGE, 4)) == ([(THERE + 3 * PAGE, PAGE)], b"here")


def test_everything_to_the_same_addresses() -> None:
    """The complete address space, mapped into the complete one, is the same memory at the same addresses."""
    with sides() as (a, b):
        a.carve(BASE, 3)
        a.carve(THERE)
        a.space.buffer(bytearray(PAGE))
        send(a, b, l4.MapItem(ALL, 0))

        assert b.shown == a.shown == [(BASE, 3 * PAGE), (THERE, PAGE)]


def test_less_than_a_page_is_cut_by_the_sender() -> None:
    """An fpage that covers less than a page cuts the message."""
    with sides(1) as (a,):
        a.carve(BASE, 2)

        with pytest.raises(Overflow, match="no part is derived"):
            a.space.outgoing(l4.MapItem(l4.Fpage(BASE, 1024) + RW, 0))


def test_what_shows_in_part_is_sent() -> None:
    """Of an extent over which something else was mapped, what is there goes."""
    with sides() as (a, b):
        a.carve(BASE, 2)
        a.space.store(BASE + PAGE, b"old")
        a.carve(BASE, fill=b"new")
        send(a, b, l4.MapItem(fpage(BASE, 2), THERE))

        assert (b.reads(THERE, 3), b.reads(THERE + PAGE, 3)) == (b"new", b"old")
        assert b.shown == [(THERE, PAGE), (THERE + PAGE, PAGE)]


@pytest.mark.parametrize("page", [0, 1])
def test_part_of_an_extent_in_the_window(page: int) -> None:
    """Of an extent that is only partly in what the send base selects, that part is shown, and no more."""
    with sides() as (a, b):
        a.carve(BASE, 2)
        a.space.store(BASE, b"0")
        a.space.store(BASE + PAGE, b"1")
        send(a, b, l4.MapItem(fpage(BASE, 2), page * PAGE), fpage(THERE))

        assert (b.shown, b.extents, b.reads(THERE)) == ([(THERE, PAGE)], 1, b"%d" % page)
        assert [size for _, size, _, _ in b.space.outgoing(l4.MapItem(fpage(THERE), 0))] == [PAGE]
        a.space.unmap([fpage(BASE + (1 - page) * PAGE)])
        assert (b.reads(THERE), b.shown, b.extents) == (None, [], 0)


def test_what_came_before_the_cut_stays() -> None:
    """Items are processed in order: the extents before one that cannot be taken are mapped."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"kept")
        a.carve(BASE + PAGE)
        item = l4.MapItem(fpage(BASE, 2), THERE)
        (_, size, handle, rights), (offset, _, _, _) = a.space.outgoing(item)
        extents = [(0, size, a.sys.transfer(handle, b.thread, rights)), (offset, size, 12345)]
        with pytest.raises(Overflow, match="could not be accepted"):
            b.space.incoming(l4.CompleteAddressSpace, item, extents, lambda o, r: b.accept(a, o, r))

        assert (b.shown, b.reads(THERE, 4)) == ([(THERE, PAGE)], b"kept")


@pytest.mark.parametrize(
    ("window", "sent"),
    [
        (l4.Nilpage, l4.Fpage(BASE, PAGE)),
        (l4.Nilpage, l4.Nilpage),
        (l4.IoFpage(0, 16), l4.Fpage(BASE, PAGE)),
        (l4.CompleteAddressSpace, l4.IoFpage(0, 16)),
    ],
)
def test_no_window_for_it(window: l4.Fpage, sent: l4.Fpage) -> None:
    """Nothing is accepted into a nil window, and memory and ports do not fit each other."""
    with sides(1) as (a,), pytest.raises(Overflow, match="no window"):
        a.space.incoming(window, l4.MapItem(sent, 0), (), lambda offer, rights: pytest.fail("accepted"))


def test_a_nil_fpage_is_an_answer() -> None:
    """A map item with a nil fpage, as sigma0 refuses with, brings nothing and cuts nothing."""
    with sides() as (a, b):
        a.carve(BASE)

        assert send(a, b, l4.MapItem(l4.Nilpage, 0)) == []
        assert b.shown == []


def test_mapping_over_what_the_receiver_had() -> None:
    """Memory at the place is unmapped first: its capability is given up, and its memory with the last one."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"1")
        a.carve(BASE + PAGE, fill=b"2")
        send(a, b, l4.MapItem(fpage(BASE), THERE))
        send(a, b, l4.MapItem(fpage(BASE + PAGE), THERE))

        assert (b.shown, b.extents, b.reads(THERE)) == ([(THERE, PAGE)], 1, b"2")


def test_mapping_the_same_again() -> None:
    """A pager that maps a page again, with more rights, upgrades the mapping."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"same")
        send(a, b, l4.MapItem(fpage(BASE, rights=l4.Readable), THERE))
        before = b.writes(THERE, b"x")
        send(a, b, l4.MapItem(fpage(BASE, rights=RW), THERE))

        assert (before, b.writes(THERE, b"x"), a.reads(BASE, 4)) == (False, True, b"xame")


def test_mapping_to_oneself() -> None:
    """Within one space memory can be mapped to a second address; onto itself, it stays as it is."""
    with sides(1) as (a,):
        a.carve(BASE, fill=b"twice")
        send(a, a, l4.MapItem(fpage(BASE), BASE), local=True)
        send(a, a, l4.MapItem(fpage(BASE), THERE), local=True)

        assert a.shown == [(BASE, PAGE), (THERE, PAGE)]
        assert a.reads(BASE, 5) == a.reads(THERE, 5) == b"twice"


def test_a_grant_moves() -> None:
    """Granted memory is the receiver's alone: the sender has neither address nor capability any more."""
    with sides() as (a, b):
        handle = a.carve(BASE, fill=b"yours")
        send(a, b, l4.GrantItem(fpage(BASE), THERE))

        assert (a.shown, a.extents, b.reads(THERE, 5), b.extents) == ([], 0, b"yours", 1)
        assert refusal(a.sys.inspect, handle) in (Refusal.BAD_HANDLE, Refusal.STALE_HANDLE)


def test_a_grant_flushes_the_whole_fpage() -> None:
    """The part that the window is too small for leaves the sender, too: its frames are free again."""
    with sides() as (a, b):
        free = a.puppet.env.kip.head(Head.FREE_FRAMES)
        for n in range(4):
            a.carve(BASE + n * PAGE)
        send(a, b, l4.GrantItem(fpage(BASE, 4), PAGE), fpage(THERE))

        assert (a.shown, a.extents, b.shown) == ([], 0, [(THERE, PAGE)])
        assert a.puppet.env.kip.head(Head.FREE_FRAMES) == free - 1


def test_reserved_ranges_take_nothing() -> None:
    """Nothing is mapped into a KIP or UTCB area, or where buffers are; such extents are not even accepted."""
    with sides() as (a, b):
        a.carve(BASE)
        a.carve(BASE + PAGE)
        b.space.reserve(THERE, PAGE)
        offers = send(a, b, l4.MapItem(fpage(BASE, 2), THERE))
        high = send(a, b, l4.MapItem(fpage(BASE, 2), BUFFERS))

        assert (b.shown, b.extents) == ([(THERE + PAGE, PAGE)], 1)
        assert {offers[0], *high} <= set(a.sys.inventory())


@pytest.mark.parametrize(
    "extents",
    [
        [(1, PAGE)],
        [(0, PAGE + 1)],
        [(0, 0)],
        [(4 * PAGE, PAGE)],
        [(3 * PAGE, 2 * PAGE)],
        [(PAGE, PAGE), (0, PAGE)],
        [(0, 2 * PAGE), (PAGE, PAGE)],
    ],
)
def test_extents_that_no_sender_may_send(extents: Sequence[tuple[int, int]]) -> None:
    """Extents that are no pages, outside the fpage, out of order or overlapping: the message is malformed."""
    with sides(1) as (a,), pytest.raises(ValueError, match="cannot be at offset"):
        a.space.incoming(
            l4.CompleteAddressSpace,
            l4.MapItem(fpage(BASE, 4), THERE),
            [(offset, size, 1) for offset, size in extents],
            lambda offer, rights: pytest.fail("accepted"),
        )


def test_an_offer_that_is_not_what_it_says() -> None:
    """An offer of RAM, or of an extent of another size, is given up at once, and cuts the message."""
    with sides() as (a, b):
        small = a.carve(BASE)
        item = l4.MapItem(fpage(BASE, 2), THERE)
        for handle in (a.puppet.handles[0], small):
            offer = a.sys.transfer(handle, b.thread, l4.Readable)
            with pytest.raises(Overflow, match="not of an extent of"):
                b.space.incoming(
                    l4.CompleteAddressSpace, item, [(0, 2 * PAGE, offer)], lambda o, r: b.accept(a, o, r)
                )

        assert (b.shown, b.sys.inventory()) == ([], ())


def test_more_extents_than_offers_can_stand() -> None:
    """An item that covers more extents than may be on offer at a time is cut by the sender."""
    with theatre(ram_of(2 * MAX_OFFERS)) as stage:
        a, b = enter(stage, 2)
        for n in range(MAX_OFFERS + 1):
            a.carve(BASE + n * PAGE)
        with pytest.raises(Overflow, match="on offer at a time"):
            a.space.outgoing(l4.MapItem(ALL, 0))
        send(a, b, l4.MapItem(fpage(BASE, MAX_OFFERS), THERE))

        assert b.extents == MAX_OFFERS

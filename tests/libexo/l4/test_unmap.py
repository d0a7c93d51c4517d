"""Taking memory back: Unmap, flush, the status of accesses, and what others take from here."""

import pytest

from kernel.abi.rights import Rights
from libexo import l4
from tests.libexo.l4.spaces import BASE, PAGE, THERE, Side, fpage, send, sides

R, W, X, RW, RWX = l4.Readable, l4.Writable, l4.eXecutable, l4.ReadWriteOnly, l4.FullyAccessible
NONE = l4.NoAccess


def test_unmap_takes_from_others_only() -> None:
    """The receiver of the memory faults; its owner goes on, with the last contents."""
    with sides() as (a, b):
        a.carve(BASE)
        send(a, b, l4.MapItem(fpage(BASE), THERE))
        b.space.store(THERE, b"last")
        a.space.unmap([fpage(BASE)])

        assert (b.reads(THERE), b.shown, b.extents) == (None, [], 0)
        assert a.reads(BASE, 4) == b"last"


def test_unmap_is_recursive() -> None:
    """The receivers of a receiver lose it, too."""
    with sides(3) as (a, b, c):
        a.carve(BASE)
        send(a, b, l4.MapItem(fpage(BASE), BASE))
        send(b, c, l4.MapItem(fpage(BASE), BASE))
        found = c.reads(BASE)
        a.space.unmap([fpage(BASE)])

        assert (found, c.reads(BASE), b.reads(BASE), a.reads(BASE)) == (b"\0", None, None, b"\0")


def test_unmap_reaches_only_below() -> None:
    """A space that maps on takes back what it gave; above, nothing changes."""
    with sides(3) as (a, b, c):
        a.carve(BASE)
        send(a, b, l4.MapItem(fpage(BASE), BASE))
        send(b, c, l4.MapItem(fpage(BASE), BASE))
        b.space.unmap([fpage(BASE)])

        assert (a.reads(BASE), b.reads(BASE), c.reads(BASE)) == (b"\0", b"\0", None)


def test_several_fpages_at_once() -> None:
    """Each fpage is done by itself, and comes back in its place; what none covers stays."""
    with sides() as (a, b):
        for n in range(3):
            a.carve(BASE + n * PAGE)
        send(a, b, l4.MapItem(fpage(BASE, 4), BASE))
        back = a.space.unmap([fpage(BASE), l4.Nilpage, fpage(BASE + 2 * PAGE)])

        assert [b.reads(BASE + n * PAGE) for n in range(3)] == [None, b"\0", None]
        assert [l4.Address(f) for f in back] == [BASE, 0, BASE + 2 * PAGE]


@pytest.mark.parametrize(
    ("given", "revoked", "stays"),
    [
        (RW, W, True),
        (R, W, True),
        (R, X, True),
        (R | X, X, True),
        (R, R, False),
        (RW, R | X, False),
        (RW, NONE, True),
        (R, NONE, True),
    ],
)
def test_some_of_the_rights(given: int, revoked: int, *, stays: bool) -> None:
    """A share keeps the rights that are not revoked; without the right to read it is gone."""
    with sides() as (a, b):
        a.carve(BASE)
        send(a, b, l4.MapItem(fpage(BASE, rights=given), THERE))
        a.space.unmap([fpage(BASE, rights=revoked)])

        assert (b.reads(THERE) is not None) is stays


def test_an_extent_partly_covered() -> None:
    """Unmap never takes less than was asked: an extent that the fpage covers in part is taken from others whole."""
    with sides() as (a, b):
        a.carve(BASE, 2)
        send(a, b, l4.MapItem(fpage(BASE, 2), BASE))
        a.space.unmap([fpage(BASE)])

        assert [b.reads(BASE), b.reads(BASE + PAGE)] == [None, None]
        assert a.shown == [(BASE, 2 * PAGE)]


def check_dropped_and_taken(a: Side, b: Side) -> None:
    """*b*, which has *a*'s secret at THERE, keeps a view and gives the capability up; then *a* takes it back."""
    (kept,) = b.space.view(THERE, 6)
    b.space.unmap([fpage(THERE)], flush=True)
    still = bytes(kept)
    a.space.unmap([fpage(BASE)])

    assert still == b"secret"
    with pytest.raises(ValueError, match="released memory"):
        bytes(kept)


def test_what_was_mapped_and_dropped_is_gone_for_good() -> None:
    """A space that gave its capability up may still have the memory mapped; unmap ends that mapping, too."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"secret")
        send(a, b, l4.MapItem(fpage(BASE, rights=R), THERE))

        check_dropped_and_taken(a, b)


def test_a_native_share_that_was_dropped() -> None:
    """The same where the space never knew of the share: all rights taken back means no mapping is left."""
    with sides() as (a, b):
        handle = a.carve(BASE, fill=b"secret")
        offer = a.sys.transfer(handle, b.thread, R)
        b.space.map(THERE, b.accept(a, offer, 31).handle, PAGE, R)

        check_dropped_and_taken(a, b)


def test_flush_takes_from_oneself_too() -> None:
    """After a flush nobody has it: the address faults, the capability is given up, the frames are free."""
    with sides() as (a, b):
        a.carve(BASE)
        send(a, b, l4.MapItem(fpage(BASE), THERE))
        a.space.unmap([fpage(BASE)], flush=True)

        assert (a.reads(BASE), b.reads(THERE), a.extents, b.extents) == (None, None, 0, 0)


def test_flush_leaves_what_it_does_not_name() -> None:
    """Of an extent that a flush covers in part, the rest goes on where it is; the last part ends it."""
    with sides(1) as (a,):
        a.carve(BASE, 4)
        a.space.store(BASE + 3 * PAGE, b"end")
        a.space.unmap([fpage(BASE, 2)], flush=True)
        partly = a.shown, a.extents, a.reads(BASE), a.reads(BASE + 3 * PAGE, 3)
        a.space.unmap([fpage(BASE, 4)], flush=True)

        assert partly == ([(BASE + 2 * PAGE, 2 * PAGE)], 1, None, b"end")
        assert (a.shown, a.extents) == ([], 0)


def test_flushing_some_rights() -> None:
    """A flush of the right to write leaves the memory readable; it can neither be written nor mapped to be."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"kept")
        a.space.unmap([fpage(BASE, rights=W)], flush=True)
        send(a, b, l4.MapItem(fpage(BASE), THERE))

        assert (a.reads(BASE, 4), a.writes(BASE, b"x")) == (b"kept", False)
        assert (b.reads(THERE, 4), b.writes(THERE, b"x")) == (b"kept", False)


def test_flushing_the_right_to_read() -> None:
    """Without the right to read no other is left: it is as flushing all of them."""
    with sides(1) as (a,):
        a.carve(BASE)
        a.space.unmap([fpage(BASE, rights=R)], flush=True)

        assert (a.shown, a.extents) == ([], 0)


def test_the_status_of_accesses() -> None:
    """Reading and writing show once, in the fpage that comes back, and are forgotten then."""
    with sides(1) as (a,):
        a.carve(BASE)
        a.carve(BASE + PAGE)

        def status(pages: int = 1) -> int:
            (back,) = a.space.unmap([fpage(BASE, pages, NONE)])
            return l4.Rights(back)

        seen = [status()]
        a.space.load(BASE, 1)
        seen += [status(), status()]
        a.space.store(BASE, b"x")
        seen += [status(), status()]
        a.space.view(BASE, 1, X)
        seen += [status(), status()]
        a.space.store(BASE + PAGE, b"x")
        a.space.load(BASE, 1)
        seen += [status(), status(2), status(2)]

        assert seen == [NONE, R, NONE, R | W, NONE, R | X, NONE, R, R | W, NONE]


def test_the_status_of_what_others_may_do() -> None:
    """Memory that others may have written counts as written until it is taken from them: clean means clean."""
    with sides() as (a, b):
        a.carve(BASE)
        send(a, b, l4.MapItem(fpage(BASE, rights=RW), THERE))
        b.space.unmap([fpage(THERE)], flush=True)
        seen = [
            l4.Rights(f)
            for rights in (NONE, NONE, RWX, NONE)
            for f in a.space.unmap([fpage(BASE, rights=rights)])
        ]

        assert seen == [RW, RW, RW, NONE]


def test_shares_made_without_the_space_count() -> None:
    """A capability that was derived natively is seen, and taken back, as one that an item gave."""
    with sides() as (a, b):
        handle = a.carve(BASE)
        offer = a.sys.transfer(handle, b.thread, R)
        b.space.map(THERE, b.accept(a, offer, 31).handle, PAGE, R)
        found = b.reads(THERE)
        (status,) = a.space.unmap([fpage(BASE, rights=R)])

        assert (found, l4.Rights(status), b.reads(THERE)) == (b"\0", R, None)


def test_a_kip_or_a_buffer_cannot_be_unmapped() -> None:
    """Flushing everything leaves buffers where they are."""
    with sides(1) as (a,):
        a.carve(BASE)
        at = a.space.buffer(b"constant")
        a.space.unmap([l4.CompleteAddressSpace + RWX], flush=True)

        assert (a.shown, a.space.load(at, 8)) == ([], b"constant")


def test_taken_between_two_looks() -> None:
    """When the giver takes memory back, the next access faults, and its pager may map it again."""
    with sides() as (a, b):
        a.carve(BASE, fill=b"1")
        item = l4.MapItem(fpage(BASE, rights=R), THERE)
        send(a, b, item)
        faults = []

        def fault(address: int, access: int) -> None:
            faults.append(address)
            send(a, b, item)

        b.space.fault = fault
        first = b.space.load(THERE, 1)
        a.space.unmap([fpage(BASE)])
        a.space.store(BASE, b"2")

        assert (first, b.space.load(THERE, 1), faults) == (b"1", b"2", [THERE])


def test_a_view_goes_on_when_others_lose_theirs() -> None:
    """Revoking a mapped share moves the memory; views of the remaining holders stay valid, reader or owner."""
    with sides(3) as (a, b, c):
        a.carve(BASE, fill=b"same")
        for other in (b, c):
            send(a, other, l4.MapItem(fpage(BASE, rights=R), BASE))
        (own,) = a.space.view(BASE, 4)
        (upper,) = b.space.view(BASE, 4)
        send(b, c, l4.MapItem(fpage(BASE, rights=R), THERE))
        c.space.load(THERE, 4)
        b.space.unmap([fpage(BASE)])
        found = a.reads(BASE, 4), b.reads(BASE, 4), c.reads(BASE, 4), c.reads(THERE, 4)

        assert found == (b"same", b"same", b"same", None)
        assert bytes(own) == bytes(upper) == b"same"


def test_rights_of_a_capability_and_of_an_fpage_agree() -> None:
    """The rwx of fpages are the low bits of capability rights, so each can stand for the other."""
    assert (Rights.READ, Rights.WRITE, Rights.EXECUTE) == (R, W, X)

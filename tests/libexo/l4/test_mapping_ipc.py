"""Map and grant items through the system call Ipc, between address spaces, with the kernel's capabilities."""

import pytest

from kernel.abi.errors import Refusal
from libexo import attach, l4
from tests.kernel.puppets import refusal
from tests.libexo.l4.meetings import (
    ALL,
    BASE,
    CUT_HERE,
    CUT_THERE,
    PAGE,
    SENT,
    THERE,
    accept,
    carve,
    extents,
    four_pages,
    fpage,
    free,
    landed,
    load_message,
    meet,
    own,
    reads,
    receive,
    send,
    shown,
    writes,
)
from tests.libexo.l4.stage import MOMENT, SEEDS, Cast, said, sleep, stage

conforms = pytest.mark.conforms
R, RW, RWX = l4.Readable, l4.ReadWriteOnly, l4.FullyAccessible
Item = l4.MapItem | l4.GrantItem


@conforms("Items: MapItem")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_map_item_shares_memory(seed: int) -> None:
    """Mapped memory is the same at both sides: each sees what the other writes."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"from a")
        sent = send(cast.b, l4.MapItem(fpage(BASE, rights=RW), THERE))
        sleep()
        return sent, own().load(BASE, 12), shown()

    def b(cast: Cast) -> object:
        accept()
        outcome, found = receive(), own().load(THERE, 6)
        own().store(THERE + 6, b" and b")
        return outcome, found, shown()

    assert meet(a, b, seed=seed) == (
        (SENT, b"from a and b", [(BASE, PAGE)]),
        (SENT, b"from a", [(THERE, PAGE)]),
    )


@conforms("Items: GrantItem")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_grant_item_moves_memory(seed: int) -> None:
    """Granted memory leaves the sender: the address faults there, and the capability is the receiver's."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"yours")
        return send(cast.b, l4.GrantItem(fpage(BASE), THERE)), shown(), reads(BASE), extents()

    def b(cast: Cast) -> object:
        accept()
        return receive(), own().load(THERE, 5), extents()

    assert meet(a, b, seed=seed) == ((SENT, [], None, 0), (SENT, b"yours", 1))


@conforms("Items: GrantItem")
def test_a_grant_outlives_its_giver() -> None:
    """Granted memory is not its giver's any more: it stays when the giver ends; mapped memory goes with it.

    It is still a share of the one that had mapped it to the giver, which takes it back.
    """

    def root(cast: Cast) -> None:
        four_pages()
        send(cast.a, l4.MapItem(fpage(BASE, 2), BASE))
        sleep(3 * MOMENT)
        l4.UnmapFpage(fpage(BASE))
        sleep(2 * MOMENT)

    def a(cast: Cast) -> None:
        accept()
        receive()
        send(cast.b, l4.GrantItem(fpage(BASE), BASE))
        send(cast.b, l4.MapItem(fpage(BASE + PAGE), BASE + PAGE))
        sleep()

    def b(cast: Cast) -> object:
        accept()
        receive(), receive()
        looks = []
        for _ in range(3):
            looks.append((reads(BASE), reads(BASE + PAGE)))
            sleep(2 * MOMENT)
        return looks

    with stage() as cast:
        cast.add("root", root, holds=("ram",))
        cast.add("a", a)
        cast.add("b", b)
        cast.system.run()
        assert cast.result("b") == [(b"0", b"1"), (b"0", None), (None, None)]


@conforms("Items: GrantItem")
def test_a_grant_of_what_was_mapped_on() -> None:
    """A receiver of memory from the giver keeps it, now as the grantee's share: the grantee can take it back."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return send(cast.c, l4.MapItem(fpage(BASE), BASE)), send(cast.b, l4.GrantItem(fpage(BASE), BASE))

    def b(cast: Cast) -> object:
        accept()
        receive()
        sleep(2 * MOMENT)
        l4.UnmapFpage(fpage(BASE))
        return reads(BASE)

    def c(cast: Cast) -> object:
        accept()
        receive()
        sleep()
        before = reads(BASE)
        sleep(2 * MOMENT)
        return before, reads(BASE)

    assert meet(a, b, c) == ((SENT, SENT), b"x", (b"x", None))


@conforms("Items: GrantItem")
def test_a_grant_flushes_its_whole_fpage() -> None:
    """What the window is too small for leaves the sender as well, and its frames are free again."""

    def a(cast: Cast) -> object:
        before = free()
        four_pages()
        return send(cast.b, l4.GrantItem(fpage(BASE, 4), 2 * PAGE)), shown(), extents(), before - free()

    def b(cast: Cast) -> object:
        accept(fpage(THERE))
        return receive(), shown(), reads(THERE)

    assert meet(a, b) == ((SENT, [], 0, 1), (SENT, [(THERE, PAGE)], b"2"))


@conforms("Items: send base")
@pytest.mark.parametrize("kind", [l4.MapItem, l4.GrantItem])
@pytest.mark.parametrize(
    ("sent", "base", "window", "found"),
    [
        pytest.param((0, 1), 0, (0, 1), {0: b"0"}, id="same size"),
        pytest.param((0, 1), 3, (0, 1), {0: b"0"}, id="same size, base beyond"),
        pytest.param((0, 4), 0, (0, 1), {0: b"0"}, id="larger, first"),
        pytest.param((0, 4), 3, (0, 1), {0: b"3"}, id="larger, last"),
        pytest.param((0, 4), 7, (0, 1), {0: b"3"}, id="larger, base beyond"),
        pytest.param((0, 4), 3, (0, 2), {0: b"2", 1: b"3"}, id="larger, base not aligned"),
        pytest.param((1, 1), 2, (0, 4), {2: b"1"}, id="smaller"),
        pytest.param((2, 2), 2, (0, 4), {2: b"2", 3: b"3"}, id="smaller, two pages"),
        pytest.param((2, 2), 3, (0, 4), {2: b"2", 3: b"3"}, id="smaller, base not aligned"),
        pytest.param((1, 1), 6, (0, 4), {2: b"1"}, id="smaller, base beyond"),
    ],
)
def test_fpage_and_window_of_any_sizes(
    kind: type[l4.MapItem] | type[l4.GrantItem],
    sent: tuple[int, int],
    base: int,
    window: tuple[int, int],
    found: dict[int, bytes],
) -> None:
    """Of a larger fpage the send base selects the part that is mapped; of a larger window, the place in it."""
    item = kind(fpage(BASE + sent[0] * PAGE, sent[1]), base * PAGE)
    places = {THERE + page * PAGE: byte for page, byte in found.items()}

    assert landed(item, fpage(THERE + window[0] * PAGE, window[1])) == (SENT, (SENT, places))


@conforms("Items: send base")
def test_into_the_complete_address_space() -> None:
    """With the complete address space as window, the send base is the address, whatever the size of the fpage."""
    places = {THERE + n * PAGE: b"%d" % n for n in range(4)}

    assert landed(l4.MapItem(fpage(BASE, 4), THERE), ALL) == (SENT, (SENT, places))


@conforms("Items: send base")
def test_the_complete_address_space_into_itself() -> None:
    """All that the sender has, mapped into all that the receiver has, is at the same addresses."""
    places = {BASE + n * PAGE: b"%d" % n for n in range(4)}

    assert landed(l4.MapItem(ALL + RWX, THERE), ALL) == (SENT, (SENT, places))


@conforms("Items: send base")
def test_the_complete_address_space_into_a_window() -> None:
    """Of all that the sender has, the send base selects what fits the window."""
    places = {THERE: b"2", THERE + PAGE: b"3"}

    assert landed(l4.MapItem(ALL + RWX, BASE + 2 * PAGE), fpage(THERE, 2)) == (SENT, (SENT, places))


@conforms("Items: receive window")
@pytest.mark.parametrize("kind", [l4.MapItem, l4.GrantItem])
@pytest.mark.parametrize("window", [l4.Nilpage, l4.IoFpage(0, 16)], ids=["nil", "ports"])
def test_without_a_window_the_message_is_cut(
    kind: type[l4.MapItem] | type[l4.GrantItem], window: l4.Fpage
) -> None:
    """Where the acceptor has no window for memory, both sides see overflow, and nothing is mapped or granted."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"mine")
        return send(cast.b, kind(fpage(BASE), 0)), reads(BASE, 4), extents()

    def b(cast: Cast) -> object:
        accept(window)
        return receive(), shown(), extents()

    assert meet(a, b) == ((CUT_THERE, b"mine", 1), (CUT_HERE, [], 0))


@conforms("Items: I/O fpages")
def test_ports_are_not_mapped_into_memory() -> None:
    """An I/O fpage does not fit a window for memory: both sides see overflow."""
    assert landed(l4.MapItem(l4.IoFpage(0, 16) + RW, 0), ALL) == (CUT_THERE, (CUT_HERE, {}))


@conforms("Items: nil fpage")
def test_a_nil_fpage_brings_nothing() -> None:
    """A map item with a nil fpage is a message like others: nothing is mapped, nothing is cut."""
    assert landed(l4.MapItem(l4.Nilpage, 0), ALL) == (SENT, (SENT, {}))


@conforms("Items: nil fpage")
def test_an_empty_fpage_brings_nothing() -> None:
    """Unmapped parts at the sender map nothing at the receiver; its own memory there stays."""

    def a(cast: Cast) -> object:
        return send(cast.b, l4.MapItem(fpage(THERE, 4), THERE))

    def b(cast: Cast) -> object:
        carve(THERE, fill=b"mine")
        accept()
        return receive(), reads(THERE, 4)

    assert meet(a, b) == (SENT, (SENT, b"mine"))


@conforms("Items: rights")
@pytest.mark.parametrize(
    ("held", "asked", "may"),
    [
        (31, R, R),
        (31, RW, RW),
        (31, RWX, RWX),
        (20, RWX, R),
        (22, RWX, RW),
        (21, RW, R),
        (20, l4.Writable, 0),
    ],
)
def test_rights_are_those_asked_for_and_held(held: int, asked: int, may: int) -> None:
    """The receiver gets what the item's fpage says and the sender has, never more; without any, nothing."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"kept", rights=held)
        sent = send(cast.b, l4.MapItem(fpage(BASE, rights=asked), THERE))
        sleep()
        return sent, reads(BASE, 4)

    def b(cast: Cast) -> object:
        accept()
        outcome = receive()
        rights = [attach().sys.inspect(region.holding.handle).rights & 7 for region in own()]
        return outcome, rights, writes(THERE, b"x")

    after = b"xept" if may & l4.Writable else b"kept"
    assert meet(a, b) == ((SENT, after), (SENT, [may] if may else [], bool(may & l4.Writable)))


@conforms("Items: rights")
def test_no_rights_come_back_by_a_detour() -> None:
    """A holder with the right to read only can map to nobody for writing: the kernel sees to it."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"kept")
        send(cast.b, l4.MapItem(fpage(BASE, rights=R), BASE))
        accept(fpage(THERE))
        return receive(), reads(THERE, 4), writes(THERE, b"x"), writes(BASE, b"k")

    def b(cast: Cast) -> object:
        accept()
        receive()
        return [send(to, l4.MapItem(fpage(BASE), BASE)) for to in (cast.c, cast.a)]

    def c(cast: Cast) -> object:
        accept()
        return receive(), reads(BASE, 4), writes(BASE, b"x")

    assert meet(a, b, c) == ((SENT, b"kept", False, True), [SENT, SENT], (SENT, b"kept", False))


@conforms("Items: rights")
def test_rights_are_the_kernels_not_the_tables() -> None:
    """A receiver that takes an offer by itself, with more rights than were offered, has no more than that."""

    def a(cast: Cast) -> object:
        handle = carve(BASE)
        offer = attach().sys.transfer(handle, cast.b, R)
        load_message(words=(offer,))
        return said(l4.Send(cast.b))

    def b(cast: Cast) -> object:
        l4.Wait()
        offer = l4.StoreMR(1)
        alone = refusal(attach().sys.accept, cast.a, offer, l4.Writable)
        taken = attach().sys.accept(cast.a, offer, 31)
        view = attach().views.map(taken.handle)
        return alone, taken.rights, view.readonly

    assert meet(a, b)[1] == (Refusal.BAD_ARGUMENT, R, True)


@conforms("Items: mapping over what is there")
def test_mapping_over_what_was_there() -> None:
    """The receiver's memory at the place is unmapped first, and its capability given up."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"new")
        return send(cast.b, l4.MapItem(fpage(BASE), THERE))

    def b(cast: Cast) -> object:
        before = free()
        carve(THERE, fill=b"old")
        carve(THERE + PAGE, fill=b"next")
        accept()
        outcome = receive()
        return outcome, reads(THERE, 3), reads(THERE + PAGE, 4), extents(), before - free()

    assert meet(a, b)[1] == (SENT, b"new", b"next", 2, 2)


@conforms("Items: mapping over what is there")
def test_mapping_over_what_was_passed_on() -> None:
    """Memory unmapped to make room is taken from those it was shared with, as by Unmap with flush."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"new")
        sleep()
        return send(cast.b, l4.MapItem(fpage(BASE), THERE))

    def b(cast: Cast) -> object:
        carve(THERE, fill=b"old")
        shared = send(cast.c, l4.MapItem(fpage(THERE), THERE))
        accept()
        return shared, receive(), reads(THERE, 3)

    def c(cast: Cast) -> object:
        accept()
        receive()
        before = reads(THERE, 3)
        sleep(2 * MOMENT)
        return before, reads(THERE, 3)

    assert meet(a, b, c)[1:] == ((SENT, SENT, b"new"), (b"old", None))


@conforms("Items: mapping over what is there")
def test_mapping_the_same_again_with_more_rights() -> None:
    """Mapping a page again upgrades it: what was read-only can be written then, and is held once."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return [send(cast.b, l4.MapItem(fpage(BASE, rights=rights), THERE)) for rights in (R, RW)]

    def b(cast: Cast) -> object:
        accept()
        outcomes = []
        for _ in range(2):
            receive()
            outcomes.append(writes(THERE, b"y"))
        return outcomes, extents(), shown()

    assert meet(a, b) == ([SENT, SENT], ([False, True], 1, [(THERE, PAGE)]))

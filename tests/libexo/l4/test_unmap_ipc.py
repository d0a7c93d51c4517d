"""Unmap, flush and status over spaces that got their memory by messages; MemoryControl and its privilege."""

import pytest

from libexo import attach, l4
from tests.libexo.l4.meetings import (
    ALL,
    BASE,
    PAGE,
    SENT,
    THERE,
    accept,
    carve,
    extents,
    fpage,
    free,
    meet,
    own,
    reads,
    receive,
    send,
    shown,
    writes,
)
from tests.libexo.l4.stage import MOMENT, SEEDS, Cast, Part, play, sleep

conforms = pytest.mark.conforms
NONE, R, W, X, RW, RWX = (
    l4.NoAccess, l4.Readable, l4.Writable, l4.eXecutable, l4.ReadWriteOnly, l4.FullyAccessible,
)  # fmt: skip
FLUSH = 1 << 6


def passing_on(to: str, rights: int = RWX) -> Part:
    """A part that receives a page at BASE, maps it on to part *to*, and looks at it, once and 2 MOMENTs later."""

    def part(cast: Cast) -> object:
        accept()
        assert receive() == SENT
        if to:
            send(getattr(cast, to), l4.MapItem(fpage(BASE, rights=rights), BASE))
        before = reads(BASE)
        sleep(2 * MOMENT)
        return before, reads(BASE)

    return part


@conforms("Unmap: recursive")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("flush", [False, True])
def test_unmap_reaches_all_who_got_it(seed: int, *, flush: bool) -> None:
    """Unmapped memory is gone from its receivers, and from theirs; by a flush, from oneself."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        send(cast.b, l4.MapItem(fpage(BASE), BASE))
        sleep()
        (l4.Flush if flush else l4.UnmapFpage)(fpage(BASE))
        return reads(BASE), extents()

    kept = (None, 0) if flush else (b"x", 1)
    assert meet(a, passing_on("c"), passing_on(""), seed=seed) == (kept, (b"x", None), (b"x", None))


@conforms("Unmap: recursive")
def test_unmap_in_the_middle() -> None:
    """A receiver of memory takes it only from its own receivers."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        send(cast.b, l4.MapItem(fpage(BASE), BASE))
        sleep(2 * MOMENT)
        return reads(BASE)

    def b(cast: Cast) -> object:
        accept()
        receive()
        send(cast.c, l4.MapItem(fpage(BASE), BASE))
        sleep()
        l4.UnmapFpage(fpage(BASE))
        return reads(BASE)

    assert meet(a, b, passing_on("")) == (b"x", b"x", (b"x", None))


@conforms("Unmap: recursive")
def test_unmap_of_what_came_twice() -> None:
    """Memory that somebody has by two ways is gone at the address that came by the way it was unmapped on."""

    def a(cast: Cast) -> None:
        carve(BASE, fill=b"x")
        send(cast.b, l4.MapItem(fpage(BASE), BASE))
        send(cast.c, l4.MapItem(fpage(BASE), THERE))

    def b(cast: Cast) -> None:
        accept()
        receive()
        sleep()
        send(cast.c, l4.MapItem(fpage(BASE), BASE))
        l4.UnmapFpage(fpage(BASE))

    def c(cast: Cast) -> object:
        accept()
        receive(), receive()
        sleep()
        return reads(BASE), reads(THERE)

    assert meet(a, b, c)[2] == (None, b"x")


@conforms("Unmap: some rights")
@pytest.mark.parametrize(
    ("given", "revoked", "stays"),
    [(RW, W, True), (R, W, True), (R, X, True), (R | X, X, True), (R, R, False), (RW, NONE, True)],
)
def test_revoking_some_of_the_rights(given: int, revoked: int, *, stays: bool) -> None:
    """A mapping that carries rights to be revoked keeps the others; without the right to read it goes."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        send(cast.b, l4.MapItem(fpage(BASE, rights=given), BASE))
        status = l4.UnmapFpage(fpage(BASE, rights=revoked))
        left = l4.Rights(l4.GetStatus(fpage(BASE))) if stays else NONE
        return writes(BASE, b"x"), l4.Rights(status) & given, left

    def b(cast: Cast) -> object:
        accept()
        receive()
        sleep()
        rights = [region.holding.rights & l4.FullyAccessible for region in own()]
        return reads(BASE) is not None, writes(BASE, b"x"), rights

    left = given & ~revoked if stays else NONE
    assert meet(a, b) == ((True, given, left), (stays, bool(left & W), [left] * stays))


@conforms("Unmap: some rights")
def test_revoking_rights_of_what_was_passed_on() -> None:
    """A right that is revoked goes from those who got it at second hand as well, and cannot be given again."""

    def a(cast: Cast) -> object:
        carve(BASE, 2, fill=b"x")
        send(cast.b, l4.MapItem(fpage(BASE + PAGE, rights=RW), BASE))
        sleep(2 * MOMENT)
        l4.UnmapFpage(fpage(BASE + PAGE, rights=W))
        return writes(BASE + PAGE, b"z")

    def b(cast: Cast) -> object:
        accept()
        receive()
        send(cast.c, l4.MapItem(fpage(BASE, rights=RW), BASE))
        writes(BASE, b"b")
        sleep(4 * MOMENT)
        again = send(cast.c, l4.MapItem(fpage(BASE, rights=RW), THERE))
        return writes(BASE, b"y"), again

    def c(cast: Cast) -> object:
        accept()
        receive()
        before = writes(BASE + 1, b"c")
        receive()
        return before, reads(BASE, 2), writes(BASE, b"y"), writes(THERE, b"y")

    assert meet(a, b, c) == (True, (False, SENT), (True, b"zc", False, False))


@conforms("Unmap: some rights")
def test_flushing_some_of_ones_own_rights() -> None:
    """A flush of one's own right to write leaves the memory readable; nor can others be given it to write."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        l4.Flush(fpage(BASE, rights=W))
        return reads(BASE), writes(BASE, b"y"), send(cast.b, l4.MapItem(fpage(BASE), BASE))

    def b(cast: Cast) -> object:
        accept()
        receive()
        return reads(BASE), writes(BASE, b"y")

    assert meet(a, b) == ((b"x", False, SENT), (b"x", False))


@conforms("Unmap: control")
def test_fpages_in_the_message_registers() -> None:
    """Bits 5..0 of control are how many fpages there are less one, bit 6 flushes; the fpages are MR0 to MRk."""

    def a(cast: Cast) -> object:
        for page in range(4):
            carve(BASE + page * PAGE, fill=b"x")
        l4.LoadMRs(0, [fpage(BASE), fpage(BASE + PAGE), fpage(BASE + 2 * PAGE), 77])
        l4.Unmap(1 | FLUSH)
        flushed = shown(), l4.StoreMRs(2, 2) == (fpage(BASE + 2 * PAGE), 77)
        l4.LoadMR(0, fpage(BASE + 2 * PAGE))
        l4.Unmap(0)
        return flushed, shown()

    pages = [(BASE + page * PAGE, PAGE) for page in (2, 3)]
    assert meet(a, lambda cast: None)[0] == ((pages, True), pages)


@conforms("Unmap: control")
def test_sixty_four_fpages_at_once() -> None:
    """One call takes up to 64 fpages; each comes back in its place."""

    def a(cast: Cast) -> object:
        for page in range(64):
            carve(BASE + page * PAGE)
        asked = [fpage(BASE + page * PAGE) for page in range(64)]
        back = l4.FlushFpages(asked)
        return [l4.Address(f) for f in back] == [l4.Address(f) for f in asked], shown()

    assert meet(a, lambda cast: None)[0] == (True, [])


@conforms("Unmap: status")
def test_the_status_of_ones_own_accesses() -> None:
    """The rwx bits that come back say how memory was accessed since they were last asked for."""

    def a(cast: Cast) -> object:
        carve(BASE)
        seen = [l4.GetStatus(fpage(BASE))]
        own().load(BASE, 1)
        seen.append(l4.GetStatus(fpage(BASE)))
        own().store(BASE, b"x")
        seen += [l4.GetStatus(fpage(BASE)) for _ in range(2)]
        return [(l4.WasReferenced(f), l4.WasWritten(f), l4.WaseXecuted(f)) for f in seen]

    no = (False, False, False)
    assert meet(a, lambda cast: None)[0] == [no, (True, False, False), (True, True, False), no]


@conforms("Unmap: status")
def test_the_status_of_strings() -> None:
    """Strings that are sent count as read, and buffers that are received into as written."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"abc")
        l4.GetStatus(fpage(BASE))
        send(cast.b, l4.StringItem(3, BASE))
        return l4.Rights(l4.GetStatus(fpage(BASE)))

    def b(cast: Cast) -> object:
        carve(THERE)
        accept(ALL, l4.StringItem(3, THERE))
        receive()
        return l4.Rights(l4.GetStatus(fpage(THERE)))

    assert meet(a, b) == (R, RW)


@conforms("Unmap: status")
def test_the_status_of_what_others_have() -> None:
    """Memory given to others counts as accessed in every permitted way until it is taken back: clean is clean."""

    def a(cast: Cast) -> object:
        carve(BASE)
        send(cast.b, l4.MapItem(fpage(BASE, rights=RW), BASE))
        seen = [l4.GetStatus(fpage(BASE)) for _ in range(2)]
        seen += [l4.UnmapFpage(fpage(BASE)), l4.GetStatus(fpage(BASE))]
        return [l4.Rights(f) for f in seen]

    def b(cast: Cast) -> object:
        accept()
        return receive()

    assert meet(a, b) == ([RW, RW, RW, NONE], SENT)


@conforms("Unmap: kernel books")
def test_flushed_memory_is_free() -> None:
    """Memory without a holder is free: its frames can be carved again, even if it was mapped."""

    def a(cast: Cast) -> object:
        before = free()
        carve(BASE, 4, fill=b"x")
        send(cast.b, l4.MapItem(fpage(BASE, 4), BASE))
        sleep()
        l4.Flush(fpage(BASE, 4))
        sleep()
        return before - free(), extents()

    assert meet(a, passing_on("")) == ((0, 0), (b"x", None))


@conforms("Unmap: reserved areas")
def test_what_cannot_be_unmapped() -> None:
    """A flush of everything leaves the UTCB, the KIP and Python's memory: the thread goes on, and can send."""

    def a(cast: Cast) -> object:
        carve(BASE)
        string = own().buffer(b"abc")
        l4.Flush(ALL + RWX)
        return shown(), own().load(string, 3), l4.SystemClock() > 0, send(cast.b, words=(1,))

    assert meet(a, lambda cast: receive())[0] == ([], b"abc", True, SENT)


# ------------------------------------------------------------------------------------------------- MemoryControl


def control(
    attributes: tuple[int, int, int, int], fpages: list[int], k: int | None = None
) -> tuple[int, int]:
    """Do MemoryControl; return its result and ErrorCode."""
    l4.LoadMRs(0, fpages)
    result = l4.MemoryControl(len(fpages) - 1 if k is None else k, attributes)
    return result, l4.ErrorCode()


@conforms("MemoryControl")
def test_memory_control_is_for_the_privileged() -> None:
    """Only privileged threads may set attributes: else 0, and NoPrivilege."""

    def part(_: Cast) -> object:
        return control((0, 0, 0, 0), [l4.Nilpage])

    def unprivileged(_: Cast) -> object:
        attach().sys.drop(attach().sys.inventory()[0])
        return control((0, 0, 0, 0), [l4.Nilpage])

    assert play(privileged=part, unprivileged=unprivileged) == {
        "privileged": (1, 0),
        "unprivileged": (0, l4.ErrNoPrivilege),
    }


@conforms("MemoryControl")
def test_the_attributes_there_are() -> None:
    """Default and write-back are what the host does; any other that an fpage selects is InvalidParam.

    The low two bits of an fpage select; attributes that none selects, and nil fpages, do not count.
    """

    def a(cast: Cast) -> object:
        page = l4.Fpage(BASE, PAGE)
        good = [
            control((0, 1, 4, 9), [page | which for which in (0, 1)]),
            control((9, 9, 9, 9), [l4.Nilpage]),
        ]
        bad = [control((0, 1, 4, 9), [page | which])[0] for which in (2, 3)]
        code = l4.ErrorCode()
        return [result for result, _ in good], bad, code

    assert meet(a, lambda cast: None)[0] == ([1, 1], [0, 0], l4.ErrInvalidParam)


@conforms("MemoryControl")
def test_more_fpages_than_registers() -> None:
    """A control word of 64 and more is InvalidParam."""

    def a(cast: Cast) -> object:
        return (
            control((0, 0, 0, 0), [0] * 64),
            control((0, 0, 0, 0), [], 64),
            control((0, 0, 0, 0), [], 1 << 32),
        )

    bad = (0, l4.ErrInvalidParam)
    assert meet(a, lambda cast: None)[0] == ((1, 0), bad, bad)


@conforms("MemoryControl")
def test_attributes_by_the_convenience_calls() -> None:
    """Set_PageAttribute and Set_PageAttributes do the same for one fpage, or several."""

    def a(cast: Cast) -> object:
        page = fpage(BASE)
        return (
            l4.Set_PageAttribute(page, l4.DefaultMemory),
            l4.Set_PageAttribute(page, 4),
            l4.Set_PageAttributes([l4.Fpage(BASE, PAGE), l4.Nilpage], (l4.WriteBackMemory, 9, 9, 9)),
        )

    assert meet(a, lambda cast: None)[0] == (1, 0, 1)

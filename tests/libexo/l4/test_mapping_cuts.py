"""Map and grant items that cover several extents, or part of one; in messages with others, cut ones, answers."""

import pytest

from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import IpcCode, Phase
from libexo import attach, l4
from libexo.l4.space.buffers import BUFFERS
from tests.libexo.l4.meetings import (
    ALL,
    BASE,
    CUT_HERE,
    CUT_THERE,
    PAGE,
    SENT,
    THERE,
    accept,
    at,
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
    received_items,
    send,
    shown,
)
from tests.libexo.l4.stage import MOMENT, SEEDS, Cast, Failed, Said, said, sleep

conforms = pytest.mark.conforms
R, RW, RWX = l4.Readable, l4.ReadWriteOnly, l4.FullyAccessible
Item = l4.MapItem | l4.GrantItem
PORTS = l4.IoFpage(0, 16) + RW
"""They are mapped into no memory: an item of them cuts the message where it stands."""


@conforms("Items: unit of mapping")
@pytest.mark.parametrize("kind", [l4.MapItem, l4.GrantItem])
@pytest.mark.parametrize("page", [0, 1], ids=["first page", "second page"])
def test_part_of_an_extent(kind: type[l4.MapItem] | type[l4.GrantItem], page: int) -> None:
    """An fpage that covers part of an extent sends that, and the receiver has no more of it."""

    def a(cast: Cast) -> object:
        carve(BASE, 2)
        own().store(BASE + page * PAGE, b"part")
        sent = send(cast.b, kind(fpage(BASE + page * PAGE), THERE))
        return sent, [base for base, _ in shown()]

    def b(cast: Cast) -> object:
        accept()
        received = receive()
        handle = next(region.holding.handle for region in own())
        return received, shown(), reads(THERE, 4), attach().sys.inspect(handle).count

    left = [BASE, BASE + PAGE] if kind is l4.MapItem else [BASE + (1 - page) * PAGE]
    assert meet(a, b) == ((SENT, left), (SENT, [(THERE, PAGE)], b"part", 1))


@conforms("Items: unit of mapping")
@pytest.mark.parametrize("kind", [l4.MapItem, l4.GrantItem])
def test_part_of_an_extent_in_the_window(kind: type[l4.MapItem] | type[l4.GrantItem]) -> None:
    """In a window that only part of an extent fits, that part is shown; of a grant, all of it leaves the sender."""

    def a(cast: Cast) -> object:
        carve(BASE, 2)
        own().store(BASE + PAGE, b"second")
        return send(cast.b, kind(fpage(BASE, 2), PAGE)), shown(), extents()

    def b(cast: Cast) -> object:
        accept(fpage(THERE))
        return receive(), shown(), reads(THERE, 6), extents()

    left = ([(BASE, 2 * PAGE)], 1) if kind is l4.MapItem else ([], 0)
    assert meet(a, b) == ((SENT, *left), (SENT, [(THERE, PAGE)], b"second", 1))


@conforms("Items: unit of mapping")
def test_several_extents_and_holes_in_one_fpage() -> None:
    """All extents that lie in an fpage are mapped, each to its place; where nothing is, nothing comes."""

    def carves() -> None:
        carve(BASE, 2, fill=b"a")
        carve(BASE + 4 * PAGE, fill=b"b")
        carve(BASE + 7 * PAGE, fill=b"c")

    places = {THERE: b"a", THERE + 4 * PAGE: b"b", THERE + 7 * PAGE: b"c"}

    assert landed(l4.MapItem(fpage(BASE, 8), THERE), ALL, carves) == (SENT, (SENT, places))


@conforms("Items: several in a message")
def test_several_items_in_one_message() -> None:
    """Each item is done, in order, into the one window; a later one maps over what an earlier one brought."""

    def a(cast: Cast) -> object:
        four_pages()
        items = [
            l4.MapItem(fpage(BASE), THERE),
            l4.GrantItem(fpage(BASE + PAGE), THERE + PAGE),
            l4.MapItem(fpage(BASE + 2 * PAGE), THERE),
        ]
        return send(cast.b, *items, words=(1, 2, 3), label=9), shown()

    def b(cast: Cast) -> object:
        accept()
        return receive(), reads(THERE), reads(THERE + PAGE), extents()

    left = [(BASE + n * PAGE, PAGE) for n in (0, 2, 3)]
    assert meet(a, b) == ((SENT, left), (Said((1, 2, 3), 9), b"2", b"1", 2))


@conforms("Items: several in a message")
def test_more_extents_than_can_be_on_offer() -> None:
    """Items that cover more extents than can be on offer at a time cut the message before it goes."""
    half = MAX_OFFERS // 2

    def a(cast: Cast) -> object:
        for number in range(MAX_OFFERS + 1):
            carve(BASE + number * PAGE)
        first = l4.MapItem(fpage(BASE, half), THERE)
        second = [
            l4.MapItem(fpage(BASE + half * PAGE, count), THERE + half * PAGE) for count in (half * 2, half)
        ]
        return [send(cast.b, first, item) for item in second]

    def b(cast: Cast) -> object:
        accept()
        return receive(), len(shown())

    assert meet(a, b) == ([CUT_THERE, SENT], (SENT, MAX_OFFERS))


@conforms("Items: in the message registers")
def test_the_registers_hold_the_items_words() -> None:
    """At the receiver, the words of map and grant items are in the registers they were in at the sender."""

    def a(cast: Cast) -> object:
        four_pages()
        load_message(
            l4.MapItem(fpage(BASE, rights=R), THERE), l4.GrantItem(fpage(BASE + PAGE), PAGE), words=(5, 6)
        )
        sent = l4.StoreMRs(0, 7)
        l4.Send(cast.b)
        return sent

    def b(cast: Cast) -> object:
        accept()
        l4.LoadMR(7, 77)
        l4.Wait()
        return l4.StoreMRs(0, 7), l4.StoreMR(7)

    sent, received = meet(a, b)

    assert received == (sent, 77)


@conforms("Items: cut messages")
def test_what_came_before_the_cut_stays() -> None:
    """Items are processed in order: one before the overflow has been mapped, those behind it are not.

    The tag has E besides what was sent; the words are all there.
    """

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"1")
        carve(BASE + 2 * PAGE, 2)
        carve(BASE + 4 * PAGE, fill=b"3")
        items = [
            l4.MapItem(fpage(BASE), 0),
            l4.MapItem(PORTS, 0),
            l4.MapItem(fpage(BASE + 4 * PAGE), 0),
        ]
        return send(cast.b, *items, words=(4,), label=9), extents()

    def b(cast: Cast) -> object:
        accept(fpage(THERE))
        sender, tag = l4.Wait()
        words = l4.StoreMRs(1, 7)
        return sender, said(tag), (tag.label, tag.u, tag.t), words[0], reads(THERE), extents()

    assert meet(a, b) == ((CUT_THERE, 3), (l4.nilthread, CUT_HERE, (9, 1, 6), 4, b"1", 1))


@conforms("Items: cut messages")
def test_a_grant_before_the_cut_has_moved() -> None:
    """Extents granted before the overflow are the receiver's; the rest is still the sender's."""

    def a(cast: Cast) -> object:
        four_pages()
        carve(BASE + 4 * PAGE, 2)
        items = [
            l4.GrantItem(fpage(BASE), 0),
            l4.MapItem(PORTS, 0),
            l4.GrantItem(fpage(BASE + PAGE), 0),
        ]
        sent = send(cast.b, *items)
        return sent, reads(BASE), reads(BASE + PAGE), [base for base, _ in shown()]

    def b(cast: Cast) -> object:
        accept(fpage(THERE))
        return receive(), reads(THERE), extents()

    left = [BASE + n * PAGE for n in range(1, 5)]
    assert meet(a, b) == ((CUT_THERE, None, b"1", left), (CUT_HERE, b"0", 1))


@conforms("Items: reserved areas")
def test_reserved_areas_take_and_give_nothing() -> None:
    """Into a UTCB area, a KIP area, and where strings are, nothing is mapped; nothing there can be sent."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        string = at(bytearray(PAGE))
        sent = [
            send(cast.b, l4.MapItem(fpage(BASE), place)) for place in (l4.MyLocalId() & -PAGE, THERE, BUFFERS)
        ]
        return sent, send(cast.b, l4.MapItem(fpage(string), THERE + PAGE))

    def b(cast: Cast) -> object:
        own().reserve(THERE, PAGE)
        accept()
        return [receive() for _ in range(4)], shown(), extents()

    assert meet(a, b) == (([SENT] * 3, SENT), ([SENT] * 4, [], 0))


@conforms("Items: kernel books")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_books_are_exact(seed: int) -> None:
    """After mapping, granting, a cut message and a time-out, frames and capabilities are as counted by hand."""

    def a(cast: Cast) -> object:
        before = free(), extents()
        four_pages()
        send(cast.b, l4.MapItem(fpage(BASE, 2), BASE))
        send(cast.b, l4.GrantItem(fpage(BASE + 2 * PAGE), BASE + 2 * PAGE))
        send(cast.b, l4.GrantItem(fpage(BASE + 3 * PAGE), BASE + 3 * PAGE))
        load_message(l4.GrantItem(fpage(BASE), BASE))
        late = said(l4.Send_Timeout(cast.c, l4.TimePeriod(MOMENT)))
        return late, before[0] - free(), extents() - before[1], len(attach().sys.inventory())

    def b(cast: Cast) -> object:
        accept()
        receive(), receive()
        accept(l4.Nilpage)
        return receive(), extents(), len(attach().sys.inventory())

    def c(cast: Cast) -> object:
        sleep(3 * MOMENT)
        accept()
        return said(l4.Wait_Timeout(l4.ZeroTime)[1]), extents()

    late = Failed(IpcCode.TIMEOUT, Phase.SEND)
    nothing = Failed(IpcCode.TIMEOUT, Phase.RECEIVE)
    # factory, RAM, and of the four pages three and one.
    assert meet(a, b, c, seed=seed) == ((late, 4, 3, 5), (CUT_HERE, 3, 5), (nothing, 0))


@conforms("Items: mapping over what is there")
def test_mapping_back_over_where_it_came_from() -> None:
    """Memory mapped over the very mapping it came from ends with that: the place is empty then."""

    def a(cast: Cast) -> object:
        before = free()
        carve(BASE, fill=b"x")
        send(cast.b, l4.MapItem(fpage(BASE), BASE))
        accept()
        return receive(), shown(), extents(), before - free()

    def b(cast: Cast) -> object:
        accept()
        receive()
        return send(cast.a, l4.MapItem(fpage(BASE), BASE)), reads(BASE), extents()

    assert meet(a, b) == ((SENT, [], 0, 0), (SENT, None, 0))


@conforms("Items: in an answer")
@pytest.mark.parametrize("kind", [l4.MapItem, l4.GrantItem])
def test_items_in_an_answer(kind: type[l4.MapItem] | type[l4.GrantItem]) -> None:
    """An answer's items are taken by the acceptor the caller had when it called."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"answer")
        sender, _ = l4.Wait()
        load_message(kind(fpage(BASE), THERE), words=(3,))
        tag = l4.Reply(sender)
        return said(tag), reads(BASE) is None

    def b(cast: Cast) -> object:
        accept()
        load_message()
        tag = l4.Call(cast.a)
        return said(tag), received_items()[0], reads(THERE, 6)

    item = kind(fpage(BASE), THERE)
    assert meet(a, b) == ((SENT, kind is l4.GrantItem), (Said((3,)), item, b"answer"))


@conforms("Items: in an answer")
@pytest.mark.parametrize("kind", [l4.MapItem, l4.GrantItem])
def test_an_answer_that_is_cut(kind: type[l4.MapItem] | type[l4.GrantItem]) -> None:
    """Overflow of an answer ends the caller's receive phase and the replier's send phase; nothing arrives."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"mine")
        sender, _ = l4.Wait()
        load_message(kind(fpage(BASE), THERE))
        sender, tag = l4.ReplyWait(sender)
        return sender, said(tag), reads(BASE, 4), extents()

    def b(cast: Cast) -> object:
        accept(l4.Nilpage)
        load_message()
        return said(l4.Call(cast.a)), extents()

    assert meet(a, b) == ((l4.nilthread, CUT_THERE, b"mine", 1), (CUT_HERE, 0))


@conforms("Items: within one space")
def test_memory_is_mapped_to_a_second_address() -> None:
    """Threads of one space may map memory to another address there; mapped onto itself it stays as it is."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"twice")
        other = cast.beside("other", receives_twice)
        sent = [send(other, l4.MapItem(fpage(BASE), place)) for place in (BASE, THERE)]
        sleep()
        own().store(THERE, b"T")
        return sent, shown(), reads(BASE, 5), cast.results["other"]

    shows = [(BASE, PAGE), (THERE, PAGE)]
    assert meet(a, sleeps)[0] == ([SENT, SENT], shows, b"Twice", [SENT, SENT])


@conforms("Items: within one space")
def test_memory_is_granted_to_another_address() -> None:
    """A grant within one space moves memory from one address to the other; onto itself it stays."""

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"moved")
        other = cast.beside("other", receives_twice)
        sent = [send(other, l4.GrantItem(fpage(BASE), place)) for place in (BASE, THERE)]
        return sent, shown(), reads(THERE, 5), extents()

    assert meet(a, sleeps)[0] == ([SENT, SENT], [(THERE, PAGE)], b"moved", 1)


def receives_twice(cast: Cast) -> object:
    """Accept mappings anywhere, twice."""
    accept()
    return [receive(), receive()]


def sleeps(cast: Cast) -> None:
    """Only be there."""

"""Typed items through the system call Ipc: what no sender may send, control registers, and hostile packets."""

from collections.abc import Sequence

import pytest

from kernel.abi.messages import (
    FpagePart,
    GrantPart,
    MapPart,
    Packet,
    PacketKind,
    Part,
    ShortPart,
)
from libexo import attach, l4
from libexo.ipc.packing import ENCODE
from libexo.l4.exregs import DELIVER
from tests.libexo import moves
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
    fpage,
    load_message,
    meet,
    reads,
    receive,
    received_items,
    send,
    shown,
    text,
)
from tests.libexo.l4.stage import Cast, Said, entry_of, put, said, sleep

conforms = pytest.mark.conforms
MAP, STRING, CTRL = 0b1000, 3 << 10, 0b1100
IP, FLAGS, SP = 0, 1, 5


# ---------------------------------------------------------------------------------------- what no sender may send


@conforms("Items: malformed")
@pytest.mark.parametrize(
    ("u", "typed"),
    [
        pytest.param(0, [0b1110, 0], id="unknown type"),
        pytest.param(3, [MAP], id="map item of one word"),
        pytest.param(0, [MAP | 1, fpage(BASE), MAP], id="second item cut off"),
        pytest.param(0, [STRING], id="string without address"),
        pytest.param(0, [STRING | 1 << 4, 0], id="string with one address of two"),
        pytest.param(0, [STRING | 1 << 9, 0], id="compound string without its second part"),
        pytest.param(0, [STRING | 1 << 9, 0, MAP, 0], id="compound string that a map item continues"),
        pytest.param(0, [CTRL | 3 << 12, 1], id="control registers cut off"),
    ],
)
def test_malformed_items(u: int, typed: list[int]) -> None:
    """Items of an unknown type, or that are not all there, overflow in the send phase; nothing was sent."""

    def a(cast: Cast) -> object:
        l4.LoadMRs(0, [int(l4.MsgTag.of(u=u, t=len(typed))), *range(u), *map(int, typed)])
        return said(l4.Send(cast.b)), send(cast.b, words=(1,))

    assert meet(a, lambda cast: receive()) == ((CUT_THERE, SENT), Said((1,)))


@conforms("Items: malformed")
@pytest.mark.parametrize(("u", "t"), [(63, 1), (1, 63), (63, 63)])
def test_more_words_than_there_are(u: int, t: int) -> None:
    """A tag that counts more than 63 words overflows in the send phase."""

    def a(cast: Cast) -> object:
        l4.LoadMR(0, u | t << 6)
        return said(l4.Send(cast.b)), send(cast.b, words=(1,))

    assert meet(a, lambda cast: receive()) == ((CUT_THERE, SENT), Said((1,)))


@conforms("Items: malformed")
def test_as_many_words_as_there_are() -> None:
    """63 words, untyped and typed together, are a message; all are in the receiver's registers."""
    words = tuple(range(100, 161))

    def a(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return send(cast.b, l4.MapItem(fpage(BASE), THERE), words=words)

    def b(cast: Cast) -> object:
        accept()
        return receive(), received_items(), reads(THERE)

    assert meet(a, b) == (SENT, (Said(words), (l4.MapItem(fpage(BASE), THERE),), b"x"))


@conforms("Items: acceptor")
def test_untyped_words_are_always_accepted() -> None:
    """With an acceptor of nothing, untyped words come; typed items of any kind are cut, the words being there."""

    def a(cast: Cast) -> object:
        carve(BASE)
        items = (l4.MapItem(fpage(BASE), 0), text(b"abc"), l4.CtrlXferItem(0, {SP: 1}))
        return send(cast.b, words=(1, 2)), [send(cast.b, item, words=(n,)) for n, item in enumerate(items)]

    def b(cast: Cast) -> object:
        l4.Accept(l4.UntypedWordsAcceptor)
        return receive(), [(receive(), l4.StoreMR(1)) for _ in range(3)]

    assert meet(a, b) == ((SENT, [CUT_THERE] * 3), (Said((1, 2)), [(CUT_HERE, n) for n in range(3)]))


@conforms("Items: acceptor")
def test_the_acceptor_stays() -> None:
    """Acceptor and buffers are as they were after a message, and serve for the next."""

    def a(cast: Cast) -> object:
        return [send(cast.b, text(word)) for word in (b"one", b"two")]

    def b(cast: Cast) -> object:
        buffer = bytearray(3)
        accept(ALL, text(buffer))
        return [(receive(), bytes(buffer)) for _ in range(2)]

    assert meet(a, b) == ([SENT, SENT], [(SENT, b"one"), (SENT, b"two")])


# --------------------------------------------------------------------------------------------- control registers


@conforms("Items: CtrlXferItem")
def test_control_registers_need_the_acceptors_c() -> None:
    """A receiver whose acceptor lacks c has the message cut; with it, the item is taken."""
    item = l4.CtrlXferItem(0, {FLAGS: 3, SP: 77})

    def a(cast: Cast) -> object:
        return [send(cast.b, item, words=(9,)) for _ in range(2)]

    def b(cast: Cast) -> object:
        accept(ALL)
        refused = receive()
        accept(ALL, c=True)
        taken, items = receive(), received_items()
        before = l4.ExchangeRegisters(l4.Myself(), DELIVER)
        return refused, taken, items, (before.sp, before.flags)

    assert meet(a, b) == ([CUT_THERE, SENT], (CUT_HERE, Said((9,)), (item,), (77, 3)))


@conforms("Items: CtrlXferItem")
@pytest.mark.parametrize(
    "item",
    [
        pytest.param(l4.CtrlXferItem(0, {2: 1}), id="EDI"),
        pytest.param(l4.CtrlXferItem(0, {SP: 1, 9: 1}), id="SP and EAX"),
        pytest.param(l4.CtrlXferItem(1, {0: 1}), id="FPU"),
        pytest.param(l4.CtrlXferItem(4, {0: 1}), id="CS"),
    ],
)
def test_registers_that_no_thread_has(item: l4.CtrlXferItem) -> None:
    """Of registers a thread here has instruction pointer, stack pointer and flags: any other cuts the message."""

    def a(cast: Cast) -> object:
        return send(cast.b, item)

    def b(cast: Cast) -> object:
        accept(ALL, c=True)
        outcome = receive()
        return outcome, l4.ExchangeRegisters(l4.Myself(), DELIVER).sp

    assert meet(a, b) == (CUT_THERE, (CUT_HERE, 0))


@conforms("Items: CtrlXferItem")
def test_a_new_instruction_pointer() -> None:
    """A thread that accepts a new instruction pointer goes on there, with the stack pointer it was sent."""

    def a(cast: Cast) -> object:
        def elsewhere(sp: int) -> None:
            cast.results["other"] = f"elsewhere with {sp}"

        def there(cast: Cast) -> str:
            accept(ALL, c=True)
            receive()
            return "not sent away"

        other = cast.beside("other", there)
        return send(other, l4.CtrlXferItem(0, {IP: entry_of("elsewhere", elsewhere), SP: 5}))

    def b(cast: Cast) -> object:
        sleep()
        return cast.results["other"]

    assert meet(a, b) == (SENT, "elsewhere with 5")


@conforms("Items: CtrlXferItem")
@pytest.mark.parametrize("words", [(), (1,), (1, 2, 3)])
def test_a_start_message_with_control_registers(words: tuple[int, ...]) -> None:
    """A start message of other than two words leaves IP and SP alone, and may bring them as control registers."""

    def a(cast: Cast) -> object:
        def begin(sp: int) -> None:
            cast.results["other"] = sp

        other = cast.waiting("other")
        return send(other, l4.CtrlXferItem(0, {IP: entry_of("other", begin), SP: 42}), words=words)

    def b(cast: Cast) -> object:
        sleep()
        return cast.results["other"]

    assert meet(a, b) == (SENT, 42)


@conforms("Thread start: items")
def test_a_start_message_with_an_item_nobody_accepts() -> None:
    """A start message with a mapping or a string is cut; the thread waits on, and its pager may try again."""

    def a(cast: Cast) -> object:
        def begin(sp: int) -> None:
            cast.results["other"] = sp

        carve(BASE)
        other = cast.waiting("other")
        ip = entry_of("other", begin)
        cut = [send(other, item, words=(ip, 1)) for item in (l4.MapItem(fpage(BASE), THERE), text(b"abc"))]
        put(ip, 2)
        return cut, said(l4.Send(other))

    def b(cast: Cast) -> object:
        sleep()
        return cast.results["other"]

    assert meet(a, b) == (([CUT_THERE, CUT_THERE], SENT), 2)


# ----------------------------------------------------------------------------------------------- hostile packets


def post(to: int, typed: Sequence[int], *parts: Part, claimed: int | None = None) -> None:
    """Send thread *to* a packet as no libexo would: *typed* words of which *claimed* are, and any *parts*."""
    link = moves.link(attach(), to)
    count = len(typed) if claimed is None else claimed
    packet = Packet(PacketKind.SEND, next(link.sequence), 0, tuple(typed), parts, 0, count)
    link.channel.send((ENCODE(packet),))


def mapping(pages: int = 1) -> tuple[int, ...]:
    """The words of a map item of *pages* at BASE, to go to THERE."""
    return l4.MapItem(fpage(BASE, pages), THERE).words


@conforms("Items: hostile packets")
@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        pytest.param(mapping(), (), id="item without part"),
        pytest.param(mapping(), (ShortPart(b"abc"),), id="string for a map item"),
        pytest.param((STRING, 0), (FpagePart(((0, PAGE, 7),)),), id="extent for a string item"),
        pytest.param((*mapping(), *mapping()), (FpagePart(()),), id="parts for one item of two"),
        pytest.param((0b1110, 0), (), id="unknown type"),
        pytest.param((MAP,), (FpagePart(()),), id="map item of one word"),
        pytest.param(mapping(), (FpagePart(((0, PAGE, 7),)),), id="no such offer"),
        pytest.param(mapping(), (FpagePart(((0, PAGE, (1 << 32) - 1),)),), id="offer of the last handle"),
        pytest.param(mapping(), (FpagePart(((1, PAGE, 7),)),), id="no page"),
        pytest.param(mapping(), (FpagePart(((0, 0, 7),)),), id="extent of no bytes"),
        pytest.param(mapping(), (FpagePart(((PAGE, PAGE, 7),)),), id="outside the fpage"),
        pytest.param(mapping(), (FpagePart((((1 << 64) - PAGE, PAGE, 7),)),), id="far outside"),
        pytest.param(mapping(2), (FpagePart(((0, 2 * PAGE, 7), (PAGE, PAGE, 7))),), id="overlapping"),
        pytest.param((), (MapPart(7), GrantPart(7)), id="native capabilities"),
        pytest.param((), (ShortPart(b"native"),), id="native string"),
        pytest.param((CTRL | 1 << 12, 5), (), id="control registers unasked"),
    ],
)
def test_packets_that_lie(typed: Sequence[int], parts: tuple[Part, ...]) -> None:
    """Items and what comes with them must fit: else the message is cut, and the receiver has nothing of it.

    The sender is not the worse for it: the next message is received as ever.
    """

    def a(cast: Cast) -> object:
        post(cast.b, typed, *parts)
        carve(BASE, fill=b"good")
        return send(cast.b, l4.MapItem(fpage(BASE), THERE))

    def b(cast: Cast) -> object:
        accept(ALL, text(bytearray(8)))
        return receive(), shown(), extents(), receive(), reads(THERE, 4)

    assert meet(a, b) == (SENT, (CUT_HERE, [], 0, SENT, b"good"))


@conforms("Items: hostile packets")
@pytest.mark.parametrize(
    ("typed", "parts", "claimed"),
    [
        pytest.param((1, 2), (), 3, id="more typed words than words"),
        pytest.param((1, 2), (), -1, id="fewer than none"),
        pytest.param(mapping(), (FpagePart(((0, PAGE, 1 << 32),)),), 2, id="an offer that is no handle"),
        pytest.param(mapping(), (FpagePart(((0, PAGE, (1 << 64) - 1),)),), 2, id="nor this"),
    ],
)
def test_packets_that_are_none(typed: Sequence[int], parts: tuple[Part, ...], claimed: int) -> None:
    """A packet that contradicts itself is no message: nobody receives it."""

    def a(cast: Cast) -> object:
        post(cast.b, typed, *parts, claimed=claimed)
        return send(cast.b, words=(1,))

    assert meet(a, lambda cast: receive()) == (SENT, Said((1,)))


@conforms("Items: hostile packets")
def test_offers_are_for_whom_they_were_made() -> None:
    """An offer made to one environment cannot be taken by another, even if a message names it."""

    def a(cast: Cast) -> object:
        handle = carve(BASE, fill=b"secret")
        offer = attach().sys.transfer(handle, cast.c, 7)
        post(cast.b, mapping(), FpagePart(((0, PAGE, offer),)))
        return None

    def b(cast: Cast) -> object:
        accept()
        return receive(), extents()

    assert meet(a, b, lambda cast: None)[1] == (CUT_HERE, 0)


@conforms("Items: hostile packets")
def test_an_extent_of_another_size_than_said() -> None:
    """The accepted extent must be as large as the message said: otherwise it is given up, and the message cut."""

    def a(cast: Cast) -> object:
        offer = attach().sys.transfer(carve(BASE, 2), cast.b, 7)
        post(cast.b, mapping(), FpagePart(((0, PAGE, offer),)))
        return None

    def b(cast: Cast) -> object:
        accept()
        return receive(), shown(), extents()

    assert meet(a, b)[1] == (CUT_HERE, [], 0)


@conforms("Items: hostile packets")
def test_an_item_that_says_more_rights_than_were_offered() -> None:
    """Rights are the offer's, which the kernel keeps, whatever the item's words say."""

    def a(cast: Cast) -> object:
        offer = attach().sys.transfer(carve(BASE, fill=b"x"), cast.b, l4.Readable)
        post(cast.b, mapping(), FpagePart(((0, PAGE, offer),)))
        return None

    def b(cast: Cast) -> object:
        accept()
        outcome = receive()
        rights = [attach().sys.inspect(handle).rights for handle in attach().sys.inventory()]
        return outcome, reads(THERE), l4.Readable in rights

    assert meet(a, b)[1] == (SENT, b"x", True)


@conforms("Items: hostile packets")
def test_an_answer_that_lies() -> None:
    """An answer is held to the same: a caller whose answer brings what it should not sees overflow, and goes on."""

    def a(cast: Cast) -> object:
        for _ in range(2):
            sender, _ = l4.Wait()
            origin = attach().thread.callers.pop(sender)
            assert origin.peer is not None
            words = mapping()
            packet = Packet(PacketKind.REPLY, origin.sequence, 0, words, (FpagePart(((0, PAGE, 7),)),), 0, 2)
            origin.peer.tickets.answer.claim()
            moves.open_inbox(attach()).send(origin.peer.token, (ENCODE(packet),))
        return None

    def b(cast: Cast) -> object:
        accept()
        load_message()
        first = said(l4.Call(cast.a))
        load_message()
        return first, said(l4.Call(cast.a)), shown()

    assert meet(a, b)[1] == (CUT_HERE, CUT_HERE, [])

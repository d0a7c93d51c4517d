"""Page faults through the system call Ipc: what the pager hears, what its answer does, what the thread notices."""

import pytest

from kernel.abi.messages import IpcCode, Label, Phase
from libexo import l4
from libexo.l4.exregs import DELIVER
from tests.libexo.l4.meetings import (
    BASE,
    PAGE,
    SENT,
    THERE,
    Answer,
    carve,
    extents,
    fpage,
    load_message,
    mapping,
    meet,
    own,
    reads,
    serve,
    shown,
    text,
)
from tests.libexo.l4.stage import MOMENT, SEEDS, Cast, Failed, Said, put, said, sleep

conforms = pytest.mark.conforms
R, W, X = l4.Readable, l4.Writable, l4.eXecutable


@conforms("Page fault: message")
@pytest.mark.parametrize(
    ("access", "label"),
    [(R, 0xFFFF_FFFF_FFE4), (W, 0xFFFF_FFFF_FFE2), (X, 0xFFFF_FFFF_FFE1), (R | W, 0xFFFF_FFFF_FFE6)],
)
def test_what_the_pager_hears(access: int, label: int) -> None:
    """A fault is label -2 with the access in its low bits, two untyped words: the address, the instruction pointer.

    The thread's instruction pointer is the word of its entry: 0 for the first of a program, which has none.
    """

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        return [bytes(piece) for piece in own().view(BASE + 5, 3, access)]

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"12345678")
        return serve([mapping])

    assert meet(a, b) == ([b"678"], [(label, 2, 0, BASE + 5, 0)])
    assert label & ~7 == Label.PAGE_FAULT


@conforms("Page fault: message")
def test_the_entry_of_the_thread() -> None:
    """A thread that began at an entry reports its word: so the pager of many can tell where each began."""
    ips: list[int] = []

    def a(cast: Cast) -> object:
        def part(cast: Cast) -> bytes:
            l4.Set_Pager(cast.b)
            return own().load(BASE, 1)

        other = cast.beside("other", part)
        ips.append(l4.ExchangeRegisters(other, DELIVER).ip)
        sleep()
        return cast.results["other"]

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return serve([mapping])[0][4]

    found, ip = meet(a, b)
    assert (found, [ip]) == (b"x", ips)
    assert ip


@conforms("Page fault: to whom")
@pytest.mark.parametrize("seed", SEEDS)
def test_each_thread_has_its_own_pager(seed: int) -> None:
    """A fault goes to the pager in the TCR of the thread that faults, at the time."""

    def a(cast: Cast) -> object:
        def other(cast: Cast) -> bytes:
            l4.Set_Pager(cast.c)
            return own().load(THERE, 1)

        cast.beside("other", other)
        l4.Set_Pager(cast.b)
        first = own().load(BASE, 1)
        l4.Set_Pager(cast.c)
        second = own().load(BASE + PAGE, 1)
        sleep()
        return first, second, cast.results["other"]

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"b")
        return len(serve([mapping]))

    def c(cast: Cast) -> object:
        carve(BASE + PAGE, fill=b"c")
        carve(THERE, fill=b"t")
        return len(serve([mapping] * 2))

    assert meet(a, b, c, seed=seed) == ((b"b", b"c", b"t"), 1, 2)


@conforms("Page fault: to whom")
def test_the_pager_set_by_another_thread() -> None:
    """A pager may be set from outside, by ThreadControl or ExchangeRegisters; the next fault goes there."""

    def a(cast: Cast) -> object:
        def part(cast: Cast) -> bytes:
            sleep(2 * MOMENT)
            return own().load(BASE, 1)

        other = cast.beside("other", part)
        l4.Set_PagerOf(other, cast.b)
        sleep(4 * MOMENT)
        return cast.results["other"], l4.PagerOf(other) == cast.b

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return serve([mapping])[0][3]

    assert meet(a, b) == ((b"x", True), BASE)


@conforms("Page fault: answer")
def test_a_grant_answers() -> None:
    """The answer may grant: the page is the faulting thread's then, and its pager's no more."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        return own().load(BASE, 4), extents()

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"gift")
        serve([lambda address: (l4.GrantItem(fpage(BASE), BASE),)])
        return extents()

    assert meet(a, b) == ((b"gift", 1), 0)


@conforms("Page fault: answer")
def test_an_answer_brings_what_it_likes_anywhere() -> None:
    """The faulting thread accepts mappings everywhere: an answer may bring more pages, elsewhere as well."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        return own().load(BASE, 1), shown()

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"0")
        carve(BASE + PAGE, fill=b"1")
        carve(THERE)
        items = (l4.MapItem(fpage(BASE, 2), BASE), l4.MapItem(fpage(THERE), THERE + PAGE))
        return len(serve([lambda address: items]))

    pages = [(BASE, PAGE), (BASE + PAGE, PAGE), (THERE + PAGE, PAGE)]
    assert meet(a, b) == ((b"0", pages), 1)


@conforms("Page fault: answer")
@pytest.mark.parametrize(
    "useless",
    [
        pytest.param(lambda address: (), id="empty"),
        pytest.param(lambda address: (l4.MapItem(l4.Nilpage, 0),), id="nil fpage"),
        pytest.param(lambda address: (l4.MapItem(fpage(THERE), THERE),), id="another page"),
        pytest.param(lambda address: (l4.MapItem(fpage(BASE, rights=R), BASE),), id="too few rights"),
    ],
)
def test_an_answer_that_does_not_help(useless: Answer) -> None:
    """After an answer that does not bring what is missing the access is tried again: the fault comes again."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        own().store(BASE, b"X")
        return own().load(BASE, 4)

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"text")
        carve(THERE)
        return [(label & 7, address) for label, _, _, address, _ in serve([useless, useless, mapping])]

    assert meet(a, b) == (b"Xext", [(W, BASE)] * 3)


@conforms("Page fault: answer")
def test_an_answer_with_a_string() -> None:
    """An answer with what a fault does not accept is cut at the pager, and the thread tries again."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        return own().load(BASE, 1)

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        sender, _ = l4.Wait()
        load_message(text(b"abc"))
        cut = said(l4.Reply(sender))
        return cut, len(serve([mapping]))

    assert meet(a, b) == (b"x", (Failed(IpcCode.OVERFLOW, Phase.SEND), 1))


@conforms("Page fault: registers")
def test_registers_are_as_before() -> None:
    """To the thread nothing has happened: MRs, BRs, ErrorCode, ActualSender are as before the access."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        l4.LoadMRs(0, range(100, 164))
        l4.LoadBRs(0, [0, *range(200, 232)])
        assert l4.Receive_Timeout(cast.b, l4.ZeroTime).E
        l4.LoadMR(0, 100)
        l4.Set_VirtualSender(cast.c)
        before = l4.StoreMRs(0, 64), l4.StoreBRs(0, 33), l4.ErrorCode(), l4.ActualSender()
        found = own().load(BASE, 1)
        return found, (l4.StoreMRs(0, 64), l4.StoreBRs(0, 33), l4.ErrorCode(), l4.ActualSender()) == before

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        sleep()
        return len(serve([mapping]))

    assert meet(a, b, lambda cast: None)[0] == (b"x", True)


@conforms("Page fault: registers")
def test_calls_to_be_answered_stay() -> None:
    """A server that faults before it answers still answers its caller."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        sender, _ = l4.Wait()
        found = own().load(BASE, 1)
        put(found[0])
        return said(l4.Reply(sender))

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return len(serve([mapping]))

    def c(cast: Cast) -> object:
        put(1)
        return said(l4.Call(cast.a))

    assert meet(a, b, c) == (SENT, 1, Said((ord("x"),)))


@conforms("Page fault: nesting")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_pager_that_faults_itself(seed: int) -> None:
    """A pager that touches what it lacks faults to its own pager, before it answers; then both go on."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        return own().load(BASE, 4)

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)

        def answer(address: int) -> tuple[l4.Item, ...]:
            own().load(address, 1)
            return mapping(address)

        return [address for _, _, _, address, _ in serve([answer])]

    def c(cast: Cast) -> object:
        carve(BASE, fill=b"deep")
        return [address for _, _, _, address, _ in serve([mapping])]

    assert meet(a, b, c, seed=seed) == (b"deep", [BASE], [BASE])


@conforms("Page fault: nesting")
def test_an_access_over_several_pages() -> None:
    """An access that crosses pages faults once for each that is missing, in order."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        return own().load(BASE + PAGE - 1, PAGE + 2)[:2]

    def b(cast: Cast) -> object:
        for page in range(3):
            carve(BASE + page * PAGE, fill=b"%d" % page)
        return [address for _, _, _, address, _ in serve([mapping] * 3)]

    assert meet(a, b) == (b"\x001", [BASE + PAGE - 1, BASE + PAGE, BASE + 2 * PAGE])


@conforms("Page fault: after Unmap")
def test_what_was_unmapped_faults_again() -> None:
    """Once the pager has taken a page back, the next access faults, and sees what the page is then."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        first = own().load(BASE, 1)
        sleep(2 * MOMENT)
        return first, own().load(BASE, 1)

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"1")

        def again() -> None:
            sleep()
            l4.UnmapFpage(fpage(BASE))
            own().store(BASE, b"2")

        return len(serve([mapping], then=again)) + len(serve([mapping]))

    assert meet(a, b) == ((b"1", b"2"), 2)


@conforms("Page fault: none")
def test_no_fault_where_nothing_is_missing() -> None:
    """An access to memory that is there, or to Python's own, asks no pager."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        carve(BASE, fill=b"mine")
        string = own().buffer(b"constant")
        return own().load(BASE, 4), own().load(string, 8), reads(BASE + PAGE)

    assert meet(a, lambda cast: said(l4.Wait_Timeout(l4.TimePeriod(MOMENT))[1])) == (
        (b"mine", b"constant", None),
        Failed(IpcCode.TIMEOUT, Phase.RECEIVE),
    )

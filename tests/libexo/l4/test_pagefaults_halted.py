"""Page faults without an answer, or in the middle of a message: the halted threads, and how they go on."""

import pytest

from libexo import l4
from libexo.l4.exregs import DELIVER
from tests.libexo.l4.meetings import (
    ALL,
    BASE,
    SENT,
    THERE,
    TUNNELLED,
    accept,
    carve,
    mapping,
    meet,
    own,
    receive,
    send,
    serve,
    text,
)
from tests.libexo.l4.stage import LONG, MOMENT, WAITS, Cast, Part, sleep

conforms = pytest.mark.conforms
R, W, X = l4.Readable, l4.Writable, l4.eXecutable


def loads(pager: int) -> Part:
    """A part that has *pager*, and reads a byte at BASE."""

    def part(cast: Cast) -> bytes:
        l4.Set_Pager(pager)
        return own().load(BASE, 1)

    return part


def halted(cast: Cast) -> tuple[bool, object]:
    """Whether the other thread is halted, and what it has read."""
    control = l4.ExchangeRegisters(cast.other, DELIVER).control
    return l4.ThreadWasHalted(control), cast.result("other")


def resumed(cast: Cast) -> object:
    """Resume the other thread with *b* as pager; return what it has read a MOMENT later."""
    l4.Set_PagerOf(cast.other, cast.b)
    l4.Start(cast.other)
    sleep()
    return cast.result("other")


def pages(cast: Cast) -> int:
    """Have a page, and map it to the first thread that faults; return how many did."""
    carve(BASE, fill=b"x")
    return len(serve([mapping]))


@conforms("Page fault: no pager")
def test_without_a_pager_the_thread_halts() -> None:
    """A thread that faults with a nil pager is halted; resumed with a pager, it tries again and goes on."""

    def a(cast: Cast) -> object:
        cast.beside("other", loads(l4.nilthread))
        sleep()
        return halted(cast), resumed(cast)

    assert meet(a, pages) == (((True, WAITS), b"x"), 1)


@conforms("Page fault: no pager")
def test_a_pager_that_is_no_thread() -> None:
    """The same with a pager that does not exist."""

    def a(cast: Cast) -> object:
        cast.beside("other", loads(l4.GlobalId(3000, 1)))
        sleep()
        return halted(cast)

    assert meet(a, lambda cast: None)[0] == (True, WAITS)


@conforms("Page fault: no pager")
@pytest.mark.parametrize("took", [False, True])
def test_the_pager_dies(*, took: bool) -> None:
    """A thread whose pager ends while it is to answer, or before it took the fault, halts, and can be resumed."""

    def a(cast: Cast) -> object:
        cast.beside("other", loads(cast.c))
        sleep(3 * MOMENT)
        cast.tasks["c"].kill()
        sleep()
        return halted(cast), resumed(cast)

    def c(cast: Cast) -> object:
        if took:
            l4.Wait()
        sleep(LONG)
        return None

    assert meet(a, pages, c)[:2] == (((True, WAITS), b"x"), 1)


@conforms("Page fault: aborted")
def test_an_aborted_fault_starts_again() -> None:
    """A fault whose IPC another thread aborts is no error to the thread: it tries again, and faults again."""

    def a(cast: Cast) -> object:
        other = cast.beside("other", loads(cast.b))
        sleep(2 * MOMENT)
        l4.AbortIpc_and_stop(other)
        stopped = cast.result("other")
        l4.Start(other)
        sleep(2 * MOMENT)
        return stopped, cast.result("other")

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        l4.Wait()
        return len(serve([mapping]))

    assert meet(a, b) == ((WAITS, b"x"), 1)


@conforms("Page fault: tunnelled")
def test_a_fault_in_the_middle_of_a_message() -> None:
    """A fault during the copy of a string says so: its instruction pointer is all ones, in any thread."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        return send(cast.c, l4.StringItem(3, BASE))

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"abc")
        carve(THERE)
        return [fault[3:] for fault in serve([mapping] * 2)]

    def c(cast: Cast) -> object:
        l4.Set_Pager(cast.b)
        accept(ALL, l4.StringItem(3, THERE))
        return receive(), own().load(THERE, 3)

    assert meet(a, b, c) == (SENT, [(BASE, TUNNELLED), (THERE, TUNNELLED)], (SENT, b"abc"))


@conforms("Page fault: tunnelled")
def test_no_pager_in_the_middle_of_a_message() -> None:
    """A receiver that faults without a pager is halted, the sender held up; both go on when it is resumed."""

    def a(cast: Cast) -> object:
        def part(cast: Cast) -> object:
            l4.Set_Pager(l4.nilthread)
            accept(ALL, l4.StringItem(3, THERE))
            return receive(), own().load(THERE, 3)

        other = cast.beside("other", part)
        sleep(2 * MOMENT)
        carve(THERE)
        l4.Start(other)
        sleep()
        return cast.result("other")

    def b(cast: Cast) -> object:
        sleep()
        before = l4.SystemClock()
        return send(cast.other, text(b"abc")), l4.SystemClock() - before >= MOMENT // 2

    assert meet(a, b) == ((SENT, b"abc"), (SENT, True))

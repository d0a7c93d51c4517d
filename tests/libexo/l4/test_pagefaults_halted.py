"""Page faults that are not answered, or come in the middle of a message: who halts, and how he goes on."""

import pytest

from libexo import l4
from libexo.l4.exchange import DELIVER
from tests.libexo.l4.meetings import (
    ALL,
    BASE,
    SENT,
    THERE,
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
from tests.libexo.l4.stage import LONG, MOMENT, WAITS, Cast, sleep

conforms = pytest.mark.conforms
R, W, X = l4.Readable, l4.Writable, l4.eXecutable
TUNNELLED = (1 << 64) - 1


@conforms("Page fault: no pager")
def test_without_a_pager_the_thread_halts() -> None:
    """A thread that faults with a nil pager is halted; resumed with a pager, it tries again and goes on."""

    def a(cast: Cast) -> object:
        def part(cast: Cast) -> bytes:
            l4.Set_Pager(l4.nilthread)
            return own().load(BASE, 1)

        other = cast.beside("other", part)
        sleep()
        halted = l4.ThreadWasHalted(l4.ExchangeRegisters(other, DELIVER).control), cast.result("other")
        l4.Set_PagerOf(other, cast.b)
        l4.Start(other)
        sleep()
        return halted, cast.result("other")

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return len(serve([mapping]))

    assert meet(a, b) == (((True, WAITS), b"x"), 1)


@conforms("Page fault: no pager")
def test_a_pager_that_is_no_thread() -> None:
    """The same with a pager that does not exist."""

    def a(cast: Cast) -> object:
        def part(cast: Cast) -> bytes:
            l4.Set_Pager(l4.GlobalId(3000, 1))
            return own().load(BASE, 1)

        other = cast.beside("other", part)
        sleep()
        return l4.ThreadWasHalted(l4.ExchangeRegisters(other, DELIVER).control), cast.result("other")

    assert meet(a, lambda cast: None)[0] == (True, WAITS)


@conforms("Page fault: no pager")
@pytest.mark.parametrize("took", [False, True])
def test_the_pager_dies(*, took: bool) -> None:
    """A thread whose pager ends while it is to answer, or before it took the fault, halts, and can be resumed."""

    def a(cast: Cast) -> object:
        def part(cast: Cast) -> bytes:
            l4.Set_Pager(cast.c)
            return own().load(BASE, 1)

        other = cast.beside("other", part)
        sleep(3 * MOMENT)
        cast.tasks["c"].kill()
        sleep()
        halted = l4.ThreadWasHalted(l4.ExchangeRegisters(other, DELIVER).control), cast.result("other")
        l4.Set_PagerOf(other, cast.b)
        l4.Start(other)
        sleep()
        return halted, cast.result("other")

    def b(cast: Cast) -> object:
        carve(BASE, fill=b"x")
        return len(serve([mapping]))

    def c(cast: Cast) -> object:
        if took:
            l4.Wait()
        sleep(LONG)
        return None

    assert meet(a, b, c)[:2] == (((True, WAITS), b"x"), 1)


@conforms("Page fault: aborted")
def test_an_aborted_fault_starts_again() -> None:
    """A fault whose IPC another thread aborts is no error to the thread: it tries again, and faults again."""

    def a(cast: Cast) -> object:
        def part(cast: Cast) -> bytes:
            l4.Set_Pager(cast.b)
            return own().load(BASE, 1)

        other = cast.beside("other", part)
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
    """A fault during the copy of a string says so: its instruction pointer is all ones, whoever's thread it is."""

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
    """A receiver who faults without a pager is halted, the sender held up; both go on when he is resumed."""

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

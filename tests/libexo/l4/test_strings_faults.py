"""Strings through the system call Ipc in pages that fault, and the transfer time-outs that bound such faults."""

from collections.abc import Callable

import pytest

from kernel.abi.limits import MAX_STRING
from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from libexo.l4.space.buffers import BUFFERS
from tests.libexo.l4.meetings import (
    ALL,
    BASE,
    PAGE,
    SENT,
    THERE,
    TUNNELLED,
    accept,
    carve,
    fpage,
    load_message,
    meet,
    own,
    reads,
    receive,
    received_items,
    send,
    text,
)
from tests.libexo.l4.stage import LONG, MOMENT, SEEDS, Cast, Failed, Said, said, sleep

conforms = pytest.mark.conforms
OVERFLOW, HERE, BEYOND = IpcCode.OVERFLOW, IpcCode.XFER_TIMEOUT_HERE, IpcCode.XFER_TIMEOUT_THERE


def pager(pages: dict[int, bytes], delay: int = 0) -> Callable[[Cast], list[tuple[int, ...]]]:
    """A part that has *pages* (address to first bytes) and maps them to threads that fault there, after *delay* us.

    It returns the faults it saw: what of the label says the access, address, instruction pointer.
    """

    def part(cast: Cast) -> list[tuple[int, ...]]:
        for address, fill in pages.items():
            carve(address, fill=fill)
        seen: list[tuple[int, ...]] = []
        sender, tag = l4.Wait_Timeout(l4.TimePeriod(LONG))
        while not tag.E:
            address, ip = l4.StoreMRs(1, 2)
            seen.append((tag.label & 7, address, ip))
            if delay:
                sleep(delay)
            load_message(l4.MapItem(fpage(address & -PAGE), address & -PAGE))
            sender, tag = l4.ReplyWait_Timeout(sender, l4.TimePeriod(LONG))
        return seen

    return part


@conforms("Strings: page faults")
@pytest.mark.parametrize("seed", SEEDS)
def test_strings_that_fault_at_both_sides(seed: int) -> None:
    """A page that is missing, at the sender or the receiver, is had from the pager of whose page it is.

    The fault says which access, where, and that it is no instruction's: its instruction pointer is all ones. The
    message registers are as if nothing had happened.
    """

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        return send(cast.b, l4.StringItem(5, BASE + PAGE - 2), words=(7,)), l4.StoreMR(1), l4.StoreMR(2) >> 10

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        accept(ALL, l4.StringItem(5, THERE + 1))
        kept = l4.StoreBRs(0, 4)
        return receive(), own().load(THERE + 1, 5), l4.StoreBRs(0, 4) == kept, received_items()

    pages = {BASE: bytes(PAGE - 2) + b"ab", BASE + PAGE: b"cde", THERE: b""}
    sent, received, faults = meet(a, b, pager(pages), seed=seed)

    assert sent == (SENT, 7, 5)
    assert received == (Said((7,)), b"abcde", True, (l4.StringItem(5, BASE + PAGE - 2),))
    assert faults == [
        (l4.Readable, BASE + PAGE - 2, TUNNELLED),
        (l4.Readable, BASE + PAGE, TUNNELLED),
        (l4.Writable, THERE + 1, TUNNELLED),
    ]


@conforms("Strings: page faults")
def test_a_buffer_that_may_not_be_written() -> None:
    """A buffer that is mapped read-only faults for writing, and its pager may map it to be written."""

    def a(cast: Cast) -> object:
        sleep()
        return send(cast.b, text(b"new"))

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        found = own().load(THERE, 3)
        own().unmap([fpage(THERE)], flush=True)
        accept(ALL)
        load_message(words=(1,))
        l4.Call(cast.c)
        before = reads(THERE, 3), own().load(THERE, 3)
        accept(ALL, l4.StringItem(3, THERE))
        return found, before, receive(), own().load(THERE, 3)

    def c(cast: Cast) -> object:
        carve(THERE, fill=b"old")
        sender, _ = l4.Wait()
        seen = []
        for rights in (7, 4, 7):
            seen.append(l4.Label(l4.MsgTag(l4.StoreMR(0))) & 7)
            load_message(l4.MapItem(fpage(THERE, rights=rights), THERE))
            sender, _ = l4.ReplyWait_Timeout(sender, l4.TimePeriod(LONG))
        return seen

    assert meet(a, b, c)[1:] == (
        (b"old", (b"old", b"old"), SENT, b"new"),
        [l4.Readable, 0, l4.Writable],
    )


@conforms("Strings: transfer time-outs")
def test_a_slow_pager_within_the_time_out() -> None:
    """Faults that are answered within the transfer time-outs hold the message up, and that is all."""

    def a(cast: Cast) -> object:
        l4.Set_XferTimeouts(l4.Timeouts(l4.TimePeriod(LONG), l4.ZeroTime))
        return send(cast.b, text(b"abc"))

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        l4.Set_XferTimeouts(l4.Timeouts(l4.ZeroTime, l4.TimePeriod(LONG)))
        accept(ALL, l4.StringItem(3, THERE))
        return receive(), own().load(THERE, 3)

    assert meet(a, b, pager({THERE: b""}, delay=10 * MOMENT))[:2] == (SENT, (SENT, b"abc"))


@conforms("Strings: transfer time-outs")
@pytest.mark.parametrize("seed", SEEDS)
def test_the_receivers_time_out_expires(seed: int) -> None:
    """A receiver whose faults took longer than its time-out sees 5, the sender 6; both see the copied bytes."""

    def a(cast: Cast) -> object:
        return send(cast.b, text(b"ab"), text(b"cdef"))

    def b(cast: Cast) -> object:
        carve(THERE)
        l4.Set_Pager(cast.c)
        l4.Set_XferTimeouts(l4.Timeouts(l4.Never, l4.TimePeriod(2 * MOMENT)))
        accept(ALL, l4.StringItem(2, THERE), l4.StringItem(4, THERE + PAGE - 3))
        outcome = receive()
        return outcome, own().load(THERE, 2), own().load(THERE + PAGE - 3, 3)

    assert meet(a, b, pager({}, delay=LONG), seed=seed)[:2] == (
        Failed(BEYOND, Phase.SEND, 5),
        (Failed(HERE, Phase.RECEIVE, 5), b"ab", b"cde"),
    )


@conforms("Strings: transfer time-outs")
def test_a_time_out_of_no_length() -> None:
    """A receiver's time-out of zero allows no fault, and counts against the sender: 5 there, 6 at the receiver."""

    def a(cast: Cast) -> object:
        return send(cast.b, text(b"abc"))

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        l4.Set_XferTimeouts(l4.Timeouts(l4.Never, l4.ZeroTime))
        accept(ALL, l4.StringItem(3, THERE))
        return receive()

    assert meet(a, b, pager({THERE: b""})) == (
        Failed(HERE, Phase.SEND),
        Failed(BEYOND, Phase.RECEIVE),
        [],
    )


@conforms("Strings: transfer time-outs")
def test_time_outs_bound_page_faults_only() -> None:
    """A time-out of zero on both sides cuts nothing where no page faults, however long the string."""
    data = bytes(MAX_STRING // 4)

    def a(cast: Cast) -> object:
        l4.Set_XferTimeouts(l4.Timeouts(l4.ZeroTime, l4.ZeroTime))
        return send(cast.b, text(data))

    def b(cast: Cast) -> object:
        l4.Set_XferTimeouts(l4.Timeouts(l4.ZeroTime, l4.ZeroTime))
        accept(ALL, text(bytearray(len(data))))
        return receive()

    assert meet(a, b) == (SENT, SENT)


@conforms("Strings: transfer time-outs")
def test_the_senders_time_out_expires_on_his_own_faults() -> None:
    """A sender whose own faults take too long sees 5 in its send phase, and the bytes copied till then.

    Nothing has been sent then: the receiver waits on, and gets the next message.
    """

    def a(cast: Cast) -> object:
        carve(BASE)
        l4.Set_Pager(cast.c)
        l4.Set_XferTimeouts(l4.Timeouts(l4.TimePeriod(2 * MOMENT), l4.Never))
        before = l4.SystemClock()
        cut = send(cast.b, l4.StringItem(PAGE + 1, BASE))
        return cut, 2 * MOMENT <= l4.SystemClock() - before < 3 * MOMENT, send(cast.b, words=(1,))

    def b(cast: Cast) -> object:
        return receive()

    assert meet(a, b, pager({}, delay=LONG))[:2] == (
        (Failed(HERE, Phase.SEND, PAGE), True, SENT),
        Said((1,)),
    )


@conforms("Strings: transfer time-outs")
@pytest.mark.parametrize(
    ("sender", "receiver", "codes"), [(2, 4, (HERE, BEYOND)), (4, 2, (BEYOND, HERE)), (2, 2, (HERE, BEYOND))]
)
def test_the_earlier_time_out_counts(sender: int, receiver: int, codes: tuple[IpcCode, IpcCode]) -> None:
    """The limit is the earlier of both sides'; whose it is sees 5, the other 6. Equal ones are the sender's."""
    took: list[int] = []

    def a(cast: Cast) -> object:
        l4.Set_XferTimeouts(l4.Timeouts(l4.TimePeriod(sender * MOMENT), l4.Never))
        return send(cast.b, text(b"abc"))

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        l4.Set_XferTimeouts(l4.Timeouts(l4.Never, l4.TimePeriod(receiver * MOMENT)))
        accept(ALL, l4.StringItem(3, THERE))
        before = l4.SystemClock()
        outcome = receive()
        took.append(l4.SystemClock() - before)
        return outcome

    assert meet(a, b, pager({}, delay=LONG))[:2] == (
        Failed(codes[0], Phase.SEND),
        Failed(codes[1], Phase.RECEIVE),
    )
    assert 2 * MOMENT <= took[0] < 3 * MOMENT


@conforms("Strings: transfer time-outs")
def test_the_time_out_of_a_pager_that_is_not_there_in_time() -> None:
    """The limit holds for the whole of a fault: time that the pager lets pass before it listens counts as well."""

    def a(cast: Cast) -> object:
        return send(cast.b, text(b"abc"))

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        l4.Set_XferTimeouts(l4.Timeouts(l4.Never, l4.TimePeriod(10 * MOMENT)))
        accept(ALL, l4.StringItem(3, THERE))
        before = l4.SystemClock()
        return receive(), l4.SystemClock() - before < 11 * MOMENT

    def c(cast: Cast) -> object:
        sleep(8 * MOMENT)
        l4.Wait()
        sleep(LONG)
        return None

    assert meet(a, b, c)[:2] == (
        Failed(BEYOND, Phase.SEND),
        (Failed(HERE, Phase.RECEIVE), True),
    )


@conforms("Strings: transfer time-outs")
def test_the_time_out_of_an_answer() -> None:
    """An answer's strings are held to the same: the replier's time-out bounds the caller's faults."""

    def a(cast: Cast) -> object:
        sender, _ = l4.Wait()
        l4.Set_XferTimeouts(l4.Timeouts(l4.TimePeriod(2 * MOMENT), l4.Never))
        load_message(text(b"abcdef"))
        return said(l4.Reply(sender))

    def b(cast: Cast) -> object:
        carve(THERE)
        l4.Set_Pager(cast.c)
        accept(ALL, l4.StringItem(6, THERE + PAGE - 4))
        load_message()
        return said(l4.Call(cast.a)), own().load(THERE + PAGE - 4, 4)

    assert meet(a, b, pager({}, delay=LONG))[:2] == (
        Failed(HERE, Phase.SEND, 4),
        (Failed(BEYOND, Phase.RECEIVE, 4), b"abcd"),
    )


@conforms("Strings: transfer time-outs")
def test_a_moment_as_time_out() -> None:
    """A transfer time-out may be a point of the clock: until then, whenever the faults began."""
    took: list[int] = []

    def a(cast: Cast) -> object:
        now = l4.SystemClock()
        l4.Set_XferTimeouts(l4.Timeouts(l4.TimePoint(now + 8 * MOMENT, now), l4.Never))
        sleep(3 * MOMENT)
        outcome = send(cast.b, text(b"abc"))
        took.append(l4.SystemClock() - now)
        return outcome

    def b(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        accept(ALL, l4.StringItem(3, THERE))
        return receive()

    assert meet(a, b, pager({}, delay=LONG))[:2] == (Failed(HERE, Phase.SEND), Failed(BEYOND, Phase.RECEIVE))
    assert 7 * MOMENT < took[0] < 9 * MOMENT


@conforms("Strings: page faults")
def test_no_fault_reaches_a_buffers_address() -> None:
    """Python's memory is never a page fault: a pager is not asked, and could not map anything there."""

    def a(cast: Cast) -> object:
        l4.Set_Pager(cast.c)
        return send(cast.b, l4.StringItem(1, BUFFERS + PAGE))

    assert meet(a, lambda cast: None, pager({})) == (Failed(OVERFLOW, Phase.SEND), None, [])

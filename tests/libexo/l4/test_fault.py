"""The page-fault protocol: what the pager is sent, and that the thread notices nothing."""

import pytest

from kernel.abi.messages import IpcCode, Label, Phase
from libexo import l4
from libexo.l4.engine.fault import TUNNELLED, PageFaults
from libexo.l4.format.constants import ipc_error
from libexo.l4.format.registers import Registers
from tests.libexo.l4.spaces import BASE, Side, fpage, send, sides

PAGER = 0x70_00000001
ENTRY = 0x1234


class Exchange:
    """Stands for the IPC engine: notes what was sent, uses the registers as an IPC does, and returns *error*."""

    def __init__(self, registers: Registers, error: int = 0) -> None:
        self.registers = registers
        self.error = error
        self.sent: list[tuple[int, int, tuple[int, ...], int, int | None]] = []

    def __call__(
        self, to: int, tag: l4.MsgTag, words: tuple[int, ...], window: l4.Fpage, deadline: int | None
    ) -> int:
        self.sent.append((to, tag, words, window, deadline))
        used = self.registers
        used.mr[:] = [99] * len(used.mr)
        used.br[:] = [98] * len(used.br)
        used.error_code = used.virtual_actual_sender = used.intended_receiver = 97
        return self.error


def halted() -> None:
    raise AssertionError("the thread was halted")


@pytest.mark.parametrize(
    ("access", "label"), [(l4.Readable, 0xFFE4), (l4.Writable, 0xFFE2), (l4.eXecutable, 0xFFE1), (6, 0xFFE6)]
)
def test_the_message(registers: Registers, access: int, label: int) -> None:
    """Row 3.2: label -2 with the access, u 2, t 0, address, instruction pointer; to the pager; accepts anywhere."""
    registers.pager = PAGER
    exchange = Exchange(registers)
    PageFaults(exchange, halted, lambda: ENTRY).fault(BASE + 5, access)
    ((to, tag, words, window, deadline),) = exchange.sent

    assert (to, words, window, deadline) == (PAGER, (BASE + 5, ENTRY), l4.CompleteAddressSpace, None)
    assert (l4.Label(l4.MsgTag(tag)) & 0xFFFF, tag & 0xFFFF) == (label, 2)
    assert l4.Label(l4.MsgTag(tag)) == Label.PAGE_FAULT | access


def test_a_tunnelled_fault(registers: Registers) -> None:
    """During a message's transfer the instruction pointer is all ones, and the time may be limited."""
    registers.pager = PAGER
    exchange = Exchange(registers)
    PageFaults(exchange, halted, lambda: ENTRY).tunnelled(BASE, l4.Writable, 777)

    assert [(words, deadline) for _, _, words, _, deadline in exchange.sent] == [((BASE, TUNNELLED), 777)]


def test_a_thread_without_an_entry(registers: Registers) -> None:
    """Where nobody knows an instruction pointer it is 0."""
    registers.pager = PAGER
    exchange = Exchange(registers)
    PageFaults(exchange, halted).fault(BASE, l4.Readable)

    assert exchange.sent[0][2] == (BASE, 0)


@pytest.mark.parametrize("error", [0, ipc_error(IpcCode.OVERFLOW, Phase.RECEIVE)])
def test_the_thread_notices_nothing(registers: Registers, error: int) -> None:
    """Message and buffer registers, ErrorCode and VirtualSender are as before, whatever the IPC did with them."""
    registers.pager = PAGER
    registers.mr[:] = range(64)
    registers.br[:] = range(100, 133)
    registers.error_code, registers.virtual_actual_sender, registers.intended_receiver = 1, 2, 3
    PageFaults(Exchange(registers, error), halted).fault(BASE, l4.Readable)

    assert (registers.mr, registers.br) == (list(range(64)), list(range(100, 133)))
    assert (registers.error_code, registers.virtual_actual_sender, registers.intended_receiver) == (1, 2, 3)


def test_registers_are_restored_when_the_thread_is_torn_out(registers: Registers) -> None:
    """An exception out of the exchange (the thread is sent elsewhere) leaves the registers as they were."""
    registers.pager = PAGER
    registers.mr[1] = 7

    def call(*_: object, **__: object) -> int:
        registers.mr[1] = 8
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PageFaults(call, halted).fault(BASE, l4.Readable)

    assert registers.mr[1] == 7


@pytest.mark.parametrize(
    ("pager", "error", "halts"),
    [
        (l4.nilthread, 0, 1),
        (PAGER, ipc_error(IpcCode.NO_PARTNER, Phase.SEND), 1),
        (PAGER, ipc_error(IpcCode.NO_PARTNER, Phase.RECEIVE), 1),
        (PAGER, ipc_error(IpcCode.CANCELLED, Phase.RECEIVE), 0),
        (PAGER, ipc_error(IpcCode.ABORTED, Phase.RECEIVE), 0),
        (PAGER, ipc_error(IpcCode.TIMEOUT, Phase.RECEIVE), 0),
        (PAGER, ipc_error(IpcCode.OVERFLOW, Phase.RECEIVE), 0),
        (PAGER, 0, 0),
    ],
)
def test_when_the_thread_is_halted(registers: Registers, pager: int, error: int, halts: int) -> None:
    """With a nil pager, or one that is gone, the thread is halted; after any other failure it tries again."""
    registers.pager = pager
    stops: list[int] = []
    exchange = Exchange(registers, error)
    PageFaults(exchange, lambda: stops.append(1)).fault(BASE, l4.Readable)

    assert (len(stops), len(exchange.sent)) == (halts, 1 if pager else 0)


def test_resumed_with_a_pager(registers: Registers) -> None:
    """A thread that was halted without a pager tries again when it is resumed, and then finds one."""
    with sides(1) as (a,):

        def call(*_: object, **__: object) -> int:
            a.carve(BASE)
            return 0

        def halt() -> None:
            registers.pager = PAGER

        a.space.fault = PageFaults(call, halt).fault

        assert a.space.load(BASE, 1) == b"\0"


def test_the_answer_maps_the_page(registers: Registers) -> None:
    """From the access to the pager's map item and back: the thread reads what its pager has at that address."""
    with sides() as (pager, thread):
        registers.pager = pager.thread
        pager.carve(BASE, fill=b"paged")
        handled: list[tuple[int, ...]] = []

        def call(
            to: int, tag: l4.MsgTag, words: tuple[int, ...], window: l4.Fpage, deadline: int | None
        ) -> int:
            handled.append(words)
            answer(pager, thread, words[0], l4.Label(tag) & 7, window)
            return 0

        thread.space.fault = PageFaults(call, halted).fault
        found = thread.space.load(BASE + 1, 4)
        thread.space.store(BASE, b"P")

        assert (found, pager.reads(BASE, 5)) == (b"aged", b"Paged")
        assert handled == [(BASE + 1, 0), (BASE, 0)]


def answer(pager: Side, thread: Side, address: int, access: int, window: l4.Fpage) -> None:
    """Answer a fault as a pager does: with a map item of the page, at its own address."""
    page = fpage(address & ~0xFFF, rights=access)
    send(pager, thread, l4.MapItem(page, address), window)

"""Virtual registers: message and buffer registers, thread control registers, and whose they are."""

import threading
from collections.abc import Callable, Iterator

import pytest

from libexo import l4
from libexo.errors import ExoError
from libexo.l4.format import registers as virtual
from libexo.l4.format.registers import Registers


@pytest.fixture
def engine() -> Iterator[list[Registers]]:
    """Something that gives each thread its registers; the list shows which it gave."""
    given: list[Registers] = []

    def attach() -> Registers:
        given.append(Registers(global_id=len(given) + 1))
        return given[-1]

    kept = virtual._Engine.attach
    virtual.attach_by(attach)
    yield given
    virtual.attach_by(kept)
    virtual.use(None)


def test_registers_begin_empty(registers: Registers) -> None:
    """There are 64 message registers and 33 buffer registers, all zero, and no pager nor handler."""
    assert l4.StoreMRs(0, 64) == (0,) * 64
    assert l4.StoreBRs(0, 33) == (0,) * 33
    assert (l4.Pager(), l4.ExceptionHandler()) == (l4.nilthread, l4.nilthread)


def test_message_registers(registers: Registers) -> None:
    """LoadMR and StoreMR reach each of the 64; the plural reaches a run of them."""
    l4.LoadMR(0, 1)
    l4.LoadMR(63, 2)
    l4.LoadMRs(10, [3, 4, 5])

    assert (l4.StoreMR(0), l4.StoreMR(63)) == (1, 2)
    assert l4.StoreMRs(9, 5) == (0, 3, 4, 5, 0)
    assert registers.mr[10:13] == [3, 4, 5]


def test_buffer_registers(registers: Registers) -> None:
    """LoadBR and StoreBR reach each of the 33; the plural reaches a run of them."""
    l4.LoadBR(0, 1)
    l4.LoadBR(32, 2)
    l4.LoadBRs(30, [3, 4])

    assert (l4.StoreBR(0), l4.StoreBR(32)) == (1, 2)
    assert l4.StoreBRs(29, 4) == (0, 3, 4, 2)
    assert registers.br[0] == 1


def test_words_are_stored_plain(registers: Registers) -> None:
    """A tag, an fpage or an acceptor in a register is the word it is, with the arithmetic of words."""
    l4.LoadMR(1, l4.Fpage(0x1000, 4096))
    l4.LoadMRs(2, [l4.Fpage(0x1000, 4096)])

    assert {type(w) for w in registers.mr} == {int}
    assert l4.StoreMR(1) + 0x1000 == l4.StoreMR(2) + 0x1000 == 0x2000 | 12 << 4


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("message register 64 ", lambda: l4.LoadMR(64, 0)),
        ("message register -1 ", lambda: l4.LoadMR(-1, 0)),
        ("message register 65 ", lambda: l4.StoreMR(65)),
        ("number of message registers from 60 on 5 ", lambda: l4.LoadMRs(60, [0] * 5)),
        ("number of message registers from 0 on 65 ", lambda: l4.StoreMRs(0, 65)),
        ("number of message registers from 0 on -1 ", lambda: l4.StoreMRs(0, -1)),
        ("buffer register 33 ", lambda: l4.LoadBR(33, 0)),
        ("buffer register -1 ", lambda: l4.StoreBR(-1)),
        ("number of buffer registers from 32 on 2 ", lambda: l4.LoadBRs(32, [0, 0])),
        ("number of buffer registers from 1 on 33 ", lambda: l4.StoreBRs(1, 33)),
        ("word 0x10000000000000000 ", lambda: l4.LoadMR(0, 1 << 64)),
        ("word -0x2 ", lambda: l4.LoadMRs(0, [1, -2])),
        ("word -0x1 ", lambda: l4.LoadBR(0, -1)),
        ("thread word 2 ", lambda: l4.ThreadWord(2)),
        ("coprocessor 8 ", lambda: l4.Set_CopFlag(8)),
    ],
)
def test_what_does_not_exist(registers: Registers, what: str, wrong: Callable[[], object]) -> None:
    """A register that is not there, or what is no word, is refused by name."""
    with pytest.raises(ValueError, match=f"{what}is not in"):
        wrong()
    assert not any(registers.mr + registers.br)


def test_half_a_number_is_no_word(registers: Registers) -> None:
    """A value that is no integer is an error of type, and not cut to one."""
    with pytest.raises(TypeError):
        l4.LoadMR(1, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        l4.LoadMRs(1, [1.5])  # type: ignore[list-item]


def test_who_one_is(registers: Registers) -> None:
    """Global id, local id and processor are those of the calling thread."""
    assert l4.MyGlobalId() == l4.Myself() == l4.GlobalId(0x61, 1)
    assert l4.MyLocalId() == 0x1000
    assert l4.ProcessorNo() == 3


def test_control_registers_that_programs_set(registers: Registers) -> None:
    """Handle, pager, exception handler, time-outs of transfers and thread words keep what is written."""
    l4.Set_UserDefinedHandle(1)
    l4.Set_Pager(l4.GlobalId(2, 1))
    l4.Set_ExceptionHandler(l4.GlobalId(3, 1))
    l4.Set_XferTimeouts(l4.Timeouts(l4.ZeroTime, l4.Never))
    l4.Set_ThreadWord(0, 4)
    l4.Set_ThreadWord(1, 5)

    assert l4.UserDefinedHandle() == 1
    assert l4.Pager() == l4.GlobalId(2, 1)
    assert l4.ExceptionHandler() == l4.GlobalId(3, 1)
    assert l4.XferTimeouts() == 0x0400_0000
    assert (l4.ThreadWord(0), l4.ThreadWord(1)) == (4, 5)


def test_control_registers_that_the_kernel_sets(registers: Registers) -> None:
    """Error code, intended receiver and actual sender are what an IPC left there."""
    registers.error_code, registers.intended_receiver = 3, l4.GlobalId(7, 1)
    registers.virtual_actual_sender = l4.GlobalId(8, 1)

    assert l4.ErrorCode() == 3
    assert l4.IntendedReceiver() == l4.GlobalId(7, 1)
    assert l4.ActualSender() == l4.GlobalId(8, 1)


def test_virtual_and_actual_sender_are_one_register(registers: Registers) -> None:
    """Row "Virtual/ActualSender": what Set_VirtualSender writes is where ActualSender reads."""
    l4.Set_VirtualSender(l4.GlobalId(9, 1))

    assert l4.ActualSender() == l4.GlobalId(9, 1)


def test_the_word_size_mask(registers: Registers) -> None:
    """WordSizeMask is all ones, and after a compatibility mode changed it can be made so again."""
    assert l4.WordSizeMask() == (1 << 64) - 1
    registers.word_size_mask = 0xFFFF_FFFF
    l4.Reset_WordSizeMask()
    assert l4.WordSizeMask() == (1 << 64) - 1


def test_preempt_flags(registers: Registers) -> None:
    """Row "preempt flags": s is bit 5, set by Enable...FaultException; d is bit 6, set by DisablePreemption."""
    assert not l4.EnablePreemptionFaultException()
    assert registers.preempt_flags == 1 << 5
    assert not l4.DisablePreemption()
    assert registers.preempt_flags == 1 << 5 | 1 << 6
    assert l4.DisablePreemptionFaultException()
    assert registers.preempt_flags == 1 << 6
    assert l4.EnablePreemption()
    assert registers.preempt_flags == 0


def test_a_pending_preemption_is_told_once(registers: Registers) -> None:
    """Row "preempt flags": I is bit 7; PreemptionPending reads it and clears it, and it alone."""
    registers.preempt_flags = 1 << 7 | 1 << 6

    assert l4.PreemptionPending()
    assert not l4.PreemptionPending()
    assert registers.preempt_flags == 1 << 6


def test_coprocessor_flags(registers: Registers) -> None:
    """Each of eight coprocessors has a flag of its own."""
    l4.Set_CopFlag(0)
    l4.Set_CopFlag(7)
    assert registers.cop_flags == 0x81
    l4.Clr_CopFlag(0)
    assert registers.cop_flags == 0x80


def test_a_thread_gets_its_registers_on_first_use(engine: list[Registers]) -> None:
    """The engine is asked once: later uses find the same registers."""
    l4.LoadMR(1, 5)
    l4.LoadMR(2, 6)

    assert len(engine) == 1
    assert engine[0].mr[1:3] == [5, 6]


def test_threads_have_registers_of_their_own(engine: list[Registers]) -> None:
    """One thread of execution does not see another's registers."""
    seen: list[int] = []
    l4.LoadMR(1, 5)

    other = threading.Thread(target=lambda: seen.extend((l4.StoreMR(1), l4.MyGlobalId())))
    other.start()
    other.join()

    assert seen == [0, 2]
    assert (l4.StoreMR(1), l4.MyGlobalId()) == (5, 1)


def test_registers_can_be_changed_for_others(engine: list[Registers]) -> None:
    """`use` puts others in place; with None the next use attaches again."""
    own = Registers(global_id=99)
    virtual.use(own)
    assert l4.MyGlobalId() == 99
    virtual.use(None)
    assert l4.MyGlobalId() == 1


def test_without_an_engine_there_are_no_registers(engine: list[Registers]) -> None:
    """A thread that nothing attached has no registers, and is told so."""
    virtual.attach_by(None)
    with pytest.raises(ExoError, match="no virtual registers"):
        l4.StoreMR(0)

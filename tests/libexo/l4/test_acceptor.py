"""The acceptor, BR0: s bit 0, c bit 1, window 63..4; and the receive buffers, BR1 to BR32."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4
from libexo.l4.format.acceptor import buffers
from libexo.l4.format.registers import Registers

words = st.integers(0, (1 << 64) - 1)
acceptors = words.map(lambda raw: l4.Acceptor(raw & ~0b1100))
ALL = l4.StringItemsAcceptor + l4.CtrlXferAcceptor + l4.MapGrantItems(l4.CompleteAddressSpace)


def test_the_layout() -> None:
    """Row "acceptor": s is bit 0, c bit 1, the complete address space as window raw 0x10."""
    assert l4.UntypedWordsAcceptor == 0
    assert l4.StringItemsAcceptor == 1
    assert l4.CtrlXferAcceptor == 2
    assert l4.MapGrantItems(l4.CompleteAddressSpace) == 0x10
    assert ALL == 0x13


@pytest.mark.parametrize("rights", range(8))
def test_a_window_has_no_rights(rights: int) -> None:
    """The header's trap: the write right of a window does not come to mean that control registers are accepted."""
    page = l4.Fpage(0x8000, 4096) + rights
    acceptor = l4.MapGrantItems(page)

    assert not acceptor.c
    assert not l4.HasStringItems(acceptor)
    assert l4.RcvWindow(acceptor) == l4.Fpage(0x8000, 4096)


def test_adding_keeps_control_registers() -> None:
    """The header's trap: AddAcceptor does not lose the bit of control registers, on either side."""
    assert l4.AddAcceptor(l4.CtrlXferAcceptor, l4.StringItemsAcceptor) == 3
    assert l4.AddAcceptorTo(l4.StringItemsAcceptor, l4.CtrlXferAcceptor) == 3


@given(acceptors, acceptors)
def test_adding(left: l4.Acceptor, right: l4.Acceptor) -> None:
    """A sum accepts what either accepts, and maps into the right window if there is one, else into the left."""
    both = left + right

    assert (both.s, both.c) == (left.s or right.s, left.c or right.c)
    assert l4.RcvWindow(both) == (l4.RcvWindow(right) or l4.RcvWindow(left))
    assert l4.HasMapGrantItems(both) == (l4.HasMapGrantItems(left) or l4.HasMapGrantItems(right))


@given(acceptors, acceptors)
def test_removing(left: l4.Acceptor, right: l4.Acceptor) -> None:
    """A difference accepts no kind that the right one accepts, and is otherwise the left one."""
    rest = l4.RemoveAcceptor(left, right)

    assert rest == l4.RemoveAcceptorFrom(left, right) == left - right
    assert (rest.s, rest.c) == (left.s and not right.s, left.c and not right.c)
    assert l4.RcvWindow(rest) == (l4.Nilpage if l4.HasMapGrantItems(right) else l4.RcvWindow(left))


def test_what_is_accepted() -> None:
    """Strings, map and grant items are asked for by X.2's functions."""
    assert l4.HasStringItems(ALL)
    assert l4.HasMapGrantItems(ALL)
    assert not l4.HasStringItems(l4.CtrlXferAcceptor)
    assert not l4.HasMapGrantItems(l4.StringItemsAcceptor + l4.CtrlXferAcceptor)
    assert repr(ALL) == "<Acceptor s=1 c=1 window=<Fpage complete --->>"


def test_accepting(registers: Registers) -> None:
    """Accept writes BR0, Accepted reads it."""
    l4.Accept(ALL)

    assert registers.br[0] == 0x13
    assert l4.Accepted() == ALL


def test_receive_buffers(registers: Registers) -> None:
    """Row "BR1..": the buffers follow one another from BR1 on, chained by C."""
    several = l4.MsgBuffer()
    l4.MsgBufferAppendSimpleRcvString(several, l4.StringItem(100, 0x1000))
    l4.MsgBufferAppendRcvString(
        several, l4.AddSubstringTo(l4.StringItem(8, 0x2000), l4.StringItem(9, 0x3000))
    )
    l4.MsgBufferAppendSimpleRcvString(several, l4.StringItem(7, 0x4000))

    l4.AcceptStrings(l4.StringItemsAcceptor, several)

    first, second = (100 << 10 | 1, 0x1000), (8 << 10 | 1 << 9 | 1, 0x2000, 9 << 10, 0x3000)
    assert registers.br[:9] == [1, *first, *second, 7 << 10, 0x4000]
    assert [buffer.size for buffer in buffers(registers.br)] == [100, 17, 7]


def test_a_simple_buffer_is_the_first_substring() -> None:
    """MsgBufferAppendSimpleRcvString takes one piece of a string that has more."""
    several = l4.MsgBuffer()
    item = l4.AddSubstringTo(l4.AddSubstringAddressTo(l4.StringItem(5, 0x10), 0x20), l4.StringItem(7, 0x30))

    l4.MsgBufferAppendSimpleRcvString(several, item)

    assert several.words == (5 << 10, 0x10)


def test_no_buffers_are_one_of_no_length(registers: Registers) -> None:
    """A cleared buffer leaves nothing of an earlier one in the registers: strings find a buffer of no length."""
    several = l4.MsgBuffer()
    l4.MsgBufferAppendSimpleRcvString(several, l4.StringItem(100, 0x1000))
    l4.AcceptStrings(l4.StringItemsAcceptor, several)

    l4.MsgBufferClear(several)
    l4.AcceptStrings(l4.StringItemsAcceptor, several)

    assert registers.br[1:3] == [0, 0]
    assert [buffer.size for buffer in buffers(registers.br)] == [0]


def test_without_strings_there_are_no_buffers(registers: Registers) -> None:
    """Row "BR0, s": whatever BR1.. hold is no buffer when strings are not accepted."""
    l4.LoadBRs(1, [0b1110] * 32)

    assert buffers(registers.br) == ()


@given(st.lists(words, min_size=32, max_size=32))
def test_hostile_buffer_registers(hostile: list[int]) -> None:
    """Any words in BR1 to BR32 are buffers that lie within them, or an error that says which word is wrong."""
    try:
        found = buffers([1, *hostile])
    except ValueError as error:
        assert "buffer registers from BR1 on: word" in str(error)  # noqa: PT017 - either is right
    else:
        assert 1 <= sum(len(one.words) for one in found) <= 32


def test_buffers_that_do_not_fit() -> None:
    """There are 32 registers for buffers: one more is refused, and the others stay."""
    several = l4.MsgBuffer()
    for at in range(16):
        l4.MsgBufferAppendSimpleRcvString(several, l4.StringItem(1, at))

    with pytest.raises(ValueError, match="32 of 32 buffer registers are used"):
        l4.MsgBufferAppendSimpleRcvString(several, l4.StringItem(1, 16))
    assert len(several.words) == 32


def test_what_is_no_buffer() -> None:
    """An item that is no string, or has words beyond its descriptors, is refused."""
    several = l4.MsgBuffer()

    with pytest.raises(ValueError, match="no string descriptor"):
        several.append(l4.StringItem.of((0b1000, 0)))
    with pytest.raises(ValueError, match="words beyond its descriptors"):
        several.append(l4.StringItem.of((0, 0, 0)))
    assert several.strings == []

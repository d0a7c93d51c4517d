"""The message tag: u 5..0, t 11..6, p 12, r 13, X 14, E 15, label 63..16."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.messages import Label as KernelLabel
from libexo import l4
from libexo.l4.format.registers import Registers

words = st.integers(0, (1 << 64) - 1)
labels = st.integers(0, (1 << 48) - 1)


@pytest.mark.parametrize(
    ("raw", "field", "value"),
    [
        (0x3F, "u", 63),
        (0x0FC0, "t", 63),
        (0x1000, "p", True),
        (0x2000, "r", True),
        (0x4000, "X", True),
        (0x8000, "E", True),
        (0xFFFF_FFFF_FFFF_0000, "label", 0xFFFF_FFFF_FFFF),
    ],
)
def test_each_field_has_its_bits(raw: int, field: str, value: int) -> None:
    """Each row of the tag's table: with just its bits set, that field is full and every other is zero."""
    tag = l4.MsgTag(raw)

    assert getattr(tag, field) == value
    assert not any(getattr(tag, other) for other in ("u", "t", "p", "r", "X", "E", "label") if other != field)


@given(labels, st.integers(0, 63), st.data())
def test_a_tag_comes_apart_again(label: int, u: int, data: st.DataObject) -> None:
    """Label and counts are read back by X.2's functions, and the flags of a new tag are clear."""
    t = data.draw(st.integers(0, 63 - u))
    tag = l4.MsgTag.of(label, u, t)

    assert (l4.Label(tag), l4.UntypedWords(tag), l4.TypedWords(tag)) == (label, u, t)
    assert l4.IpcSucceeded(tag)
    assert tag == label << 16 | t << 6 | u


@pytest.mark.parametrize(("u", "t"), [(64, 0), (0, 64), (40, 24), (-1, 0)])
def test_no_message_is_longer_than_63_words(u: int, t: int) -> None:
    """Rows "u" and "t": together they are at most 63, and no new tag says otherwise."""
    with pytest.raises(ValueError, match="words"):
        l4.MsgTag.of(0, u, t)


def test_a_received_tag_may_count_too_many() -> None:
    """Any word is a tag; that its counts leave the message registers can be seen."""
    assert not l4.MsgTag(63 | 1 << 6).fits
    assert l4.MsgTag(62 | 1 << 6).fits


@given(words, labels)
def test_only_the_label_changes(raw: int, label: int) -> None:
    """Row "label": setting it leaves bits 15..0 alone, in each of the three functions and in C++'s operator."""
    tag = l4.MsgTag(raw)
    wanted = raw & 0xFFFF | label << 16

    assert l4.Set_Label(tag, label) == wanted
    assert l4.MsgTagAddLabel(tag, label) == wanted
    assert l4.MsgTagAddLabelTo(tag, label) == wanted
    assert tag + label == wanted


def test_labels_of_kernel_protocols() -> None:
    """A negative label is cut to the 48 bits of its field: -2 shifted left by 4 is a page fault's."""
    tag = l4.MsgTagAddLabel(l4.Niltag, -2 << 4)

    assert l4.Label(tag) == KernelLabel.PAGE_FAULT
    assert tag == 0xFFFF_FFFF_FFE0_0000


@pytest.mark.parametrize("label", [1 << 48, -(1 << 47) - 1])
def test_a_label_that_does_not_fit_is_refused(label: int) -> None:
    """Row "label": what has more than 48 bits is refused, not cut."""
    with pytest.raises(ValueError, match=r"label .* is not in"):
        l4.MsgTagAddLabel(l4.Niltag, label)


def test_the_flags_as_ipc_reports_them() -> None:
    """Rows "p r X E": each has its function, and E alone says that the IPC failed."""
    assert l4.IpcPropagated(l4.MsgTag(0x1000))
    assert l4.IpcRedirected(l4.MsgTag(0x2000))
    assert l4.IpcXcpu(l4.MsgTag(0x4000))
    assert l4.IpcFailed(l4.MsgTag(0x8000))
    assert l4.IpcSucceeded(l4.MsgTag(0x7000))


@given(words)
def test_propagation(raw: int) -> None:
    """Row "p": Set_Propagation makes it the only flag."""
    assert l4.Set_Propagation(l4.MsgTag(raw)) == raw & ~0xF000 | 0x1000


def test_the_nil_tag_and_comparison() -> None:
    """The nil tag is zero; tags are equal when they are the same word."""
    assert l4.Niltag == 0
    assert l4.IsMsgTagEqual(l4.Niltag, l4.MsgTag(0))
    assert l4.IsMsgTagNotEqual(l4.Niltag, l4.MsgTag(1))


def test_the_tag_is_mr0(registers: Registers) -> None:
    """Set_MsgTag writes MR0 and MsgTag() reads it; the register holds a plain word."""
    l4.Set_MsgTag(l4.MsgTag.of(label=7, u=2))

    assert registers.mr[0] == 0x7_0002
    assert type(registers.mr[0]) is int
    assert l4.MsgTag() == l4.MsgTag.of(label=7, u=2)

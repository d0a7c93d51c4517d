"""Fpages: rights 2..0, log2 of the size 9..4, base / 1024 in 63..10; and I/O fpages."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4

words = st.integers(0, (1 << 64) - 1)
rights = st.integers(0, 7)


def test_the_layout() -> None:
    """Row "fpage": 4 KiB at 0x12345000 with rw are base, s 12 in bits 9..4, rights 6."""
    assert l4.Set_Rights(l4.Fpage(0x1234_5000, 4096), l4.ReadWriteOnly) == 0x1234_5000 | 12 << 4 | 6


def test_the_special_fpages() -> None:
    """Nil is 0; the complete address space is s 1, base 0: raw 0x10, and 2**64 bytes."""
    assert l4.Nilpage == 0
    assert l4.CompleteAddressSpace == 0x10
    assert l4.IsNilFpage(l4.Nilpage)
    assert not l4.IsNilFpage(l4.CompleteAddressSpace)
    assert (l4.Size(l4.Nilpage), l4.SizeLog2(l4.Nilpage)) == (0, 0)
    assert (l4.Size(l4.CompleteAddressSpace), l4.SizeLog2(l4.CompleteAddressSpace)) == (1 << 64, 64)


@pytest.mark.parametrize("raw", [0x1010, 0x1030, 0x1090, 0x1000])
def test_sizes_of_hostile_words(raw: int) -> None:
    """Row "s": a size field of 1 beside a base, of 3 to 9, or of 0, covers nothing."""
    assert (l4.Size(l4.Fpage.of(raw)), l4.Address(l4.Fpage.of(raw))) == (0, 0)


def test_the_rights_constants() -> None:
    """Row "constants": r is 4, w 2, x 1, and the names of their sums."""
    assert (l4.Readable, l4.Writable, l4.eXecutable) == (4, 2, 1)
    assert (l4.NoAccess, l4.ReadeXecOnly, l4.ReadWriteOnly, l4.FullyAccessible) == (0, 5, 6, 7)


@given(words, st.integers(1024, 1 << 63))
def test_size_is_rounded_up_and_base_down(base: int, size: int) -> None:
    """The fpage is the smallest power of two that holds *size*, at the multiple of it at or below *base*."""
    made = l4.Fpage(base, size)

    assert l4.Size(made) // 2 < size <= l4.Size(made) == 1 << l4.SizeLog2(made)
    assert l4.Address(made) == base - base % l4.Size(made)
    assert l4.Rights(made) == l4.NoAccess
    assert made == l4.Address(made) | l4.SizeLog2(made) << 4


@given(words, st.integers(10, 63))
def test_both_constructors_agree(base: int, log2: int) -> None:
    """FpageLog2(base, n) is Fpage(base, 2**n)."""
    assert l4.FpageLog2(base, log2) == l4.Fpage(base, 1 << log2)


def test_the_complete_address_space_is_a_size() -> None:
    """2**64 bytes, their log2, and X.2's code 1 for it, are the complete address space."""
    assert l4.Fpage(0, 1 << 64) == l4.CompleteAddressSpace
    assert l4.FpageLog2(0x1234, 64) == l4.CompleteAddressSpace
    assert l4.FpageLog2(0, 1) == l4.CompleteAddressSpace


@pytest.mark.parametrize("size", [0, 1, 2, 1023, (1 << 64) + 1, -4096])
def test_sizes_that_do_not_exist(size: int) -> None:
    """Row "s": less than 1024 bytes, or more than there are, are refused; two bytes are not s 1, *complete*."""
    with pytest.raises(ValueError, match="size of an fpage"):
        l4.Fpage(0, size)


@pytest.mark.parametrize("log2", [0, 2, 9, 65])
def test_logarithms_that_do_not_exist(log2: int) -> None:
    """Row "s": 10 to 64, and 1, are sizes."""
    with pytest.raises(ValueError, match="log2 of an fpage's size"):
        l4.FpageLog2(0, log2)


@given(words)
def test_any_word_is_an_fpage(raw: int) -> None:
    """A hostile word covers a naturally aligned piece of the address space, or nothing."""
    page = l4.Fpage.of(raw)
    size, address = l4.Size(page), l4.Address(page)

    assert size == 0 or address % size == 0
    assert address + size <= 1 << 64
    assert (size == 0) == (l4.SizeLog2(page) == 0)


@given(words, rights, rights)
def test_rights_change_nothing_else(raw: int, given_rights: int, taken: int) -> None:
    """Row "rwx": set, add and remove act on bits 2..0 only, and so do the operators of C++."""
    page = l4.Fpage.of(raw)

    assert l4.Set_Rights(page, given_rights) == raw & ~7 | given_rights
    assert (
        l4.FpageAddRights(page, given_rights) == l4.FpageAddRightsTo(page, given_rights) == raw | given_rights
    )
    assert l4.FpageRemoveRights(page, taken) == l4.FpageRemoveRightsFrom(page, taken) == raw & ~taken
    assert (page + given_rights) - taken == (raw | given_rights) & ~taken


def test_adding_a_right_twice_carries_nowhere() -> None:
    """An fpage plus rights it has is itself: the sum is not one of integers."""
    page = l4.Fpage(0, 4096) + l4.FullyAccessible

    assert page + l4.FullyAccessible == page


@pytest.mark.parametrize("wrong", [8, -1])
def test_rights_that_do_not_exist(wrong: int) -> None:
    """Rights are 0 to 7; others would change the size."""
    for function in (l4.Set_Rights, l4.FpageAddRights, l4.FpageRemoveRights):
        with pytest.raises(ValueError, match="access rights"):
            function(l4.Fpage(0, 4096), wrong)


def test_status_bits() -> None:
    """The rwx bits of Unmap's result: referenced, written, executed."""
    page = l4.Fpage(0, 4096)

    assert [l4.WasReferenced(page + right) for right in (4, 2, 1)] == [True, False, False]
    assert [l4.WasWritten(page + right) for right in (4, 2, 1)] == [False, True, False]
    assert [l4.WaseXecuted(page + right) for right in (4, 2, 1)] == [False, False, True]


def test_the_layout_of_an_io_fpage() -> None:
    """Row "I/O fpage": 2 in bits 9..4, log2 size in 15..10, port in 31..16; all ports are port 0, 2**16."""
    assert l4.IoFpage(0x3F8, 8) == 0x3F8 << 16 | 3 << 10 | 2 << 4
    assert l4.IoFpageLog2(0, 16) == 16 << 10 | 2 << 4


@given(st.integers(0, 0xFFFF), st.integers(1, 1 << 16))
def test_an_io_fpage_comes_apart_again(port: int, size: int) -> None:
    """Row "I/O fpage": ports are rounded as addresses are, and an I/O fpage covers no memory."""
    made = l4.IoFpage(port, size)
    ports = l4.IoFpageSize(made)

    assert l4.IsIoFpage(made)
    assert ports // 2 < size <= ports == 1 << l4.IoFpageSizeLog2(made)
    assert l4.IoFpagePort(made) == port - port % ports
    assert l4.Size(made) == 0


def test_memory_is_no_port() -> None:
    """Fpages of memory, nil and complete are no I/O fpages."""
    assert not any(map(l4.IsIoFpage, (l4.Fpage(0, 4096), l4.Nilpage, l4.CompleteAddressSpace)))


@pytest.mark.parametrize(("port", "log2"), [(0x10000, 0), (0, 17), (-1, 0)])
def test_ports_that_do_not_exist(port: int, log2: int) -> None:
    """There are 2**16 ports."""
    with pytest.raises(ValueError, match="port"):
        l4.IoFpageLog2(port, log2)


def test_how_they_are_shown() -> None:
    """An fpage shows where it is, its size and its rights."""
    assert repr(l4.Fpage(0x3000, 4096) + l4.ReadWriteOnly) == "<Fpage 0x3000+0x1000 rw->"
    assert repr(l4.IoFpage(0x60, 8)) == "<Fpage ports 0x60+0x8 --->"
    assert repr(l4.CompleteAddressSpace + 7) == "<Fpage complete rwx>"
    assert repr(l4.Nilpage) == "<Fpage nil>"


def test_an_fpage_can_be_copied() -> None:
    """A copy is the same fpage, although the constructor takes base and size."""
    page = l4.Fpage(0x3000, 4096) + l4.Readable

    assert copy.deepcopy(page) == page
    assert isinstance(copy.copy(page), l4.Fpage)

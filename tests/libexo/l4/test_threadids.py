"""Thread ids, 64-bit layout: version 31..0, thread number 63..32, zero bits 5..0 of local ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4

halves = st.integers(0, (1 << 32) - 1)


def test_the_layout_of_a_global_id() -> None:
    """Row "global": the thread number is in bits 63..32, the version in bits 31..0."""
    assert l4.GlobalId(0x60, 3) == 0x0000_0060_0000_0003


def test_the_special_ids() -> None:
    """Nilthread is zero, anythread all ones, anylocalthread all ones with bits 5..0 zero."""
    assert l4.nilthread == 0
    assert l4.anythread == 0xFFFF_FFFF_FFFF_FFFF
    assert l4.anylocalthread == 0xFFFF_FFFF_FFFF_FFC0


@given(halves, halves.filter(lambda version: version & 63))
def test_a_global_id_comes_apart_again(number: int, version: int) -> None:
    """Row "global": number and version of any legal id are read back, and the id is no local one."""
    made = l4.GlobalId(number, version)

    assert (l4.ThreadNo(made), l4.Version(made)) == (number, version)
    assert l4.IsGlobalId(made)
    assert not l4.IsLocalId(made)
    assert not l4.IsNilThread(made)


@given(halves.map(lambda version: version & ~63))
def test_a_version_that_makes_a_local_id_is_refused(version: int) -> None:
    """Row "local: zero field": a version whose low six bits are zero is refused, not mistaken for a local id."""
    with pytest.raises(ValueError, match="low six bits zero"):
        l4.GlobalId(97, version)


@pytest.mark.parametrize(("number", "version"), [(1 << 32, 1), (-1, 1), (1, 1 << 32), (1, -1)])
def test_what_does_not_fit_is_refused(number: int, version: int) -> None:
    """Row "global": neither field takes more than 32 bits."""
    with pytest.raises(ValueError, match="is not in 0"):
        l4.GlobalId(number, version)


def test_which_ids_are_local() -> None:
    """Row "local": bits 5..0 decide, so anylocalthread and UTCB addresses are local and anythread is global."""
    assert l4.IsLocalId(0x1000)
    assert l4.IsLocalId(l4.anylocalthread)
    assert l4.IsLocalId(l4.nilthread)
    assert l4.IsGlobalId(l4.anythread)
    assert l4.IsGlobalId(0x1001)


def test_comparing_ids() -> None:
    """Ids are equal when they are the same word; nilthread is nil."""
    one, other = l4.GlobalId(97, 1), l4.GlobalId(97, 3)

    assert l4.IsThreadEqual(one, l4.GlobalId(97, 1))
    assert l4.IsThreadNotEqual(one, other)
    assert not l4.IsThreadEqual(one, other)
    assert l4.IsNilThread(l4.nilthread)

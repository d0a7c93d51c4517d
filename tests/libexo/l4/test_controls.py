"""The control words of Schedule, bit by bit."""

import pytest

from libexo import l4
from libexo.l4.format import controls


def test_time_control() -> None:
    """Timeslice in bits 31..16, total quantum in 15..0, each a time."""
    word = controls.time_control(l4.TimePeriod(1023), l4.ZeroTime)

    assert word == 0x03FF_0400
    assert controls.times(word) == (l4.TimePeriod(1023), l4.ZeroTime)
    assert controls.lengths(word) == (1023, 0)
    assert controls.lengths(0) == (None, None)


@pytest.mark.parametrize("word", [0x8000_0000, 0x8000, 0xFFFF_FFFF, 1 << 32, (1 << 64) - 1])
def test_no_time_control(word: int) -> None:
    """A point in time has no length; a word has two times."""
    with pytest.raises(ValueError, match=r"point|not in"):
        controls.lengths(word)


@pytest.mark.parametrize(
    ("left", "raw"), [(None, 0), (0, 0x0400), (1, 1), (1023, 1023), (2046, 1 << 10 | 1023)]
)
def test_a_length_is_told_so_that_it_can_be_read_back(left: int | None, raw: int) -> None:
    """Nothing left is the period of no length and not Never, which is how it would be encoded otherwise."""
    assert controls.length_time(left) == raw
    assert l4.Time(raw).period == left


def test_preemption_control() -> None:
    """Sensitive priority in bits 23..16, delay in 15..0, both cut; bits above make a priority there is not."""
    assert controls.preemption_control(0x1FE, 0x1_0005) == 0xFE_0005
    assert controls.preemption(0xFE_0005) == (0xFE, 5)
    assert controls.preemption(0x0100_0000).sensitive == 256


def test_priority_control() -> None:
    """A priority is cut to eight bits, as the headers of X.2 do."""
    assert [controls.priority_control(priority) for priority in (0, 255, 256, 0x1FF)] == [0, 255, 0, 255]


def test_results() -> None:
    """The states that Schedule tells have the numbers of X.2."""
    names = "ERROR DEAD INACTIVE RUNNING PENDING_SEND SENDING WAITING RECEIVING"

    assert [getattr(l4, f"SCHEDRESULT_{name}") for name in names.split()] == list(range(8))

"""The interrupt controller: lines are masked, latch, and are delivered once."""

import pytest

from hwmodel.interrupts import InterruptController


def controller() -> tuple[InterruptController, list[int]]:
    made, got = InterruptController(8), list[int]()
    made.connect(got.append)
    return made, got


def test_lines_start_masked() -> None:
    """A line that nobody unmasked does not interrupt."""
    made, got = controller()
    made.trigger(3)
    assert (got, made.lines) == ([], 8)


def test_pending_line_follows_its_unmask() -> None:
    """A line raised while masked interrupts when it is unmasked, once however often it was raised."""
    made, got = controller()
    for _ in range(3):
        made.trigger(3)
    made.unmask(3)
    made.unmask(3)
    assert (got, made.merged[3]) == ([3], 2)


def test_unmasked_line_interrupts_each_time() -> None:
    """Without a mask every trigger gets through."""
    made, got = controller()
    made.unmask(5)
    made.trigger(5)
    made.trigger(5)
    assert got == [5, 5]


def test_handler_may_mask_its_line() -> None:
    """A handler that masks the line holds back what follows until the unmask."""
    made = InterruptController(8)
    got: list[int] = []

    def handle(line: int) -> None:
        got.append(line)
        made.mask(line)

    made.connect(handle)
    made.unmask(1)
    made.trigger(1)
    made.trigger(1)
    assert got == [1]
    made.unmask(1)
    assert got == [1, 1]


@pytest.mark.parametrize("line", [-1, 8])
def test_no_such_line(line: int) -> None:
    """A line the machine does not have is an error that names it."""
    with pytest.raises(ValueError, match=f"no interrupt line {line}"):
        controller()[0].trigger(line)

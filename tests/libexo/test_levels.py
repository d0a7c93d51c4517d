"""Marks as the memory server's arguments set them, and the level that follows from the free frames."""

import pytest

from libexo.levels import Level, Marks, marks

TOTAL = 65_536
"""Frames of 256 MiB."""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), Marks(4096, 8192, 2048, 0.5)),
        (("low=16 MiB",), Marks(4096, 8192, 2048, 0.5)),
        (("low=1%", "high=10%", "grace=2"), Marks(655, 6553, 2048, 2.0)),
        (("low=0",), Marks(0, 0, 2048, 0.5)),
        (("low=100 MiB",), Marks(25_600, 32_768, 2048, 0.5)),
    ],
)
def test_marks(arguments: tuple[str, ...], expected: Marks) -> None:
    """Sizes, and parts of RAM; the high mark is twice the low one, and half of RAM at most, if it is not given."""
    assert marks(TOTAL, arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("lo=5%",), "'lo=5%' is no option"),
        (("low",), "'low' is no option"),
        (("low=much",), "low='much': write low=SIZE"),
        (("low=-1%",), "low=-655"),
        (("low=nan%",), "write low=SIZE"),
        (("low=inf%",), "write low=SIZE"),
        (("low=10%", "high=5%"), "low=6553 and high=3276"),
        (("high=51%",), "high=33423"),
        (("grace=soon",), "grace='soon': seconds"),
        (("grace=61",), "grace='61': seconds"),
    ],
)
def test_wrong_marks(arguments: tuple[str, ...], why: str) -> None:
    """Whatever is wrong, the error names it."""
    with pytest.raises(ValueError, match=why):
        marks(TOTAL, arguments)


def test_levels() -> None:
    """Below the low mark it is low; when no more than the reserve is free, high."""
    found = Marks(100, 200, 50)

    assert [found.level(free) for free in (1000, 100, 99, 51, 50, 0)] == [
        Level.NONE, Level.NONE, Level.LOW, Level.LOW, Level.HIGH, Level.HIGH,
    ]  # fmt: skip

"""docs/budgets.md: the one table of limits says what the code says."""

import re
from pathlib import Path

from kernel.abi.budget import Item

PAGE = Path(__file__).parents[1] / "docs" / "budgets.md"
ROW = re.compile(r"^\| `(\w+)` \| (.*) \| ([\d,]+) \| ([\d,]+) \| (.*) \|$", re.MULTILINE)


def test_the_table_of_limits() -> None:
    """Every item has its row, in order, with its limits."""
    rows = [
        (
            item.name.lower(),
            item.text,
            f"{item.program:,}",
            f"{item.server:,}",
            f"{item.least:,}" if item.divided else "the same",
        )
        for item in Item
    ]

    assert ROW.findall(PAGE.read_text(encoding="utf-8")) == rows

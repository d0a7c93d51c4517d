"""The commands of the ladder, one after the other, as a reader types them from top to bottom."""

import re
import shlex

import pytest

from tests.privileges import may_page
from tests.system.command import DEGRADED, ROOT, Command, place

pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]


def ladder() -> list[list[str]]:
    """All commands of the table, in their order."""
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    found = [shlex.split(words) for row in rows for words in re.findall(r"`exo ([^`]*)`", row)]
    assert len(rows) == len(list((ROOT / "examples").glob("*.py"))), "each example has a row"
    return [["up", "-d"], *found]


def test_the_ladder_holds() -> None:
    """The remains of a step are in no later step's way."""
    with place(Command) as system:
        system.folder = ROOT
        for words in [each for each in ladder() if "--paged" not in each or may_page()]:
            degraded = DEGRADED if words[0] in ("up", "kickstart") else []
            system.exo(words[0], *degraded, *words[1:])

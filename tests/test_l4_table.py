"""The conformance table is true: docs/l4.md names tests that exist, and every name of `libexo.l4`.

A *row* is a line of a table in docs/l4.md that has a column `status`. Its status is one of three words; "same"
names a test, the other two a reason. The rules are functions from a page to violations, shown on broken pages
first and then run on the real one. A test that is marked `conforms("row")` names a row of the table.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from libexo import l4

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "l4.md").read_text(encoding="utf-8")
SAME, DIFFERENT, IMPOSSIBLE = "same", "different", "impossible"
COLUMNS = ("status", "what differs, and why", "test")
"""What follows the first column of a table of rows."""
NAMES = "Convenience functions"
"""The section whose first column has names of X.2, without the prefix L4_."""
OURS = "Beyond X.2"
"""The section that has the names of `libexo.l4` that X.2 has not."""
CHOICES = "Where implementations disagree"
SPAN = re.compile(r"`([^`]+)`")


class Line(NamedTuple):
    """One line of one table."""

    section: str
    columns: tuple[str, ...]
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first cell, as plain text."""
        return self.cells[0].replace("`", "")

    @property
    def names(self) -> list[str]:
        """What is written as code in the first cell."""
        return SPAN.findall(self.cells[0])

    def cell(self, column: str) -> str:
        """Return the cell of *column*."""
        return self.cells[self.columns.index(column)]

    @property
    def tests(self) -> list[str]:
        """The node ids in the last cell; one that begins with `::` is of the file before it."""
        found: list[str] = []
        for each in SPAN.findall(self.cells[-1]):
            file, _, function = each.partition("::")
            found.append(f"{file or found[-1].partition('::')[0]}::{function}")
        return found


def lines(page: str) -> Iterator[Line]:
    """Yield the lines of every table of *page*; a table begins with its columns and a line of dashes."""
    section = ""
    columns: tuple[str, ...] = ()
    for text in page.splitlines():
        if re.match("#{1,2} ", text):
            section = text.lstrip("# ")
        if not text.startswith("|"):
            columns = ()
            continue
        cells = tuple(cell.strip() for cell in text.strip().strip("|").split("|"))
        if not columns:
            columns = cells
        elif not set(text) <= set("|- "):
            yield Line(section, columns, cells)


def rows(page: str) -> list[Line]:
    """Return the lines that have a status."""
    return [line for line in lines(page) if "status" in line.columns]


# ------------------------------------------------------------------------------------------------------ the rules


def complete(page: str) -> Iterator[str]:
    """Every row has the columns, a status of the three words, and what that asks for."""
    for row in rows(page):
        if row.columns[1:] != COLUMNS or len(row.cells) != len(row.columns):
            yield f"{row.name}: not the columns of a row"
        elif row.cell("status") not in (SAME, DIFFERENT, IMPOSSIBLE):
            yield f"{row.name}: {row.cell('status')!r} is no status"
        elif row.cell("status") == SAME and not row.tests:
            yield f"{row.name}: the same, by no test"
        elif row.cell("status") != SAME and not row.cell("what differs, and why"):
            yield f"{row.name}: {row.cell('status')}, for no reason"


def unique(page: str) -> Iterator[str]:
    """No two rows of a section have one name."""
    seen: set[tuple[str, str]] = set()
    for row in rows(page):
        if (row.section, row.name) in seen:
            yield f"{row.name}: two rows"
        seen.add((row.section, row.name))


def backed(page: str) -> Iterator[str]:
    """Every test that a table names exists."""
    for line in lines(page):
        if line.columns[-1] == "test":
            yield from (f"{line.name}: there is no test {test}" for test in line.tests if not exists(test))


def chosen(page: str) -> Iterator[str]:
    """Each point where implementations disagree has a choice and a test."""
    for line in lines(page):
        if line.section == CHOICES and not (line.cell("here") and line.tests):
            yield f"{line.name}: no choice, or no test of it"


def there(page: str) -> Iterator[str]:
    """A name of X.2 is in `libexo.l4`, unless that is impossible; then it is not."""
    for row in rows(page):
        if row.section == NAMES:
            wanted = row.cell("status") != IMPOSSIBLE
            is_there = "is not there" if wanted else "is there, though it is impossible"
            yield from (f"{name} {is_there}" for name in row.names if hasattr(l4, name) != wanted)


def named(page: str) -> Iterator[str]:
    """Every public name of `libexo.l4` is in the table, under X.2's functions or under our own."""
    known = {name for line in lines(page) if line.section in (NAMES, OURS) for name in line.names}
    yield from (f"{name} is in no row" for name in sorted(public() - known))


def marked(page: str) -> Iterator[str]:
    """Every `conforms` marker names a row, and not one that is impossible."""
    known = {row.name for row in rows(page) if row.cell("status") != IMPOSSIBLE}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for row in sorted(markers(file) - known):
            yield f"{file.relative_to(ROOT)}: there is no row {row!r}"


RULES = (complete, unique, backed, chosen, there, named, marked)


@cache
def functions(file: Path) -> frozenset[str]:
    """Return the functions of *file*, those of classes as `Class::function`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(found)


def exists(test: str) -> bool:
    """Say whether there is a test of node id *test*, whatever its parameters."""
    name, _, function = test.partition("::")
    file = ROOT / name
    return file.is_file() and function.startswith("test_") and function.partition("[")[0] in functions(file)


def markers(file: Path) -> set[str]:
    """Return the rows that `conforms` names in *file*."""
    calls = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] == "conforms"]
    return {str(arg.value) for call in named for arg in call.args if isinstance(arg, ast.Constant)}


def public() -> set[str]:
    """Return the names of `libexo.l4` that are no modules."""
    names = [name for name in dir(l4) if not name.startswith("_")]
    return {name for name in names if not isinstance(getattr(l4, name), ModuleType)}


# ---------------------------------------------------------------------------------------------------- the tests

HEAD = "| call | status | what differs, and why | test |\n|---|---|---|---|\n"
OWN = "`tests/test_l4_table.py::test_it_holds`"
CHOICE = f"# {CHOICES}\n| point | here | test |\n|---|---|---|\n"

BROKEN = [
    (complete, HEAD + "| Ipc | equal | | |", "Ipc: 'equal' is no status"),
    (complete, HEAD + "| Ipc | same | |", "Ipc: not the columns of a row"),
    (complete, HEAD + "| Ipc | same | | |", "Ipc: the same, by no test"),
    (complete, HEAD + f"| Ipc | impossible | | {OWN} |", "Ipc: impossible, for no reason"),
    (unique, HEAD + f"| Ipc | same | | {OWN} |\n" * 2, "Ipc: two rows"),
    (
        backed,
        HEAD + f"| Ipc | same | | {OWN} `::test_x` |",
        "there is no test tests/test_l4_table.py::test_x",
    ),
    (
        backed,
        HEAD + "| Ipc | same | | `tests/test_x.py::test_x` |",
        "there is no test tests/test_x.py::test_x",
    ),
    (chosen, CHOICE + "| deletion | allowed | |", "deletion: no choice, or no test of it"),
    (chosen, CHOICE + f"| deletion | | {OWN} |", "deletion: no choice, or no test of it"),
    (there, f"# {NAMES}\n{HEAD}| `Ipcc` | same | | {OWN} |", "Ipcc is not there"),
    (there, f"# {NAMES}\n{HEAD}| `Ipc` | impossible | why | |", "Ipc is there, though it is impossible"),
    (named, f"# {NAMES}\n{HEAD}| `Lipc` | same | | {OWN} |", "Ipc is in no row"),
    (
        marked,
        HEAD + f"| Ipc | same | | {OWN} |",
        "tests/libexo/l4/test_ipc.py: there is no row 'IPC: phases'",
    ),
]


@pytest.mark.parametrize(("rule", "page", "violation"), BROKEN)
def test_rule_catches(rule: Callable[[str], Iterator[str]], page: str, violation: str) -> None:
    """Each rule names what is wrong with a page that breaks it."""
    assert any(found.endswith(violation) for found in rule(page))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_it_holds(rule: Callable[[str], Iterator[str]]) -> None:
    """docs/l4.md keeps the rule."""
    assert list(rule(PAGE)) == []


def test_there_are_rows() -> None:
    """The page has rows of every status, in every section of the table: none went unread."""
    found = {row.section for row in rows(PAGE)}

    assert {row.cell("status") for row in rows(PAGE)} == {SAME, DIFFERENT, IMPOSSIBLE}
    assert found == {"System calls", "Data formats", "Protocols", "Kernel interface page", "Boot", NAMES}

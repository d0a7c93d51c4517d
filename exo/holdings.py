"""Extents as the kernel shows them: whose they are, who else may use them, and where a program has them mapped."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.kip import EnvironmentState
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Rights

if TYPE_CHECKING:
    from exo.view import Json
    from libexo.kip import EnvironmentRow, ExtentRow, Kip

COLUMNS = 64
"""Cells in a line of a picture."""
_LETTERS = (
    (Rights.READ, "r"), (Rights.WRITE, "w"), (Rights.EXECUTE, "x"), (Rights.CONTROL, "c"), (Rights.TRANSFER, "t"),
)  # fmt: skip
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (..).. ([0-9a-f]+) .* /memfd:exo-(\d+)\+(\d+)(?:@(\d+))? ")
"""A line of proc(5)'s maps about an extent: begin, end, rights, offset; first frame and frames; a piece's page."""


class Mapping(NamedTuple):
    """A part of an extent in the memory of a program."""

    address: int
    size: int
    offset: int
    rights: str


class Held(NamedTuple):
    """One extent, with names for numbers."""

    first: int
    frames: int
    user: str | None
    """To whom its frames are counted."""
    holders: dict[str, int]
    """The rights of each who is known to hold it, together."""
    more: int
    """Further capabilities to it, whose holders are not shown."""
    pages: int
    resident: int
    """Pages that are there; -1: it is not paged."""
    pager: str | None

    def json(self) -> "Json":
        """Return it as `mem --json` has it; these keys are kept stable."""
        paged = {"pages": self.pages, "resident": self.resident, "pager": self.pager}
        return {
            "first": self.first,
            "frames": self.frames,
            "user": self.user,
            "holders": [{"name": name, "rights": letters(rights)} for name, rights in self.holders.items()],
            "more": self.more,
            "paged": paged if self.resident >= 0 else None,
        }

    def others(self, name: str) -> list[str]:
        """Return who holds it beside *name*, with what rights."""
        found = [f"{other} {letters(rights)}" for other, rights in self.holders.items() if other != name]
        return [*found, f"{self.more} more"] if self.more else found


def lines_of(owners: Sequence[int], most: int) -> tuple[int, list[int]]:
    """Return how many frames a cell of a picture stands for, and where the lines begin that have a used one.

    A line has COLUMNS cells; there are *most* lines.
    """
    used = [at for at, owner in enumerate(owners) if owner]
    cell = 1
    while len(shown := dict.fromkeys(at // (COLUMNS * cell) for at in used)) > most:
        cell *= 2
    return cell, [line * COLUMNS * cell for line in shown]


def letters(rights: int) -> str:
    """Return rights as letters: read, write, execute, control, transfer."""
    return "".join(letter if rights & right else "-" for right, letter in _LETTERS)


def extents(kip: "Kip") -> list[Held]:
    """Return every extent, by first frame."""
    names = {row.number: row.name for row in kip.environments()}
    users = kip.frame_users()
    return [_held(row, users[row.first] - 1, names) for row in kip.extents()]


def _held(row: "ExtentRow", user: int, names: dict[int, str]) -> Held:
    holders: dict[str, int] = {}
    for number, rights in row.holdings:
        name = names.get(number, f"#{number}")
        holders[name] = holders.get(name, 0) | rights
    pager = names.get(row.pager, f"#{row.pager}") if row.pager >= 0 else None
    whose = names.get(user, f"#{user}") if user >= 0 else None
    more = row.capabilities - len(row.holdings)
    return Held(row.first, row.frames, whose, holders, more, row.pages, row.resident, pager)


def of(name: str, found: Iterable[Held]) -> list[Held]:
    """Return those of *found* that *name* holds, or is charged for."""
    return [held for held in found if name in held.holders or name == held.user]


def environment(kip: "Kip", name: str) -> "EnvironmentRow | None":
    """Return the row of *name*, of one that lives before one that is dead; None: there is none."""
    rows = sorted(kip.environments(), key=lambda row: row.state == EnvironmentState.DEAD)
    return next((row for row in rows if row.name == name), None)


def mappings(pid: int) -> dict[tuple[int, int], list[Mapping]] | None:
    """Return where process *pid* has extents mapped, by first frame and frames; None: we may not know."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as in view
            lines = file.readlines()
    except OSError:
        return None
    found: dict[tuple[int, int], list[Mapping]] = {}
    for line in lines:
        if match := _MAPPING.match(line):
            begin, end, offset = (int(match[part], 16) for part in (1, 2, 4))
            of_extent = found.setdefault((int(match[5]), int(match[6])), [])
            offset += int(match[7] or 0) * FRAME_SIZE
            of_extent.append(Mapping(begin, end - begin, offset, match[3]))
    return found

"""The budgets of all environments, as `exo ps --budget` shows them: what is held for each, and its limit."""

from typing import TYPE_CHECKING

from exo import view
from kernel.abi.budget import Item

if TYPE_CHECKING:
    from libexo.kip import Kip

_PARTS = (tuple(Item)[:6], tuple(Item)[6:])
"""Items of one table, so that it fits 80 columns."""
_KIBI = 1024


def budgets(kip: "Kip") -> list[view.Json]:
    """Return the budget of every environment as `ps --budget --json` has it; these keys are kept stable."""
    rows = sorted(kip.environments(), key=lambda row: row.thread)
    of = view.of_family(rows)
    together = {family: sum(row.frames for row in members) for family, members in view.families(rows).items()}
    return [
        {
            "name": row.name,
            "family": of.get(row.number),
            "frames": row.frames,
            "family_frames": together.get(row.family, row.frames),
            "budget": {
                item.name.lower(): account._asdict() for item, account in kip.budget(row.number).items()
            },
        }
        for row in rows
    ]


def listing(found: list[view.Json]) -> str:
    """Return the tables of *found* budgets, one below the other; the last is of memory."""
    return "\n\n".join([*(_table(found, items) for items in _PARTS), _memory(found)])


def _memory(found: list[view.Json]) -> str:
    head = ("NAME", "MEMORY", "FAMILY", "MEMORY OF ALL OF IT")
    rows = []
    for each in found:
        frames, together = each["frames"], each["family_frames"]
        assert isinstance(frames, int)
        assert isinstance(together, int)
        of = (each["family"], view.size(together)) if each["family"] else ("-", "-")
        rows.append((each["name"], view.size(frames), *of))
    return view.table(head, rows, {"MEMORY", "MEMORY OF ALL OF IT"})


def _table(found: list[view.Json], items: tuple[Item, ...]) -> str:
    head = ("NAME", *(item.name for item in items))
    return view.table(head, (_row(each, items) for each in found), set(head[1:]))


def _row(each: view.Json, items: tuple[Item, ...]) -> tuple[object, ...]:
    accounts = each["budget"]
    assert isinstance(accounts, dict)
    cells = (accounts[item.name.lower()] for item in items)
    return (str(each["name"])[:12], *(f"{_short(cell['used'])}/{_short(cell['limit'])}" for cell in cells))


def _short(number: int) -> str:
    """Return *number* in at most four characters, unless it is huge."""
    for unit in ("", "k", "M"):
        if number < 10 * _KIBI or unit == "M":
            return f"{number}{unit}"
        number //= _KIBI
    return str(number)

"""Show how much of the system's memory each environment has, and where; of one, each extent.

A family is a program that an operator started, with all its descendants. If several members have memory, the
family's sum is shown: they share one quota.

Where memory is short, a line says so: `pressure low` below the mark at which programs are asked to give back,
`pressure high` when no more is free than servers keep for themselves.

The picture has one letter for each stretch of frames: its user's, ``·`` if free, ``+`` if several share a
stretch. Long free stretches are left out.

Of NAME every extent is listed that it holds or is charged for: what it may do with it (read, write, execute,
control, transfer), who else holds it, and where NAME has it mapped, if you may look into its process. Of paged
memory: how many pages there are, how many of them are there now, and whose program is the pager.
"""

from argparse import ArgumentParser, Namespace
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from exo import holdings, marks, view
from exo.holdings import Held
from exo.system import Trouble, run_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libexo.kip import Kip

ARGUMENTS = "[NAME] [--json | --svg]"
EXAMPLES = """\
  exo mem
  exo mem memory                         each extent that the memory server holds
  exo mem --svg > mem.svg                a picture, for light and dark paper
  exo mem --json | jq '.users[0].name'   who has most"""

LINES = 12
OTHERS, PAGER = 27, 16
"""Columns for who else holds an extent, and for the name of its pager."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `mem`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="an environment, as 'exo ps' names it")
    form = parser.add_mutually_exclusive_group()
    view.add_json(form)
    form.add_argument("--svg", action="store_true", help="print a picture")


def main(options: Namespace) -> int:
    """Print it."""
    kip = view.open_kip(options.run)
    if options.name is not None:
        _show_one(kip, options)
        return 0
    found = gather(kip)
    if options.json:
        kept = {key: found[key] for key in ("frames", "free_frames", "users")}
        kept["pressure"] = marks.level(kip, run_directory(options.run))
        view.print_json(kept | {"extents": [held.json() for held in holdings.extents(kip)]})
    elif options.svg:
        from exo.memory_svg import whole

        print(whole(list(kip.frame_users()), _users(found), holdings.extents(kip)))
    else:
        print(text(kip, found, marks.told(kip, run_directory(options.run))))
    return 0


def gather(kip: "Kip") -> view.Json:
    """Return the frames of each user, by the kernel's table of frames; most first."""
    owners = list(kip.frame_users())
    counts = Counter(owners)
    names = {row.number: row.name for row in kip.environments()}
    free = counts.pop(0, 0)
    of = view.of_family(kip.environments())
    users = [
        {"name": names.get(number - 1, f"#{number - 1}"), "frames": n, "family": of.get(number - 1)}
        for number, n in counts.most_common()
    ]
    return {
        "frames": len(owners),
        "free_frames": free,
        "users": users,
        "order": [n for n, _ in counts.most_common()],
    }


def _users(found: view.Json) -> dict[int, str]:
    """Return the name of each user of frames by its word in the table, most frames first."""
    order, users = found["order"], found["users"]
    assert isinstance(order, list)
    assert isinstance(users, list)
    return {word: user["name"] for word, user in zip(order, users, strict=True)}


# ------------------------------------------------------------------------------------------------ all of it


def text(kip: "Kip", found: view.Json, short: str) -> str:
    """Return the table, *short* if it says anything, and the picture."""
    total, free, users, order = found["frames"], found["free_frames"], found["users"], found["order"]
    assert isinstance(total, int)
    assert isinstance(free, int)
    assert isinstance(users, list)
    assert isinstance(order, list)
    letters = dict(zip(order, chain(view.LETTERS, "?" * len(order)), strict=False))
    rows = [
        (
            letters[number],
            user["name"],
            user["frames"],
            view.size(user["frames"]),
            view.bar(user["frames"] / total, 24),
        )
        for number, user in zip(order, users, strict=True)
    ]
    rows.append(("·", "free", free, view.size(free), view.bar(free / total, 24)))
    return "\n".join(
        [
            view.table(("", "NAME", "FRAMES", "MEMORY", ""), rows, ("FRAMES", "MEMORY")),
            *([short] if short else []),
            *families(users),
            *paged(holdings.extents(kip)),
            "",
            picture(list(kip.frame_users()), letters),
        ]
    )


def families(users: list[view.Json]) -> list[str]:
    """Return a line for each family with several users of memory."""
    have: dict[object, list[int]] = {}
    for user in users:
        frames = user["frames"]
        assert isinstance(frames, int)
        if user["family"]:
            have.setdefault(user["family"], []).append(frames)
    found = [(name, each) for name, each in have.items() if len(each) > 1]
    return [f"{name} and its descendants have {view.size(sum(each))} in all" for name, each in found]


def paged(found: "Sequence[Held]") -> list[str]:
    """Return a line for each paged object."""
    return [f"object {held.first}: {_paging(held)}" for held in found if held.resident >= 0]


def _paging(held: Held) -> str:
    by = f"paged by {_short(held.pager, PAGER)}" if held.pager else "its pager is gone"
    return f"{held.resident} of {held.pages} pages in {held.frames} frames, {by}"


def picture(owners: "Sequence[int]", letters: dict[int, str]) -> str:
    """Return the frames as lines of letters."""
    cell, shown = holdings.lines_of(owners, LINES)
    drawn, end = [], 0
    for at in shown:
        drawn += _left_out(at - end)
        end = min(at + holdings.COLUMNS * cell, len(owners))
        cells = [set(owners[each : each + cell]) - {0} for each in range(at, end, cell)]
        drawn.append(f"{at:>8}  {''.join(_letter(here, letters) for here in cells)}")
    drawn += _left_out(len(owners) - end)
    return "\n".join([*drawn, f"{'':8}  a letter is {cell} frame{'s' * (cell > 1)}, {view.size(cell)}"])


def _letter(here: set[int], letters: dict[int, str]) -> str:
    if len(here) > 1:
        return "+"
    return letters.get(min(here), "?") if here else "·"


def _left_out(frames: int) -> list[str]:
    return [f"{'':8}  ({frames} free)"] if frames else []


# ------------------------------------------------------------------------------------------------ one program


def _show_one(kip: "Kip", options: Namespace) -> None:
    row = holdings.environment(kip, options.name)
    if row is None:
        raise Trouble(f"no environment is called {options.name}: 'exo ps' lists them")
    found = holdings.of(row.name, holdings.extents(kip))
    maps = holdings.mappings(row.pid) if row.pid else None
    if options.json:
        extents = [held.json() | {"mapped": _mapped(held, maps)} for held in found]
        view.print_json({"name": row.name, "frames": row.frames, "extents": extents})
    elif options.svg:
        from exo.memory_svg import one

        print(one(row.name, row.frames, found))
    else:
        print(listing(row.name, row.frames, found, maps))


Maps = dict[tuple[int, int], list[holdings.Mapping]] | None


def _mapped(held: Held, maps: Maps) -> list[view.Json] | None:
    if maps is None:
        return None
    return [dict(mapping._asdict()) for mapping in maps.get((held.first, held.frames), [])]


def listing(name: str, frames: int, found: "Sequence[Held]", maps: Maps) -> str:
    """Return the extents of *name*, one a line, and below it what its pages are."""
    many = "1 extent" if len(found) == 1 else f"{len(found)} extents"
    head = f"{name} has {frames} frames, {view.size(frames)}; holds {many}"
    if not found:
        return head
    rows = [
        (
            f"{held.first}+{held.frames}",
            view.size(held.frames),
            holdings.letters(held.holders.get(name, 0)),
            _short(", ".join(held.others(name)) or "-", OTHERS),
            _places(held, maps),
        )
        for held in found
    ]
    titles = ("FRAMES", "MEMORY", "MAY", "ALSO HELD BY", "MAPPED AT" if maps is not None else "")
    lines = view.table(titles, rows, ("FRAMES", "MEMORY")).splitlines()
    for at, held in reversed(list(enumerate(found, 1))):
        if held.resident >= 0:
            lines.insert(at + 1, f"  {_paging(held)}")
    return "\n".join([head, "", *lines])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _places(held: Held, maps: Maps) -> str:
    """Return where it is mapped: the first place, and how many more."""
    places = (maps or {}).get((held.first, held.frames), [])
    if not places:
        return "-" if maps is not None else ""
    return f"{places[0].address:#x}" + (f" +{len(places) - 1}" if len(places) > 1 else "")

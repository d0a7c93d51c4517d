"""Pictures of memory as SVG: who holds which frames; what one environment holds, and with whom."""

from collections import Counter
from collections.abc import Mapping, Sequence

from exo import svg, view
from exo.holdings import COLUMNS, Held, letters, lines_of

LINES = 16
CELL, GAP = 11, 4
"""Width of a cell, and what is between two lines."""
ROW = 34
MOST = 16
"""Extents of one environment that are drawn; the rest is counted."""
BAR, LABEL = 300, 150


# ------------------------------------------------------------------------------------------------ all of it


def whole(owners: Sequence[int], users: Mapping[int, str], extents: Sequence[Held]) -> str:
    """Return the picture of all frames: *users* by their word in the table of frames, most frames first."""
    colours, have = svg.colours(users.values()), Counter(owners)
    cell, shown = lines_of(owners, LINES)
    drawn, y, end = list[str](), 60, 0
    for at in shown:
        y += _left_out(drawn, y, at - end)
        end = min(at + COLUMNS * cell, len(owners))
        drawn += _line(owners[at:end], cell, y, users, colours)
        y += CELL + GAP
    y += _left_out(drawn, y, len(owners) - end)
    drawn.append(svg.text(svg.MARGIN, y + 14, f"a square is {view.size(cell)}", "pale", size=12))
    y += 40
    for index, (word, name) in enumerate(users.items()):
        _legend(drawn, index, y, name, f"{name}, {view.size(have[word])}", colours)
    y += ROW * -(-len(users) // 3)
    for held in extents:
        if held.resident >= 0:
            what = f"object {held.first}: {held.resident} of {held.pages} pages in {held.frames} frames"
            by = f"paged by {held.pager}" if held.pager else "its pager is gone"
            drawn.append(svg.text(svg.MARGIN, y + 8, f"{what}, {by}", "pale", size=13))
            y += 22
    used = view.size(len(owners) - have[0])
    return svg.page(y + 16, f"Memory of the system: {used} of {view.size(len(owners))} in use", drawn)


def _line(
    owners: Sequence[int], cell: int, y: float, users: Mapping[int, str], colours: Mapping[str, str]
) -> list[str]:
    """Draw one line of cells; of several users in a cell, the one that has most of it."""
    found = []
    for index, at in enumerate(range(0, len(owners), cell)):
        here = [owner for owner in owners[at : at + cell] if owner]
        name = users.get(max(set(here), key=here.count)) if here else None
        look = 'class="free"' if name is None else svg.fill(colours.get(name, svg.REST))
        found.append(svg.rect(svg.MARGIN + index * CELL, y, CELL - 1, CELL, look))
    return found


def _left_out(drawn: list[str], y: float, frames: int) -> int:
    """Say that *frames* free ones are left out; return the height that takes."""
    if not frames:
        return 0
    drawn.append(
        svg.text(svg.MARGIN, y + 13, f"… {frames} frames free, {view.size(frames)}", "pale", size=12)
    )
    return 22


def _legend(drawn: list[str], index: int, y: float, name: str, text: str, colours: Mapping[str, str]) -> None:
    x, at = svg.MARGIN + index % 3 * 240, y + index // 3 * ROW
    drawn.append(svg.rect(x, at - 4, 16, 16, svg.fill(colours.get(name, svg.REST))))
    drawn.append(svg.text(x + 24, at + 9, text))


# ------------------------------------------------------------------------------------------------ one program


def one(name: str, frames: int, extents: Sequence[Held]) -> str:
    """Return the picture of what *name* holds: a bar an extent, what is there of it, and who shares it."""
    others = dict.fromkeys(other for held in extents for other in held.holders if other != name)
    colours = svg.colours([name, *others])
    most = max((max(held.frames, held.pages) for held in extents), default=1)
    drawn = [
        svg.text(
            svg.MARGIN,
            58,
            "a bar is an extent, its first frame and length before it; of paged memory, what is not there is pale",
            "pale",
            size=12,
        )
    ]
    y = 78
    for held in extents[:MOST]:
        drawn += _extent(name, held, y, max(6, BAR * max(held.frames, held.pages) / most), colours)
        y += ROW
    if len(extents) > MOST:
        drawn.append(svg.text(svg.MARGIN, y + 12, f"and {len(extents) - MOST} more", "pale"))
        y += ROW
    return svg.page(
        y + 8, f"{name}: {view.size(frames)} of its own; extents it may use: {len(extents)}", drawn
    )


def _extent(name: str, held: Held, y: float, width: float, colours: Mapping[str, str]) -> list[str]:
    mine = svg.fill(colours.get(held.user or name, svg.REST))
    drawn = [
        svg.text(
            svg.MARGIN + LABEL - 12, y + 15, f"{held.first}+{held.frames}", "pale", size=12, anchor="end"
        ),
        svg.rect(svg.MARGIN + LABEL, y, width, 20, mine),
    ]
    if held.resident >= 0:
        there = width * held.resident / max(held.pages, 1)
        drawn.append(svg.rect(svg.MARGIN + LABEL + there, y, width - there, 20, 'class="hole"'))
        drawn.append(
            svg.text(svg.MARGIN + LABEL + 6, y + 15, f"{held.resident} of {held.pages} pages", size=12)
        )
    x = svg.MARGIN + LABEL + width + 14
    for other in [each for each in held.holders if each != name][:2]:
        said = f"{other} {letters(held.holders[other] & 6)[:2]}" + (
            ", its pager" if other == held.pager else ""
        )
        drawn.append(svg.rect(x, y + 4, 12, 12, svg.fill(colours.get(other, svg.REST))))
        drawn.append(svg.text(x + 18, y + 15, said, size=13))
        x += 34 + 7.5 * len(said)
    return drawn

"""A picture of who ran when, as SVG: a row a program, a bar a slice."""

from exo import svg, view
from exo.rows import Row, Rows, tick
from libexo.trace import State

_LABEL, _SHARE = 130, 64
ROW, BAR = 30, 16
_LEAST = 0.4
"""Narrower bars are drawn so wide, so that they can be seen; what lies within is left out."""
_CELL = 0.7
"""Bars of a row that are nearer to one another are one."""


def picture(rows: Rows) -> str:
    """Return the picture of *rows*, by processor."""
    colours = svg.colours(dict.fromkeys(row.name for each in rows.values() for row in each))
    drawn, y = list[str](), 62
    length = max((row.end - row.begin for each in rows.values() for row in each), default=0)
    for processor, each in rows.items():
        drawn.append(svg.text(svg.MARGIN, y + 12, f"processor {processor}", "pale", size=12))
        y += 24
        top = y
        for row in each:
            drawn += _row(row, y, colours.get(row.name, svg.REST))
            y += ROW
        drawn += _scale(length, top, y)
        y += 34
    said = "bar: has the processor; thin line: would run; empty: sleeps, is stopped, or is not there"
    drawn.append(svg.text(svg.MARGIN, y + 6, said, "pale", size=12))
    return svg.page(y + 30, f"Who ran when, in the last {view.duration(length)}", drawn)


def _width() -> float:
    return svg.WIDTH - 2 * svg.MARGIN - _LABEL - _SHARE


def _row(row: Row, y: float, colour: str) -> list[str]:
    """Draw one program: its name, its bars, and its part of the window."""
    name = row.name if len(row.name) <= 16 else f"{row.name[:15]}…"  # noqa: PLR2004 - what fits
    drawn = [svg.text(svg.MARGIN, y + 13, name)]
    scale = _width() / max(row.end - row.begin, 1)
    left = svg.MARGIN + _LABEL
    for begin, end in _merged(row, State.READY, scale):
        drawn.append(svg.rect(left + begin, y + BAR / 2 - 1, max(end - begin, _LEAST), 2, svg.fill(colour)))
    for begin, end in _merged(row, State.RUNS, scale):
        drawn.append(svg.rect(left + begin, y, max(end - begin, _LEAST), BAR, svg.fill(colour)))
    share = f"{100 * row.part:.1f} %"
    drawn.append(svg.text(svg.WIDTH - svg.MARGIN, y + 13, share, "pale", size=12, anchor="end"))
    return drawn


def _merged(row: Row, state: State, scale: float) -> list[tuple[float, float]]:
    """Return where the spans of *state* are; those that cannot be told apart are one."""
    found: list[tuple[float, float]] = []
    for span in row.spans:
        if span.state is state:
            begin, end = (span.begin - row.begin) * scale, (span.end - row.begin) * scale
            if found and begin - found[-1][1] < _CELL:
                found[-1] = found[-1][0], end
            else:
                found.append((begin, end))
    return found


def _scale(length: int, top: float, bottom: float) -> list[str]:
    """Draw lines at round times, and how long ago those are."""
    drawn = []
    for at in range(0, length + 1, tick(length, 6)):
        x = svg.MARGIN + _LABEL + _width() * (1 - at / length if length else 1)
        drawn.append(svg.rect(x, top - 4, 0.5, bottom - top, 'class="free"'))
        label = f"-{view.duration(at)}" if at else "now"
        drawn.append(svg.text(x, bottom + 10, label, "pale", size=11, anchor="middle"))
    return drawn

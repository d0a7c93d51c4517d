"""Pictures as SVG: paper, text, bars and colours.

They have a paper of their own, light or dark as the reader's is, and the names beside the colours, so that nobody
has to tell colours apart by their names.
"""

from collections.abc import Iterable
from html import escape

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7a5bb5")
"""Of Okabe and Ito, who chose them for all eyes, and two more; the rest is grey."""
REST = "#888888"
WIDTH, MARGIN = 760, 24

_STYLE = """\
  <style>
    .paper { fill: #ffffff } .ink { fill: #1c1c1c } .pale { fill: #666666 } .free { fill: #e8e8e8 }
    .hole { fill: #ffffff; fill-opacity: .6 }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #16181c } .ink { fill: #eeeeee } .pale { fill: #a0a0a0 } .free { fill: #2c2f35 }
      .hole { fill: #16181c }
    }
  </style>"""


def page(height: int, title: str, body: Iterable[str]) -> str:
    """Return a whole picture, its title above its *body*."""
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" font-family="Helvetica, Arial, sans-serif">',
            f"  <title>{escape(title)}</title>",
            _STYLE,
            f'  <rect class="paper" width="{WIDTH}" height="{height}"/>',
            text(MARGIN, 36, title, size=18),
            *body,
            "</svg>",
        ]
    )


def text(x: float, y: float, text: str, kind: str = "ink", *, size: int = 14, anchor: str = "start") -> str:
    """Return *text* at a place, *size* high."""
    place = f'x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"'
    return f'  <text class="{kind}" {place}>{escape(text)}</text>'


def rect(x: float, y: float, width: float, height: float, look: str) -> str:
    """Return a rectangle with a *look*: a class, or what `fill` returns."""
    return f'  <rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" {look}/>'


def fill(colour: str) -> str:
    """Return the look of one colour."""
    return f'fill="{colour}"'


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each of the first *names*; `REST` is for others."""
    return dict(zip(names, COLOURS, strict=False))

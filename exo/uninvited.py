"""How much more memory than its frames the objects of a running system have: what nobody supplied.

Whoever maps an object makes a page by touching it. The kernel believes none of them, and counts none: they take
memory of the host beyond that of the machine, until the pager sweeps them (`libexo.pager.PagedObject.sweep`).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from kernel.abi.kip import Head
from kernel.abi.limits import FRAME_SIZE
from libexo import kip

_NAME = re.compile(r"/memfd:(exo-\d+\+(\d+))(@\d+)?")
"""Of a memory file, or of a piece of one: of which frames, how many, and which piece."""
_BLOCK = 512


def surplus(run: str) -> str:
    """Say that there is none, or no system. Raises OSError: how much there is."""
    try:
        found = kip.read(Path(run) / "kip")
    except (OSError, ValueError):
        return "no system runs"
    more = list(_more(Path(f"/proc/{found.head(Head.KERNEL_PID)}/fd")))
    if more:
        raise OSError(0, f"{sum(more)} pages beyond the frames of {len(more)} objects")
    return "no object has more pages than frames"


def _more(descriptors: Path) -> Iterator[int]:
    """Yield how many pages each object has in its memory files beyond the frames that their names tell."""
    pages: dict[str, dict[str | None, int]] = {}
    frames: dict[str, int] = {}
    for link in descriptors.iterdir():
        try:
            named, found = _NAME.match(str(link.readlink())), link.stat()
        except OSError:  # it was closed since
            continue
        if named is not None:
            pieces, there = pages.setdefault(named[1], {}), found.st_blocks * _BLOCK // FRAME_SIZE
            pieces[named[3]] = max(there, pieces.get(named[3], 0))  # there may be a copy of it just now
            frames[named[1]] = int(named[2])
    yield from (more for name in pages if (more := sum(pages[name].values()) - frames[name]) > 0)

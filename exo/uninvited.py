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

_NAME = re.compile(r"/memfd:exo-\d+\+(\d+)")
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
    """Yield how many pages each memory file has beyond the frames that its name tells."""
    files: dict[int, int] = {}
    for link in descriptors.iterdir():
        try:
            named, found = _NAME.match(str(link.readlink())), link.stat()
        except OSError:  # it was closed since
            continue
        if named is not None:
            files[found.st_ino] = found.st_blocks * _BLOCK // FRAME_SIZE - int(named[1])
    yield from (pages for pages in files.values() if pages > 0)

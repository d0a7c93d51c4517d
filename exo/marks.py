"""How near the end of memory a system is, by the marks in its topology and the frames that are free."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from exo import view
from kernel.abi.kip import Head
from kernel.abi.topology import TopologyError, load
from libexo.levels import Level, Marks, marks

if TYPE_CHECKING:
    from libexo.kip import Kip

_MODULE = "servers.memory"
"""Another memory server has other marks, or none."""


def of(kip: "Kip", run: str) -> Marks | None:
    """Return the marks of the memory server of the system at *run*; None: they are not known."""
    with suppress(OSError, TopologyError, ValueError):
        for server in load(Path(run, "system.toml")).server.values():
            if server.module == _MODULE:
                return marks(kip.head(Head.FRAME_COUNT), server.arguments)
    return None


def level(kip: "Kip", run: str) -> str | None:
    """Return the level in a word; None: it is not known."""
    found = of(kip, run)
    return found.level(kip.head(Head.FREE_FRAMES)).name.lower() if found is not None else None


def told(kip: "Kip", run: str) -> str:
    """Return what there is to say of memory that is short; empty: nothing."""
    found = of(kip, run)
    match found.level(kip.head(Head.FREE_FRAMES)) if found is not None else Level.NONE:
        case Level.LOW:
            assert found is not None
            return (
                f"pressure low: programs above their share are asked until {view.size(found.high)} are free"
            )
        case Level.HIGH:
            assert found is not None
            return f"pressure high: what is free, up to {view.size(found.reserve)}, is for servers"
    return ""

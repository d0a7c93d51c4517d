"""How a program is ended: asked to by SIGTERM, given time for its handlers, and killed when that is over."""

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servers.process.children import Child
    from servers.process.keeper import Keeper

GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL, unless the program or who ends it says otherwise."""
MAX_GRACE = 3600.0


def end(server: "Keeper", child: "Child", grace: float | None = None) -> float:
    """Have *child* end: at the latest after *grace* seconds (default: its own), at once for 0.

    Returns at once, how many seconds it has. One that has ended already, and waits to be restarted, is gone then.
    """
    if child.over:
        server.bury(child)
        return 0.0
    seconds = child.spec.grace if grace is None else grace
    if seconds <= 0:
        server.signal(child, signal.SIGKILL)
        return 0.0
    server.signal(child, signal.SIGTERM)
    server.signal(child, signal.SIGCONT)  # one that is stopped hears of it, too
    thread = child.thread
    server.server.after(seconds, lambda: _kill(server, child, thread))
    return seconds


def _kill(server: "Keeper", child: "Child", thread: int) -> None:
    """Time is over: kill what is still the same incarnation."""
    if server.is_there(child) and child.thread == thread:
        server.signal(child, signal.SIGKILL)

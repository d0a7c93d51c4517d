"""The end of a program: SIGTERM, time for its handlers, then SIGKILL."""

import signal
from typing import TYPE_CHECKING

from libexo.ipc.message import Message
from servers.process.api import Exit

if TYPE_CHECKING:
    from servers.process.children import Child
    from servers.process.keeper import Keeper

GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL, unless the program or the request says otherwise."""
MAX_GRACE = 3600.0
ASK_TO_END = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL)
END_NOBODY = (signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH)


def told(message: Message) -> tuple[int, Exit]:
    """Return whose end the kernel tells, and which."""
    thread, _, status, fault = message.words[:4]
    text = next((item.decode(errors="replace") for item in message.items[:1] if isinstance(item, bytes)), "")
    return thread, Exit(
        status - 0x1_0000 if status & 0x8000 else status, fault, text
    )  # it travels as 16 bits


def end(server: "Keeper", child: "Child", grace: float | None = None) -> float:
    """Have *child* end: at the latest after *grace* seconds (default: its own), at once for 0.

    Returns at once, with the seconds it has. A child that has ended, and waits for its restart, is then gone.
    """
    if child.over:
        server.bury(child)
        return 0.0
    seconds = child.spec.grace if grace is None else grace
    if seconds <= 0:
        server.signal(child, signal.SIGKILL)
        return 0.0
    server.signal(child, signal.SIGTERM)
    server.signal(child, signal.SIGCONT)  # a stopped program gets the signal, too
    thread = child.thread
    server.server.after(seconds, lambda: _kill(server, child, thread))
    return seconds


def _kill(server: "Keeper", child: "Child", thread: int) -> None:
    """Kill the child, at the end of its time, if it is still the same incarnation."""
    if server.is_there(child) and child.thread == thread:
        server.signal(child, signal.SIGKILL)


def note(child: "Child", number: int = signal.SIGTERM) -> None:
    """Note that *child* is sent signal *number*, as an authorised caller asked for it, or the system ends."""
    if number not in END_NOBODY:
        child.told = number


def as_asked(told: int, status: int, fault: int) -> bool:
    """Say whether a program that ended so obeyed the signal *told*, and did not fail.

    Asked to end, it may exit by itself, or be killed after its grace; of other signals it may only die.
    """
    if fault or not told:
        return False
    if told in ASK_TO_END:
        return status >= 0 or -status in ASK_TO_END
    return -status == told

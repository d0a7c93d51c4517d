"""Precedence for the host's processors: the kernel before servers, servers before programs.

Callers wait for a server, and the senders of a flood do not. Niceness counts within a session only, where the host
weighs sessions against each other (sched(7), autogroup).
"""

import contextlib
import os

NICENESS = -5
"""Of a server of the topology: between the kernel and programs."""
BEHIND = 10
"""How much nicer than the kernel a program is, at least."""


def before_programs() -> None:
    """Have the host prefer this process and its session to programs, where it may ask for that."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as session:
        session.write(str(NICENESS))


def behind(kernel: int) -> None:
    """Have the host prefer process *kernel*, whose niceness is 0 where it may not ask to come before programs."""
    niceness = os.getpriority(os.PRIO_PROCESS, kernel) + BEHIND
    if niceness > os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)

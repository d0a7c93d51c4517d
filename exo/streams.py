"""Our standard streams, as a program gets them.

Flags such as O_NONBLOCK belong to an open file, which all holders of a descriptor of it share, our shell too.
So a terminal or a pipe is opened again for the program, with flags of its own. What cannot be opened again is
shared: a socket; a terminal or pipe of another user's; a file, whose write position must stay common to all
that write there. Its flags are put back when the program has ended. Light: `exo run` imports it.
"""

import os
from fcntl import F_GETFL, F_SETFL, fcntl
from stat import S_ISCHR, S_ISFIFO

STREAMS = (0, 1, 2)
"""Also their roles in `kernel.abi.program`, which would take 30 ms to import; a test compares them."""
_HOW = os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
"""Opened without this, a terminal line may have to be waited for."""


class Streams:
    """The streams that are open."""

    def __init__(self) -> None:
        """Open again those that can be."""
        self.roles = [number for number in STREAMS if _is_open(number)]
        self._flags = {number: fcntl(number, F_GETFL) for number in self.roles}
        self._anew = {
            number: opened for number in self.roles if (opened := _anew(number, self._flags[number])) >= 0
        }
        self._shared = [number for number in self.roles if number not in self._anew]

    @property
    def descriptors(self) -> list[int]:
        """The program's descriptors, in the order of their roles."""
        return [self._anew.get(number, number) for number in self.roles]

    def given(self) -> None:
        """Close ours, once the program has them."""
        for opened in self._anew.values():
            os.close(opened)
        self._anew.clear()

    def restore(self) -> None:
        """Put back the flags of shared streams, when the program has ended or never began."""
        self.given()
        for number in self._shared:
            if fcntl(number, F_GETFL) != self._flags[number]:
                fcntl(number, F_SETFL, self._flags[number])


def _anew(number: int, flags: int) -> int:
    """Return a descriptor of the same terminal or pipe with *flags* of its own, -1: there can be none."""
    mode = os.fstat(number).st_mode
    if not (S_ISFIFO(mode) or (S_ISCHR(mode) and os.isatty(number))):
        return -1
    try:
        opened = os.open(f"/proc/self/fd/{number}", flags & os.O_ACCMODE | _HOW)
    except OSError:
        return -1
    fcntl(opened, F_SETFL, flags)
    return opened


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True

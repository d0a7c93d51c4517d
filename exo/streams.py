"""Our standard streams, as a program is given them.

Flags such as O_NONBLOCK belong to an open file, which all who were handed a descriptor of it share: our shell, too.
So a terminal or a pipe is opened anew for the program, whose flags are its own then. What cannot be opened anew is
shared: a socket; a terminal or pipe of another user's; a file, whose place to write at must go on being that of all
who write there. Its flags are put back when the program has ended. Light: `exo run` imports it.
"""

import os
from fcntl import F_GETFL, F_SETFL, fcntl
from stat import S_ISCHR, S_ISFIFO

STREAMS = (0, 1, 2)
"""Also their roles in `kernel.abi.program`, which would take 30 ms to import; a test compares them."""
_HOW = os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
"""A terminal line may have to be waited for where it is opened otherwise."""


class Streams:
    """Those that are open."""

    def __init__(self) -> None:
        """Open anew what can be."""
        self.roles = [number for number in STREAMS if _is_open(number)]
        self._flags = {number: fcntl(number, F_GETFL) for number in self.roles}
        self._anew = {
            number: opened for number in self.roles if (opened := _anew(number, self._flags[number])) >= 0
        }
        self._shared = [number for number in self.roles if number not in self._anew]

    @property
    def descriptors(self) -> list[int]:
        """What the program is given, in the order of their roles."""
        return [self._anew.get(number, number) for number in self.roles]

    def given(self) -> None:
        """The program has them: ours are closed."""
        for opened in self._anew.values():
            os.close(opened)
        self._anew.clear()

    def restore(self) -> None:
        """The program has ended, or never began: what it shared with us has the flags it had."""
        self.given()
        for number in self._shared:
            if fcntl(number, F_GETFL) != self._flags[number]:
                fcntl(number, F_SETFL, self._flags[number])


def _anew(number: int, flags: int) -> int:
    """Return a descriptor of the same terminal or pipe with *flags* of its own, -1 where there can be none."""
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

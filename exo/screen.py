"""A terminal, taken for a while by what draws again and again; 'q' or Ctrl-C leaves."""

import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CLEAR = "\x1b[2J"
_ALTERNATE, _ORDINARY = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
AGAIN = "\x1b[H\x1b[J"
"""Begins at the top, on an empty screen."""


def pause(seconds: float, *, keys: bool) -> bool:
    """Wait; False: the user wants to leave."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin] if keys else [], [], [], left)
        if ready and sys.stdin.read(1) in ("q", "Q", "\x03", ""):
            return False
    return True


@contextmanager
def taken() -> Iterator[None]:
    """Take the terminal for a while: a screen of its own, keys as they are pressed."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    print(_ALTERNATE + _CLEAR, end="")
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        print(_ORDINARY, end="", flush=True)


@contextmanager
def paper() -> Iterator[None]:
    """Print one list below the other."""
    yield

"""What an operation raised, as its caller hears it and as its server's log keeps it.

Both must come about whatever was raised: a text that cannot be encoded, or is endless, or raises when it is asked
for, is told as far as it can be. A server that *declines* raises an `OperationRefused`, which is an answer like
others; any other exception is a surprise, so its traceback goes to the caller and, once, into the server's log.
"""

import sys
import traceback
from contextlib import suppress

import msgspec

from libexo.errors import BadArgument, OperationRefused

LONGEST = 4096
"""Characters of an error's text that travel."""
LONGEST_TRACEBACK = 8192
"""Characters of its traceback that travel and are logged: the last ones, for there it says what happened."""
_LONGEST_LINE = 300
"""Of each of its lines: none, however long, displaces the others."""
_LONGEST_NAME = 128
PLACES = 256
"""Places in the program of which a server remembers that they raised."""
_LOUD = 10
"""After the first time, a place is logged again when it has raised this many times, and this many times that."""


_ON_PURPOSE = (OperationRefused, BadArgument, SystemExit, KeyboardInterrupt)
"""What is no surprise: declined, asked for wrongly, or the end of the server, as somebody wants it."""


class Failure(msgspec.Struct, array_like=True):
    """What an operation raised, as it travels; older servers send no `traceback`."""

    kind: str
    """The name of the exception's class."""
    text: str
    traceback: str = ""
    """The frames of the server it came through; empty where the server declined."""


def failure_of(error: BaseException) -> Failure:
    """Return *error* as it travels: encodable and bounded, whatever it is."""
    kind = _sendable(type.__getattribute__(type(error), "__name__"), _LONGEST_NAME)
    return Failure(kind, _text(error), "" if isinstance(error, _ON_PURPOSE) else _traceback(error))


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as another:  # noqa: BLE001 - the code of whoever wrote that exception
        return f"(its text raises {_sendable(type(another).__name__, _LONGEST_NAME)})"
    return _sendable(text, LONGEST)


def _sendable(text: str, longest: int) -> str:
    """Return *text* with no more than *longest* characters and nothing that is no Unicode character."""
    cut = str.__getitem__(text, slice(0, longest))  # of a subclass, its own methods are not asked
    return cut.encode("utf-8", "backslashreplace").decode()


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error, limit=-16)
    except BaseException as another:  # noqa: BLE001 - formatting asks that exception, and those it came from
        return f"(its traceback raises {_sendable(type(another).__name__, _LONGEST_NAME)})"
    short = [_sendable(line, _LONGEST_LINE) for line in "".join(lines).rstrip().splitlines()]
    text = "\n".join(short)
    return text if len(text) <= LONGEST_TRACEBACK else f"...{text[-LONGEST_TRACEBACK:]}"


class Reports:
    """What a server's log says of its operations' exceptions: each place in full once, and then how often."""

    def __init__(self, server: str) -> None:
        """Report for the server called *server*."""
        self._server = server
        self._times: dict[tuple[str, str, int], int] = {}

    def report(self, operation: str, error: BaseException, failure: Failure) -> None:
        """Log that *operation* raised *error*, which its caller hears as *failure*."""
        if not failure.traceback:
            return
        place = _place(error)
        if place not in self._times and len(self._times) >= PLACES:
            place = ("", "", 0)  # all further ones are counted together
        times = self._times[place] = self._times.get(place, 0) + 1
        if times == 1:
            _write(f"{self._server}.{operation} raised {failure.kind}:\n{failure.traceback}")
        elif _is_power(times):
            _write(f"{self._server}.{operation} raised {failure.kind} as before: {times} times by now")


def _place(error: BaseException) -> tuple[str, str, int]:
    """Return what was raised, and where: the class, the file and the line."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = (frame.tb_frame.f_code.co_filename, frame.tb_lineno) if frame is not None else ("", 0)
    return (type(error).__name__, *where)


def _is_power(times: int) -> bool:
    while times % _LOUD == 0:
        times //= _LOUD
    return times == 1


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # a log that is full or closed is no reason to stop serving
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

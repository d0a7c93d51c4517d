"""Numbers on the command line, with errors that name their range."""

import re
from argparse import ArgumentTypeError

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)(ns|us|ms|s)")
LONGEST = 3600
"""Seconds of a window."""


def time(text: str) -> int | None:
    """Return the nanoseconds that *text* means, as in 20ms or 1.5s; None: it has no unit, or is no time."""
    found = _TIME.fullmatch(text)
    return round(float(found[1]) * _UNITS[found[2]]) if found is not None else None


def window(text: str) -> int:
    """Return the nanoseconds of a window into the past: a time with a unit, or seconds."""
    found = time(text)
    nanoseconds = _float(text) * _UNITS["s"] if found is None else found
    if not 1 <= nanoseconds <= LONGEST * _UNITS["s"]:
        raise ArgumentTypeError(f"{text!r}: write a time such as 1s or 500ms, at most {LONGEST}s")
    return round(nanoseconds)


def count(text: str) -> int:
    """Return the number that *text* means: 0 or more."""
    if not (text.isascii() and text.isdecimal()):
        raise ArgumentTypeError(f"{text!r}: write a number, 0 or more")
    return int(text)


def positive(text: str) -> int:
    """Return the number that *text* means: 1 or more."""
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"{text!r}: write a number, 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """Return the seconds that *text* means, more than 0."""
    if not 0 < (found := _float(text)) < float("inf"):
        raise ArgumentTypeError(f"{text!r}: write a number of seconds, more than 0")
    return found


def seconds_or_none(text: str) -> float:
    """Return the seconds that *text* means, 0 or more."""
    if not 0 <= (found := _float(text)) < float("inf"):
        raise ArgumentTypeError(f"{text!r}: write a number of seconds, 0 or more")
    return found


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0

"""Numbers on the command line, with errors that name their range."""

from argparse import ArgumentTypeError


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

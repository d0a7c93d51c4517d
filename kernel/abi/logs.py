"""Logs: their directory, their file names, and how much of them is kept.

The nursery writes the logs of programs and servers, the kernel its own; `exo` shows both.
"""

from typing import Final

FOLDER: Final = "log"
"""The logs of programs and servers, in the run directory."""
KEPT: Final = ".logs"
"""Suffix to the run directory's path: the logs of the last system that ended, until the next one starts."""
OLDER: Final = ".1"
"""Suffix to a log's path: the older part of the log."""
MAX_LOG: Final = 1 << 20
"""Bytes of a log before it is rotated; one older file is kept beside it."""
MIN_LOG: Final = 64 << 10
"""The same where very many programs write logs at once."""
MAX_ALL_LOGS: Final = 128 << 20
"""Bytes of all logs of a system."""
MAX_ENDED_LOGS: Final = 64
"""Logs of programs that have ended; the oldest go first."""
LAST_LINE: Final = "the system has ended"
"""The last line of the log of a kernel that ended in order."""
RESERVED: Final = ("kernel", "nursery")
"""Logs of the system itself: no program's log is called so."""


def log_file(name: str) -> str:
    """Return the file name of the log of *name*, different for every name."""
    shown = [c if c.isalnum() or c in "-_." else _escape(c) for c in name]
    if name.startswith(".") or name in RESERVED:
        shown[0] = _escape(name[0])
    return f"{''.join(shown)}.log"


def log_name(file: str) -> str:
    """Return the name whose log *file* is: the inverse of `log_file`."""
    first, *escaped = file.removesuffix(".log").encode(errors="replace").split(b"%")
    text = first + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in escaped)
    return text.decode(errors="replace")


def _escape(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode(errors="replace"))

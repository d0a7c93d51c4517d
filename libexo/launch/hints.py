"""Hints to a program that confinement refused something: the host's own error is a bare PermissionError."""

import errno
import linecache
import re
from collections.abc import Iterator
from types import TracebackType

REFUSED = (errno.EPERM, errno.EACCES)
NETWORK = "no network"
PROCESSES = "no processes of its own"
FILES = "it writes no files, and reads only the system's and those beside it"
MEMORY = "no memory files: the memory server gives memory"
OTHER = "a system call that programs may not make"
LATER = "there is no option yet that grants it"
PLACES = (
    (re.compile(r"/(subprocess|multiprocessing/\w+|concurrent/futures/process)\.py$"), PROCESSES),
    (re.compile(r"/(socket|ssl|socketserver)\.py$"), NETWORK),
    (re.compile(r"/(tempfile|shutil)\.py$"), FILES),
)
"""Modules in whose functions something was refused."""
CALLS = (
    (re.compile(r"\b(v?fork\w*|exec[lv]\w*|posix_spawnp?|spawn[lv]\w*|system|popen)\("), PROCESSES),
    (re.compile(r"\b(socket|create_connection|create_server|connect|bind)\("), NETWORK),
    (re.compile(r"\b(memfd_create|SharedMemory)\("), MEMORY),
)
"""Calls on the line that was refused something."""
TEXTS = (
    (re.compile("No usable temporary directory"), FILES),
    (re.compile("unable to open database file|attempt to write a readonly database"), FILES),
)
"""Messages of libraries instead."""


def hint(error: BaseException) -> str:
    """Return the hint for a program that *error* ends, if confinement is the cause; otherwise empty."""
    for each in _family(error):
        if what := _refused(each):
            return f"confined by exo: {what}; {LATER}"
    return ""


def _family(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and all that led to it, each once."""
    left, seen = [error], set[int]()
    while left:
        each = left.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        causes = [each.__cause__, each.__context__, getattr(each, "reason", None)]
        causes += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        left += [cause for cause in causes if isinstance(cause, BaseException)]


def _refused(error: BaseException) -> str:
    """Return what confinement refused, if *error* tells."""
    if said := _first(TEXTS, str(error)):
        return said
    if not isinstance(error, OSError) or error.errno not in REFUSED:
        return ""
    lines = list(_lines(error.__traceback__))
    for file, line in reversed(lines):
        if what := _first(PLACES, file) or _first(CALLS, line):
            return what
    return FILES if error.filename is not None else OTHER


def _lines(trace: TracebackType | None) -> Iterator[tuple[str, str]]:
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        yield file, linecache.getline(file, trace.tb_lineno)
        trace = trace.tb_next


def _first(table: tuple[tuple[re.Pattern[str], str], ...], text: str) -> str:
    return next((what for pattern, what in table if pattern.search(text)), "")

"""Who keeps the host's lock of a memory file: threads in a system call that takes it, on a descriptor of that file.

Such a call takes as long as it writes, and those of many threads queue before ours. The first of them runs, and the
host does not say what in; the others wait, and of who waits the host shows the call and what it is about.
"""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from hwmodel.machine import Deed
from hwmodel.real.body import RealBody

_CALLS = {
    # lseek, write, pwrite64, writev, pwritev, pwritev2, sendfile; then splice, copy_file_range
    "x86_64": ((8, 1, 18, 20, 296, 328, 40), (275, 326)),
    "aarch64": ((62, 64, 68, 66, 70, 287, 71), (76, 285)),
}
"""Numbers of the calls that take the lock, by where among their arguments the descriptor is: first, or third."""
_FIRST, _THIRD = _CALLS.get(platform.machine(), ((), ()))
_WORDS, _WORD = 9, 0xFFFFFFFF
"""Number, six arguments, two pointers; a descriptor is the lower half of its word, whatever the upper is."""

File = tuple[int, int]
"""Device and inode."""


def own(thread: int) -> File | None:
    """Return the file that a call of our own *thread* waits for; None: the host does not show it."""
    words = _call(Path(f"/proc/self/task/{thread}"))
    return _file(Path("/proc/self"), words[1]) if words else None


def find(
    bodies: Sequence[RealBody],
    file: File,
    tell: Callable[[Callable[[], object]], object],
    blamed: Callable[[RealBody], object],
) -> Deed:
    """Have *tell* call *blamed* with each of *bodies* that keeps the lock of *file*, or whose child does."""
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        if (body := _body(pid, bodies)) is not None:
            for is_guilty in _writes(Path(f"/proc/{pid}"), file):
                if is_guilty:
                    tell(partial(blamed, body))
                    break
                yield
        yield


def _body(pid: int, bodies: Sequence[RealBody]) -> RealBody | None:
    """Return whose process *pid* is: a body's own, of its group, or of its uid that no other has."""
    with contextlib.suppress(OSError):
        group, status = os.getpgid(pid), Path(f"/proc/{pid}/status").read_text("ascii", "replace")
        uid = int(status.partition("\nUid:")[2].split(maxsplit=1)[0])
        near = [body for body in bodies if body.pid in (pid, group)]
        found = near or [body for body in bodies if body.uid == uid]
        return found[0] if len(found) == 1 else None
    return None


def _writes(process: Path, file: File) -> Iterator[bool]:
    """Say of each thread of *process* whether it waits in a call that takes the lock of *file*."""
    with contextlib.suppress(OSError):  # it has ended
        for thread in os.listdir(process / "task"):
            words = _call(process / "task" / thread)
            at = 0 if not words else 1 if words[0] in _FIRST else 3 if words[0] in _THIRD else 0
            yield at > 0 and _file(process, words[at]) == file


def _call(thread: Path) -> list[int]:
    """Return number and arguments of the call in which *thread* waits; nothing where it does not, or is hidden."""
    words: list[str] = []
    with contextlib.suppress(OSError):
        words = (thread / "syscall").read_text("ascii").split()
    return [int(word, 0) & _WORD for word in words] if len(words) == _WORDS else []


def _file(process: Path, descriptor: int) -> File | None:
    with contextlib.suppress(OSError):
        found = os.stat(process / "fd" / str(descriptor))
        return found.st_dev, found.st_ino
    return None

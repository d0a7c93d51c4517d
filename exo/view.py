"""Common parts of the verbs that show something: the open system, its environments, tables, sizes, times."""

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from exo.system import Trouble, no_system, run_directory
from kernel.abi.errors import Fault
from kernel.abi.ids import FIRST_PROGRAM, show_thread, thread_number
from kernel.abi.kip import EnvironmentState, Head, SystemState
from kernel.abi.limits import FRAME_SIZE
from libexo import kip as interface

if TYPE_CHECKING:
    from argparse import _ActionsContainer

    from libexo.kip import EnvironmentRow, Kip

BAR = 48
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_WAITING, _ENDED = frozenset({b"S", b"D", b"I"}), frozenset({b"Z", b"X", b"x"})
"""States of a thread, by proc(5): it does not want a processor; it never will again."""

Json = dict[str, object]


def open_kip(chosen: str | None) -> "Kip":
    """Map the kernel interface page of the chosen system. Raises Trouble when none runs."""
    run = run_directory(chosen)
    try:
        return interface.read(Path(run, "kip"))
    except (FileNotFoundError, NotADirectoryError):
        raise no_system(run) from None
    except ValueError as error:  # an empty file cannot be mapped
        raise Trouble(f"{run}/kip is not a kernel interface page: {error}") from None


def kernel_pid(kip: "Kip") -> int:
    """Return the kernel's process id, 0 while it boots."""
    return kip.head(Head.KERNEL_PID)


def is_ready(kip: "Kip", names: Iterable[str] = ()) -> bool:
    """Whether the system is up, with *names* and all that is there ready to be called."""
    rows = kip.environments()
    return (
        kip.state == SystemState.UP
        and all(row.state != EnvironmentState.STARTING for row in rows)
        and {row.name for row in rows if row.state != EnvironmentState.DEAD}.issuperset(names)
    )


def is_server(row: "EnvironmentRow") -> bool:
    """Whether this is a server of the topology, not a program."""
    return thread_number(row.thread) < FIRST_PROGRAM


def environments(kip: "Kip") -> list[Json]:
    """Return every environment, as in `ps --json`; these keys are kept stable."""
    now, rows = time.monotonic_ns(), kip.environments()
    of = of_family(rows)
    return [
        _environment(row, now) | {"family": of.get(row.number)}
        for row in sorted(rows, key=lambda row: row.thread)
    ]


def families(rows: Iterable["EnvironmentRow"]) -> dict[int, list["EnvironmentRow"]]:
    """Return the programs among *rows* by family: the first that lives or is to be restarted, then the others."""
    found: dict[int, list[EnvironmentRow]] = {}
    for row in sorted(rows, key=lambda row: (not row.is_first, row.started)):
        if row.family:
            found.setdefault(row.family, []).append(row)
    return found


def of_family(rows: Iterable["EnvironmentRow"]) -> dict[int, str]:
    """Return the family's name for each number of an environment: that of its first member that is there."""
    return {row.number: members[0].name for members in families(rows).values() for row in members}


def _environment(row: "EnvironmentRow", now: int) -> Json:
    return {
        "name": row.name,
        "thread": show_thread(row.thread),
        "pid": row.pid,
        "uid": row.uid,
        "state": state(row),
        "processor": row.cpu if row.cpu >= 0 else None,
        "cpu_ns": consumed(row),
        "frames": row.frames,
        "handles": row.handles,
        "traps": row.traps,
        "age_ns": max(0, now - row.started),
        "fault": fault_text(row.fault),
    }


def state(row: "EnvironmentRow") -> str:
    """Return an environment's activity, in a word; under a debugger it is traced, whatever else it does.

    The kernel does not watch one with a processor to itself: the host tells whether it sleeps.
    """
    if row.pid and _is_traced(row.pid):
        return "traced"
    if row.state == EnvironmentState.RUNNING and row.pid and _sleeps(row.pid):
        return EnvironmentState.BLOCKED.name.lower()
    return row.state.name.lower()


def _sleeps(pid: int) -> bool:
    """Whether all threads of process *pid*, and of the processes of its group, wait; False: none can be seen."""
    states = [
        _stat(f"/proc/{each}/task/{thread}")[:1]
        for each in _listed("/proc")
        if int(each) == pid or _stat(f"/proc/{each}")[2:3] == [b"%d" % pid]
        for thread in _listed(f"/proc/{each}/task")
    ]
    living = {found[0] for found in states if found} - _ENDED
    return bool(living) and living <= _WAITING


def _stat(path: str) -> list[bytes]:
    """Return the fields behind the name in the file *stat* at *path*: state, parent, group; empty: it is gone."""
    try:
        with open(f"{path}/stat", "rb") as file:  # noqa: PTH123 - as below
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _listed(path: str) -> list[str]:
    """Return the numbers in the directory *path*; empty: it is gone."""
    try:
        return [name for name in os.listdir(path) if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return []


def _is_traced(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123 - pathlib takes 7 ms to import
            found = next((line for line in file if line.startswith(b"TracerPid:")), b"TracerPid: 0")
    except OSError:
        return False
    return int(found.split()[1]) != 0


def consumed(row: "EnvironmentRow") -> int:
    """Return the CPU time of an environment: the kernel's account under a plan, otherwise the host's."""
    if row.cpu < 0 and row.pid and row.state != EnvironmentState.DEAD:
        with suppress(OSError):  # it ended meanwhile
            return time.clock_gettime_ns(
                ~row.pid << 3 | 2
            )  # CPUCLOCK_SCHED of a process: linux/posix-timers.h
    return row.consumed


def fault_text(number: int) -> str | None:
    """Return the meaning of a fault number; None: no fault."""
    if not number:
        return None
    return Fault(number).text if number in tuple(Fault) else f"fault {number}"


# ----------------------------------------------------------------------------------------------------- text


def add_json(parser: "_ActionsContainer") -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print JSON, with keys that are kept stable")


def print_json(value: object) -> None:
    """Print *value* for another program to read."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> str:
    """Lay out columns under *head*; those named in *right* have their text at the right."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    fit: list[Callable[[str, int], str]] = [str.rjust if name in right else str.ljust for name in head]
    return "\n".join(
        "  ".join(put(cell, width) for put, cell, width in zip(fit, line, widths, strict=True)).rstrip()
        for line in lines
    )


def size(frames: int) -> str:
    """Return *frames* as people read it."""
    amount = float(frames * FRAME_SIZE)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:  # noqa: PLR2004 - a kibi
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.4g} GiB"


def duration(nanoseconds: int) -> str:
    """Return a time as people read it: ``1.50 ms``, ``2.0 s``, ``3m05``, ``2h10m``, ``4d03h``."""
    seconds = nanoseconds / 1e9
    if seconds < 1:
        return f"{seconds * 1e3:.2f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d{hour:02}h"
    return f"{hour}h{minute:02}m" if hour else f"{minute}m{second:02}"


def bar(part: float, width: int = BAR) -> str:
    """Return a bar of *part* (0..1) of *width*; the smallest part is visible."""
    filled = min(width, max(round(part * width), 1 if part > 0 else 0))
    return "█" * filled + "·" * (width - filled)


def is_alive(pid: int) -> bool:
    """Whether there is a process *pid*."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

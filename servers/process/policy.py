"""The process server's decisions: names, and restarts. Pure."""

from collections.abc import Collection, Mapping
from pathlib import PurePath

from kernel.abi.budget import named, pairs
from kernel.abi.ids import FIRST_PROGRAM
from kernel.abi.limits import MAX_CPUS, MAX_NAME, MAX_THREADS
from kernel.abi.program import ProgramKind
from libexo.errors import OperationRefused

MIN_RUN_TIME = 1.0
"""Seconds after which an end counts as bad luck; after a shorter run the next one is likely to be short, too."""
FIRST_DELAY = 0.0
"""Seconds before a restart after a long enough run: clients are waiting."""
BACKOFF_DELAY = 0.05
"""Seconds before the restart after a short run; doubled at each further one."""
MAX_DELAY = 5.0
"""The longest delay: an operator who repairs the cause should not have to wait long."""
ASK_AGAIN = 0.05
"""Seconds until a server that is being restarted is asked again."""
FAMILY_INTERVAL = 0.2
"""Seconds between two restarts in one family, in the long run."""
FAMILY_BURST = 10
"""Restarts in one family that may come at once, after a quiet time."""
WAIT_MEMORY = 256
"""Ended programs whose exit is remembered for a late `wait`."""


class ProcessRefused(OperationRefused):
    """The base of the process server's refusals."""


class SpawnRefused(ProcessRefused):
    """The program cannot be started."""


class NoSuchProgram(ProcessRefused):
    """No program has, or had, that thread."""


class NoFamily(ProcessRefused):
    """It is a server of the topology."""


class NotYours(ProcessRefused):
    """Another program started it."""


class NameTaken(ProcessRefused):
    """Another thread carries that name."""


class TooManyWaits(ProcessRefused):
    """The caller waits for as many as it may."""


class CannotReplace(ProcessRefused):
    """The server cannot be replaced."""


class ThreadRefused(ProcessRefused):
    """The thread cannot be created."""


def must_restart(rule: str, status: int) -> bool:
    """Say whether a program under *rule* that ended with *status* is started again."""
    return rule == "always" or (rule == "on-failure" and status != 0)


def delay(short_runs: int) -> float:
    """Return how long to wait before a restart after *short_runs* short runs in a row, in seconds."""
    doublings = min(short_runs - 1, 64)  # by then it is the longest delay, and a small number
    return min(MAX_DELAY, BACKOFF_DELAY * 2**doublings) if short_runs else FIRST_DELAY


def lasted(ran: float, short_runs: int) -> bool:
    """Say whether a run of *ran* seconds, after *short_runs* short ones, was long enough to count as bad luck."""
    return ran >= max(MIN_RUN_TIME, delay(short_runs))


class Pace:
    """The rate of restarts in one family, all its members together."""

    def __init__(self) -> None:
        """Start with none restarted."""
        self._full = 0.0
        """When all restarts so far would have been due, one after another."""

    def delay(self, now: float, wanted: float) -> float:
        """Return how long a restart that wants to come in *wanted* seconds must wait, and count it."""
        self._full = max(self._full, now) + FAMILY_INTERVAL
        return max(wanted, self._full - FAMILY_BURST * FAMILY_INTERVAL - now)


def choose_thread(taken: Collection[int], last: int) -> int:
    """Return a thread number for a program's further thread: the first free one after *last*, round and round.

    A number is used again as late as possible, as others may still use the id of its last bearer. Raises
    ThreadRefused when there is none.
    """
    span = MAX_THREADS - FIRST_PROGRAM
    for step in range(1, span + 1):
        number = FIRST_PROGRAM + (last - FIRST_PROGRAM + step) % span
        if number not in taken:
            return number
    raise ThreadRefused(f"all {span} thread numbers are taken")


def check_budget(limits: Mapping[str, int]) -> None:
    """Raise SpawnRefused if an operator cannot give these *limits*: no program gets more than a server has."""
    try:
        chosen = named(limits)
    except ValueError as error:
        raise SpawnRefused(str(error)) from None
    for item, limit in chosen.items():
        if limit > item.server:
            raise SpawnRefused(
                f"a budget of {limit} {item.name.lower()}: {item.server} at most, which is what a server has"
            )


def choose_name(kind: int, program: str, taken: Collection[str]) -> str:
    """Return a free name for *program*: its last part, with a number if that is taken."""
    if kind == ProgramKind.SERVER:
        stem = program.partition(":")[0].rpartition(".")[2]
    else:
        stem = PurePath(program).name.removesuffix(".py")
    stem = "".join(c if c.isalnum() or c in "._-" else "-" for c in stem)
    stem = stem.encode()[: MAX_NAME - 5].decode(errors="ignore") or "program"
    if stem not in taken:
        return stem
    return next(f"{stem}-{n}" for n in range(2, len(taken) + 3) if f"{stem}-{n}" not in taken)


def limits(budget: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """Return *budget*, limits by the names of items, as the kernel takes it. Raises SpawnRefused."""
    try:
        return pairs(named(budget))
    except ValueError as error:
        raise SpawnRefused(str(error)) from None


def processor(off: Collection[int]) -> int:
    """Return the processor under which programs start: the first that is not *off*."""
    return next(number for number in range(MAX_CPUS) if number not in off)

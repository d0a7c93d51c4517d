"""Servers that must answer: each is asked, as `exo ping` does it, until it has answered or cannot any more."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from exo import logs, view
from exo.owntime import own_time
from exo.system import Trouble
from kernel.abi.ids import thread_version
from kernel.abi.kip import EnvironmentState, SystemState
from kernel.abi.logs import RESERVED

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow, Kip

PATIENCE = 0.25
"""Seconds that a server gets for one answer; it is asked again."""
PAUSE = 0.003
DEATHS = 2
"""A server that ended so often without an answer will not answer after one more restart."""
VERSIONS = 2
"""By how much the version of a thread grows with each incarnation (X.2: odd numbers)."""
STAYS = 0.5
"""Seconds of its own time (`exo.owntime`) after which a server that need not answer counts as there to stay."""
LEAVING = 1.0
"""Seconds until the kernel has noticed that we left."""
TAIL = 12


class Roll:
    """Servers that must answer, without those that have."""

    def __init__(
        self,
        run: str,
        names: Mapping[str, bool],
        deaths: int = DEATHS,
        since: Mapping[Path, int] = MappingProxyType({}),
    ) -> None:
        """Ask *names* of the system at *run*; one that ended *deaths* times will not answer.

        Those that need not answer must only stay. The parts of logs before the marks
        *since* are older.
        """
        self._run = run
        self._since = since
        self._deaths = deaths
        self._left = list(names)
        self._silent = {name for name, answers in names.items() if not answers}
        self._first: dict[str, int] = {}
        """The first thread of each."""
        self._environment: Environment | None = None

    def call(self, kip: "Kip") -> bool:
        """Ask the rest of them; return whether the system is up, and all have answered. Raises Trouble."""
        from exo.ping import ask

        if kip.state != SystemState.UP:
            return False
        rows = {row.name: row for row in kip.environments()}
        for name in self._left:
            self._check(name, rows.get(name))
        if not view.is_ready(kip, self._left):
            return False
        if self._left and self._environment is None:
            self._environment = _attach(self._run)
        for name in list(self._left):
            assert self._environment is not None
            if name in self._silent:
                if not _stays(rows[name]):
                    return False
            elif ask(self._environment, name, PATIENCE)["error"] is not None:
                return False
            self._left.remove(name)
        self._leave(kip)
        return True

    def wait(self, kip: "Kip", timeout: float) -> None:
        """Wait until all have answered. Raises Trouble when that takes longer than *timeout* seconds."""
        deadline = time.monotonic() + timeout
        while not self.call(kip):
            if time.monotonic() > deadline:
                raise Trouble(f"{timeout:g} s have passed: {self.missing()}")
            time.sleep(PAUSE)

    def missing(self) -> str:
        """Return the servers that have not answered, or not shown that they stay, and the first one's words."""
        asked = [name for name in self._left if name not in self._silent]
        if asked:
            return f"no answer from {', '.join(asked)}{self.words()}"
        if self._left:
            had = f"has had less than {STAYS:g} s for itself, too little to tell whether it stays"
            return f"{', '.join(self._left)} {had}{self.words()}"
        return "the console is silent"

    def words(self) -> str:
        """Return the last words of the first server that has not answered."""
        return next(filter(None, (last_words(self._run, name, self._since) for name in self._left)), "")

    def close(self) -> None:
        """Stop asking."""
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _check(self, name: str, row: "EnvironmentRow | None") -> None:
        """Raise Trouble if *name* ended and is not to be restarted, or ends again and again."""
        if row is None:
            raise Trouble(f"{name} ended before it served{last_words(self._run, name, self._since)}")
        first = self._first.setdefault(name, row.thread)
        ends = (thread_version(row.thread) - thread_version(first)) // VERSIONS
        if ends + (row.state == EnvironmentState.DEAD) >= self._deaths:
            raise Trouble(f"{name} ends before it serves{last_words(self._run, name, self._since)}")

    def _leave(self, kip: "Kip") -> None:
        """Leave the system, and wait until the table of environments shows it."""
        if self._environment is None:
            return
        self.close()
        name, deadline = f"roll-{os.getpid()}", time.monotonic() + LEAVING
        while any(row.name == name for row in kip.environments()) and time.monotonic() < deadline:
            time.sleep(PATIENCE / 100)


def _stays(row: "EnvironmentRow") -> bool:
    """Whether the incarnation of *row* goes on: it has had as much time for itself as a failing one needs."""
    return row.state != EnvironmentState.DEAD and own_time(row.pid) >= STAYS


def _attach(run: str) -> "Environment":
    """Attach to the system at *run*, to ask. Imported here: it takes 40 ms, during which a kernel boots."""
    import libexo

    return libexo.attach(run, f"roll-{os.getpid()}")


def marks(run: str) -> dict[Path, int]:
    """Return the present length of each log of the system at *run*."""
    return {path: path.stat().st_size for path in logs.files(run).values()}


def last_words(run: str, name: str, since: Mapping[Path, int] = MappingProxyType({})) -> str:
    """Return the end of the log of *name*, after the marks *since*, below a colon; empty: there is none."""
    path = logs.files(run).get(name if name not in RESERVED else logs.program(name))
    lines = logs.last_lines(_read(path, since.get(path, 0)), TAIL) if path is not None else []
    return "\n".join(["; its last words:", *(f"    {line}" for line in lines)]) if lines else ""


def _read(path: Path, start: int) -> bytes:
    """Return *path* from byte *start* on; all of it, if it was rotated since."""
    text = path.read_bytes()
    return text[start:] if len(text) >= start else text

"""Policies side by side for real: each is in force on the running system while described programs do their work.

What was in force before is in force again in the end, however that comes.
"""

import itertools
import os
import select
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any

import msgspec

from exo.programs import described
from exo.system import Trouble, run_directory
from libexo.errors import RemoteError
from libexo.workload import Described, Done, Job, Outcome, row

if TYPE_CHECKING:
    from libexo.environment import Environment
    from servers.scheduler.api import Choice, Scheduler

    Attach = Callable[[str | None], AbstractContextManager[tuple[Environment, Scheduler]]]
    """Attaches to the system of a run directory, and gives its scheduler."""

SOON = 200_000_000
"""Nanoseconds from the word to begin until all begin: by then each has read it."""
PATIENCE = 30
"""Seconds that programs have to start, or to say what came of their work."""


def tried(
    options: Namespace, scheduler: "Attach", choices: "Sequence[Choice]", programs: Sequence[Described]
) -> list[Outcome]:
    """Return the outcome of each of *choices*. Raises Trouble, Usage."""
    with ExitStack() as opened:
        opened.enter_context(_ending())
        environment, server = opened.enter_context(scheduler(options.run))
        before = server.in_force()
        opened.callback(_put_back, server, before)
        found = []
        for at, choice in enumerate(choices, 1):
            trial = Trial(environment, server, options, f"{at} of {len(choices)}")
            found.append(trial.run(choice, programs))
            _put_back(server, before)  # the next programs start under what the user knows
        return found


@contextmanager
def _ending() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end it as Ctrl-C does, and let no second one disturb what is put back."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _put_back(server: "Scheduler", before: "Choice") -> None:
    """Put the policy back that was in force."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        server.use(before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


class Trial:
    """The programs under one policy."""

    def __init__(
        self, environment: "Environment", server: "Scheduler", options: Namespace, turn: str
    ) -> None:
        """Try on the system of *environment*."""
        self._environment, self._server, self._turn = environment, server, turn
        self._run, self._seed = run_directory(options.run), options.seed
        self._length = round(options.seconds * 1e9)

    def run(self, choice: "Choice", programs: Sequence[Described]) -> Outcome:
        """Start *programs*, put the policy of *choice* in force, and let them work. Raises Trouble."""
        refused = ""
        with ExitStack() as opened:
            started = [opened.enter_context(self._started(each)) for each in programs]
            for each in started:
                each.line()
            self._server.use(choice)
            for each in started:
                refused = refused or self._tell(each)
            switches = self._environment.kip.counters()["switches"]
            begin = time.monotonic_ns() + SOON
            for each in started:
                each.begin(begin, begin + self._length)
            self._wait(str(choice), begin)
            switches = self._environment.kip.counters()["switches"] - switches
            refused = refused or self._server.refused()
            rows, used = [], 0
            for each in started:
                spent, jobs = msgspec.json.decode(
                    each.line(), type=tuple[int, list[tuple[int, int, int, int]]]
                )
                done = [Done(each.described.name, Job(*job), at) for *job, at in jobs]
                rows.append(row(each.described, spent, done, self._length))
                used += spent
        return Outcome(str(choice), rows, round(max(1 - used / self._length, 0), 4), switches, refused)

    def _tell(self, program: "Program") -> str:
        """Say to the policy what the description says; return why it does not take that."""
        if not program.described.parameters:
            return ""
        try:
            self._server.set(self._thread(program.name), dict(program.described.parameters))
        except RemoteError as error:
            return f"{program.described.name}: {error.text}"
        return ""

    def _thread(self, name: str) -> int:
        return next(each.thread for each in self._environment.kip.environments() if each.name == name)

    def _wait(self, policy: str, begin: int) -> None:
        """Wait until all is over, and show how far it is."""
        shows = sys.stderr.isatty()
        seconds = self._length / 1e9
        if not shows:
            print(f"{policy} ({self._turn}): {seconds:g} s", file=sys.stderr, flush=True)
        while (left := begin + self._length - time.monotonic_ns()) > 0:
            if shows:
                gone = max(seconds - left / 1e9, 0)
                sys.stderr.write(f"\r\x1b[K{policy} ({self._turn}): {gone:.0f} of {seconds:g} s")
                sys.stderr.flush()
            time.sleep(min(left / 1e9, 0.5))
        if shows:
            sys.stderr.write("\r\x1b[K")

    @contextmanager
    def _started(self, program: Described) -> "Iterator[Program]":
        name = f"{program.name}-{os.getpid()}-{next(_serial)}"
        said = msgspec.json.encode(program).decode()
        words = [
            "--name",
            name,
            "--share",
            str(program.weight),
            "--",
            described.__file__,
            said,
            str(self._seed),
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "exo", "--run", self._run, "run", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours
        )
        try:
            yield Program(program, name, process)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


_serial = itertools.count(1)


class Program:
    """A described program that was started."""

    def __init__(self, program: Described, name: str, process: "subprocess.Popen[bytes]") -> None:
        """Talk to *process*, by which environment *name* runs."""
        self.described, self.name, self._process = program, name, process

    def begin(self, begin: int, end: int) -> None:
        """Have it work from *begin* to *end*."""
        stream = self._stream(self._process.stdin)
        stream.write(f"{begin} {end}\n".encode())
        stream.flush()

    def line(self) -> bytes:
        """Return what it says next. Raises Trouble."""
        stream = self._stream(self._process.stdout)
        ready, _, _ = select.select([stream], [], [], PATIENCE)
        said: bytes = stream.readline() if ready else b""
        if said:
            return said
        if not ready:
            raise Trouble(f"{self.described.name} said nothing for {PATIENCE} s: it never had the processor")
        told = self._stream(self._process.stderr).read().decode(errors="replace").strip()
        raise Trouble(f"{self.described.name} ended early{': ' * bool(told)}{told}")

    @staticmethod
    def _stream(stream: "IO[bytes] | None") -> Any:  # noqa: ANN401 - each is a pipe
        return stream

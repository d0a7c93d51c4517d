"""Requests of libexo to servers, in one place, and to the layers above the environment.

Each stub is imported when it is first needed: few programs need all of them.
"""

# ruff: noqa: PLC0415 - see above

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.program import ProgramKind
from libexo.errors import RemoteError

if TYPE_CHECKING:
    from kernel.abi.gate import Upcall
    from libexo.environment import Environment
    from libexo.ipc.thread import Thread
    from servers.memory.api import Memory
    from servers.process.api import Exit
    from servers.scheduler.api import Scheduler


class Servers:
    """The servers, as one environment asks them. Implements `libexo.attachment.Services`."""

    def __init__(self, environment: "Environment") -> None:
        """Ask in the name of *environment*."""
        self._environment = environment

    def memory(self) -> "Memory":
        """Return a stub of the memory server."""
        from servers.memory.api import Memory

        return Memory.connect(self._environment)

    def scheduler(self) -> "Scheduler":
        """Return a stub of the scheduler server."""
        from servers.scheduler.api import Scheduler

        return Scheduler.connect(self._environment)

    def publish(self, name: str) -> None:
        """Have *name* published for the calling thread. Raises NotFound, RemoteError."""
        from servers.process.api import Processes

        Processes.connect(self._environment).register(name)

    def start_program(
        self,
        module: str,
        name: str,
        environ: tuple[tuple[str, str], ...],
        *,
        paged: bool,
        budget: dict[str, int],
    ) -> int:
        """Start `python -m` *module* as *name*; return its thread id. Raises NotFound, RemoteError."""
        from servers.process.api import Processes, ProgramSpec

        program = ProgramSpec(int(ProgramKind.SERVER), (module,), name, environ, budget=budget, paged=paged)
        return Processes.connect(self._environment).spawn(program)

    def kill_program(self, thread: int) -> None:
        """End a program that we started; one that has ended is no error. Raises NotFound, RemoteError."""
        from servers.process.api import Processes

        try:
            Processes.connect(self._environment).kill(thread)
        except RemoteError as error:
            if error.kind != "NoSuchProgram":
                raise

    def wait_program(self, thread: int) -> "Exit":
        """Return how the program of *thread* ended, when it has. Raises NotFound, RemoteError."""
        from servers.process.api import Processes

        return Processes.connect(self._environment).wait(thread)

    def create_thread(self, timeout: float | None = None) -> int:
        """Have another thread made, within *timeout* seconds; return its id. Raises NotFound, RemoteError."""
        from servers.process.api import Processes

        return Processes.connect(self._environment, timeout=timeout).create_thread()

    def switch(self, thread: int) -> None:
        """Give the rest of the slice to *thread*. Raises NotFound, RemoteError."""
        self.scheduler().switch(thread)

    def start_thread(self, pager: "Thread", function: Callable[[int], object], sp: int) -> int:
        """Have *function* run as another thread, which *pager* starts; return its id."""
        from libexo.l4.engine import start

        return start.begin(pager, function, sp)

    def thread_changed(self, upcall: "Upcall") -> None:
        """Note that a thread was activated, changed or deleted."""
        from libexo.l4.engine import start

        start.changed(self._environment, upcall)

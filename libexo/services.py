"""Requests of libexo to servers, in one place, and to the layers above the environment.

Each stub is imported when it is first needed: few programs need all of them.
"""

# ruff: noqa: PLC0415 - see above

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel.abi.gate import Upcall
    from libexo.environment import Environment
    from libexo.ipc.thread import Thread
    from servers.memory.api import Memory


class Servers:
    """The servers, as one environment asks them. Implements `libexo.attachment.Services`."""

    def __init__(self, environment: "Environment") -> None:
        """Ask in the name of *environment*."""
        self._environment = environment

    def memory(self) -> "Memory":
        """Return a stub of the memory server."""
        from servers.memory.api import Memory

        return Memory.connect(self._environment)

    def publish(self, name: str) -> None:
        """Have *name* published for the calling thread. Raises NotFound, RemoteError."""
        from servers.process.api import Processes

        Processes.connect(self._environment).register(name)

    def create_thread(self, timeout: float | None = None) -> int:
        """Have another thread made, within *timeout* seconds; return its id. Raises NotFound, RemoteError."""
        from servers.process.api import Processes

        return Processes.connect(self._environment, timeout=timeout).create_thread()

    def switch(self, thread: int) -> None:
        """Give the rest of the slice to *thread*. Raises NotFound, RemoteError."""
        from servers.scheduler.api import Scheduler

        Scheduler.connect(self._environment).switch(thread)

    def start_thread(self, pager: "Thread", function: Callable[[int], object], sp: int) -> int:
        """Have *function* run as another thread, which *pager* starts; return its id."""
        from libexo.l4.engine import start

        return start.begin(pager, function, sp)

    def thread_changed(self, upcall: "Upcall") -> None:
        """Note that a thread was activated, changed or deleted."""
        from libexo.l4.engine import start

        start.changed(self._environment, upcall)

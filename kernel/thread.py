"""A thread: what sends, and what can be sent to.

Every environment has a first thread, the main thread of its host process, and ends with it. It may have more:
each has a number and bindings of its own, and nothing else of its own. What a thread may do is
what its environment may do, and which of its threads made a trap the kernel does not ask.

An *inactive* thread has a number and a space, and nobody can reach it. It becomes active with its first pager.
"""

from copy import copy
from typing import TYPE_CHECKING

from kernel.abi.ids import NIL_THREAD, ThreadId, show_thread, thread_number
from kernel.abi.kip import ThreadState

if TYPE_CHECKING:
    from kernel.bindings import Binding
    from kernel.environment import Environment


class Thread:
    """One thread of one environment."""

    __slots__ = (
        "active", "arrived", "environment", "id", "incoming", "living", "pager", "row", "scheduler", "told",
        "utcb",
    )  # fmt: skip

    def __init__(self, thread: ThreadId, environment: "Environment") -> None:
        """Make *thread*, inactive, in *environment*; it lives when `Threads.enter` has taken it."""
        self.id = thread
        self.environment = environment
        self.pager = NIL_THREAD
        self.scheduler = NIL_THREAD
        self.utcb = 0
        """Where its UTCB is, so its local id; 0: nowhere yet."""
        self.row = -1
        """Which row of its environment's page says for whom it waits; -1: it is not active."""
        self.living = False
        self.active = False
        self.incoming: dict[bytes, Binding] = {}
        """Who may send to it."""
        self.arrived: dict[bytes, Binding] = {}
        """Those of them that have connected, and were not handed over yet, oldest first."""
        self.told = False
        """It was told that there are such, and has not asked for them since."""

    def __repr__(self) -> str:
        """Show id and environment."""
        return f"<Thread {show_thread(self.id)} of {self.environment.name}>"

    def record(self) -> "Thread":
        """Return what is left of it when it is gone: it is of no environment."""
        left = copy(self)
        del left.environment
        return left

    @property
    def number(self) -> int:
        """Its number, which it keeps when it is renamed."""
        return thread_number(self.id)

    @property
    def state(self) -> ThreadState:
        """What the exposed table shows."""
        return ThreadState.ACTIVE if self.active else ThreadState.INACTIVE

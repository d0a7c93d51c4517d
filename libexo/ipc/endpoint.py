"""What a thread's end of IPC begins with: whose it is, and what the kernel and other threads tell it."""

from collections import Counter, deque
from typing import TYPE_CHECKING

from kernel.abi.gate import Upcall
from libexo.errors import Ended
from libexo.ipc.standing import Row

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.host.base import Waker
    from libexo.transport.base import Source


class Endpoint:
    """One thread's end."""

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Be that of *thread* of *environment*."""
        self.thread = thread
        self.environment = environment
        self.host, self.kip, self.sys = environment.host, environment.kip, environment.sys
        self.now, self.wait = environment.host.now, environment.host.wait
        self.statistics: Counter[str] = Counter()
        """What was thrown away, and why."""
        self.row = Row(environment.page, thread)
        """Where it says for whom it waits."""
        self.waker: Waker | None = None
        """By which other threads of the environment wake this one; while there are none, it has none."""
        self.outside: tuple[Source, ...] = (environment.gate,)
        """What brings news from outside IPC: the gate, and other threads of the environment."""
        self.upcalls: deque[Upcall] = deque()
        """What other threads of the environment took out of the gate for this one."""
        self.ended = False
        """The thread was deleted."""

    def pump_gate(self, *, surely: bool = False) -> None:
        """Take in the upcalls that have arrived, *surely* all of them. Raises GateClosed, Ended."""
        if self.ended:
            raise Ended
        if self.waker is not None:
            self.waker.clear()  # first: what another thread puts there from now on wakes anew
        if arrived := self.environment.gate.upcalls(surely=surely):
            self.environment.on_upcalls(arrived, self)
        while self.upcalls:
            self.upcall(self.upcalls.popleft())

    def upcall(self, upcall: Upcall) -> None:
        """Take in one upcall for this thread."""
        raise NotImplementedError

    def rename(self, thread: int) -> None:
        """Be *thread* from now on: the kernel gave it a new version."""
        self.thread = thread

    def share(self, waker: "Waker") -> None:
        """Be ready for other threads of the environment, which wake this one by *waker*."""
        self.waker = waker
        self.outside = (self.environment.gate, waker)

"""The lowest floor of a thread's rendezvous: its ids, and the news of the kernel and of other threads."""

from collections import Counter, deque
from typing import TYPE_CHECKING

from kernel.abi.gate import Upcall
from libexo.errors import Ended
from libexo.ipc.standing import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libexo.attachment import Attachment
    from libexo.host.base import Waker
    from libexo.transport.base import Source

AT_ONCE = 16
"""How often to look again after an upcall was there: while a pager answers a fault, the next one comes."""


class Endpoint:
    """One thread's end of IPC."""

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Be the end of *thread* of *environment*."""
        self.thread = thread
        self.environment = environment
        self.host, self.kip, self.sys = environment.host, environment.kip, environment.sys
        self.now, self.wait = environment.host.now, environment.host.wait
        self.statistics: Counter[str] = Counter()
        """Counts of what was thrown away, by reason."""
        self.row = Row(environment.page, thread)
        """Its row in the environment page, which says for whom it waits."""
        self.waker: Waker | None = None
        """Wakes this thread, for other threads of the environment; None while it is the only one."""
        self.outside: tuple[Source, ...] = (environment.gate,)
        """Sources of news from outside IPC: the gate, and other threads of the environment."""
        self.upcalls: deque[Upcall] = deque()
        """Upcalls for this thread that other threads took out of the gate."""
        self.ended = False
        """The thread was deleted."""
        self.changes = 0
        """How often something was taken in: see `sleep`."""

    def sleep(self, sources: "Sequence[Source]", until: int | None, changes: int) -> bool:
        """Wait as `Host.wait`, unless something was taken in since *changes* was read, before the last look.

        A signal's handler may take in what the strand that it interrupts waits for: an answer, a partner's end.
        So whatever is taken in, and every wait of a handler, ends the wait of the strand, which then looks again.
        """
        own = self.environment.gate.own
        own.waits += 1
        try:
            return self.changes == changes and self.wait(sources, until)
        finally:
            own.waits -= 1
            if own.waits:
                self.host.nudge()

    def noted(self) -> None:
        """Something was taken in, perhaps for another than who took it."""
        self.changes += 1
        if self.environment.gate.own.waits:
            self.host.nudge()

    def pump_gate(self, *, surely: bool = False) -> None:
        """Take in the upcalls that have arrived, *surely* all of them. Raises GateClosed, Ended."""
        if self.ended:
            raise Ended
        if self.waker is not None:
            self.waker.clear()  # first: what another thread puts there from now on wakes this one again
        environment = self.environment
        for _ in range(AT_ONCE):
            if not (arrived := environment.gate.upcalls(surely=surely)):
                break
            environment.on_upcalls(arrived, self)
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

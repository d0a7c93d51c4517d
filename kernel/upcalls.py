"""Messages of the kernel to environments: through the gate, in order, never waited for."""

from typing import TYPE_CHECKING, Protocol

import msgspec

from kernel.abi.budget import Item
from kernel.abi.events import Event
from kernel.abi.gate import Status, Upcall
from kernel.abi.ids import (
    KERNEL_CPUS,
    KERNEL_ENVIRONMENTS,
    KERNEL_MEMORY,
    KERNEL_THREADS,
    NIL_THREAD,
    ThreadId,
)
from kernel.abi.kip import Counter, Page
from kernel.abi.messages import Label

if TYPE_CHECKING:
    from collections import deque

    from hwmodel.machine import Alarm, Body, Machine
    from kernel.budget import Budget
    from kernel.jobs import Jobs, Steps
    from kernel.kip import Kip
    from kernel.tracing import Trace

RETRY = 5_000_000
"""How often a full gate is tried again, in ns."""

_SENDERS: dict[int, ThreadId] = {
    Label.PARTNER_GONE: KERNEL_THREADS,
    Label.UNBOUND: KERNEL_THREADS,
    Label.THREAD: KERNEL_THREADS,
    Label.BOUND: KERNEL_THREADS,
    Label.DEATH: KERNEL_ENVIRONMENTS,
    Label.SUCCEEDED: KERNEL_ENVIRONMENTS,
    Label.HEARTBEAT: KERNEL_ENVIRONMENTS,
    Label.REVOKE: KERNEL_MEMORY,
    Label.REVOKED: KERNEL_MEMORY,
    Label.MOVED: KERNEL_MEMORY,
    Label.PREEMPTION: KERNEL_CPUS,
    Label.SLICE: KERNEL_CPUS,
}
_PREFIX = bytes([Status.UPCALL])
_ENCODER = msgspec.msgpack.Encoder()


class Told(Protocol):
    """A receiver of upcalls: an environment."""

    number: int
    launched: bool
    body: "Body"
    page: memoryview
    budget: "Budget"
    backlog: "deque[bytes]"
    """Messages its gate could not take yet."""

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""


class Upcalls:
    """Sends upcalls, and keeps those a gate cannot take yet."""

    def __init__(self, machine: "Machine", kip: "Kip", trace: "Trace", jobs: "Jobs") -> None:
        """Start with nothing kept."""
        self._clock, self._kip, self._trace, self._jobs = machine.clock, kip, trace, jobs
        self._full: dict[Told, None] = {}
        self._alarm: Alarm | None = None

    def send(
        self,
        to: Told,
        label: int,
        words: tuple[int, ...],
        text: str = "",
        sender: ThreadId | None = None,
        thread: ThreadId = NIL_THREAD,
    ) -> bool:
        """Send an upcall to *to* or its *thread*, unless it ended or has no program yet. False: it was dropped."""
        if not to.alive or not to.launched:
            return True
        sender = sender if sender is not None else _SENDERS[label]
        data = _PREFIX + _ENCODER.encode(Upcall(sender, int(label), words, text, thread))
        self._kip.count(Counter.UPCALLS)
        if not to.backlog and to.body.port.offer(data):
            return True
        # A thread has at most one BOUND.
        if to.budget.room(Item.UPCALLS) < 1 and label is not Label.BOUND:
            self._kip.count(Counter.UPCALLS_DROPPED)
            self._trace.record(Event.UPCALL_DROPPED, to.number, int(label))
            return False
        to.backlog.append(data)
        to.budget.hold(Item.UPCALLS)
        self._keep(to)
        return True

    def _keep(self, environment: Told) -> None:
        environment.page[Page.PENDING] = len(environment.backlog)
        self._full[environment] = None
        if self._alarm is None:
            self._alarm = self._clock.alarm(self._clock.now() + RETRY, self._retry)

    def _retry(self) -> None:
        self._alarm = None
        waiting, self._full = self._full, {}
        self._jobs.begin(self._send_kept(waiting))

    def _send_kept(self, waiting: dict[Told, None]) -> "Steps[None]":
        """Send those in *waiting* what was kept for them."""
        for environment in waiting:
            while environment.backlog and environment.body.port.offer(environment.backlog[0]):
                environment.backlog.popleft()
                environment.budget.release(Item.UPCALLS)
                yield None
            if environment.backlog:
                self._keep(environment)
            elif environment.alive:
                environment.page[Page.PENDING] = 0
            yield None

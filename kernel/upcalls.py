"""Messages of the kernel to environments: through the gate, in order, never waited for."""

from typing import TYPE_CHECKING

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
    from hwmodel.machine import Alarm
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

RETRY = 5_000_000
"""How often a full gate is tried again, in ns."""

_SENDERS = {
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
}
_PREFIX = bytes([Status.UPCALL])
_ENCODER = msgspec.msgpack.Encoder()


class Upcalls:
    """Sends them, and keeps what a gate cannot take yet."""

    def __init__(self, kernel: "Kernel") -> None:
        """Start with nothing kept."""
        self._kernel = kernel
        self._full: dict[Environment, None] = {}
        self._alarm: Alarm | None = None

    def send(
        self,
        to: "Environment",
        label: Label,
        words: tuple[int, ...],
        text: str = "",
        sender: ThreadId | None = None,
        thread: ThreadId = NIL_THREAD,
    ) -> None:
        """Tell *to*, or its *thread*, something; one that has ended, or has no program yet, is told nothing."""
        if not to.alive or not to.launched:
            return
        sender = sender if sender is not None else _SENDERS[label]
        data = _PREFIX + _ENCODER.encode(Upcall(sender, int(label), words, text, thread))
        self._kernel.count(Counter.UPCALLS)
        if not to.backlog and to.body.port.offer(data):
            return
        if (
            to.budget.room(Item.UPCALLS) < 1 and label is not Label.BOUND
        ):  # of which there is one a thread at most
            self._kernel.count(Counter.UPCALLS_DROPPED)
            self._kernel.trace.record(Event.UPCALL_DROPPED, to.number, int(label))
            return
        to.backlog.append(data)
        to.budget.hold(Item.UPCALLS)
        self._keep(to)

    def _keep(self, environment: "Environment") -> None:
        environment.page[Page.PENDING] = len(environment.backlog)
        self._full[environment] = None
        if self._alarm is None:
            clock = self._kernel.machine.clock
            self._alarm = clock.alarm(clock.now() + RETRY, self._retry)

    def _retry(self) -> None:
        self._alarm = None
        waiting, self._full = self._full, {}
        self._kernel.jobs.begin(self._send_kept(waiting))

    def _send_kept(self, waiting: "dict[Environment, None]") -> "Steps[None]":
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

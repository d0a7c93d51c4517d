"""The scheduler server: holds all processors, hears from the kernel who is ready, and installs plans.

The kernel walks a plan by itself, so this server works only when something changes: a member comes or goes, or
a share is set. Shares are kept in its estate; members are read from the KIP, at the start and after a restart.
"""

from collections.abc import Iterator

import msgspec

from kernel.abi.ids import FIRST_PROGRAM, thread_number
from kernel.abi.kip import EnvironmentState
from kernel.abi.messages import Label, Preemption
from kernel.abi.rights import Kind
from kernel.abi.traps import Slice
from libexo import attach
from libexo.environment import Environment
from libexo.errors import TrapRefused
from libexo.estate import Estate, inherited
from libexo.message import Message
from libexo.stub import serve
from servers.memory.api import Memory
from servers.scheduler.api import Planned, Scheduler
from servers.scheduler.policy import NotAllowed, Policy, RoundRobin, check_share

_SHARES = msgspec.msgpack.Decoder(dict[int, int])


class SchedulerServer(Scheduler):
    """Serves `Scheduler` with one policy for all processors."""

    def __init__(self, environment: Environment, policy: Policy | None = None) -> None:
        """Take the processors, and become their scheduler by installing a first plan."""
        self.environment = environment
        self._policy = policy or RoundRobin()
        self._estate: Estate | None = None
        self._shares = self._inherit_shares()
        self._cpus = {
            inspection.first: handle
            for handle in environment.sys.inventory()
            if (inspection := environment.sys.inspect(handle)).kind == Kind.CPU
        }
        self._plans: dict[int, list[tuple[int, int]]] = {}
        self._replan()

    def set_share(self, thread: int, share: int) -> None:
        """Keep it, and plan anew."""
        if thread != self.call.sender and thread_number(self.call.sender) >= FIRST_PROGRAM:
            raise NotAllowed("a program sets its own share only")
        self._shares[thread] = check_share(share)
        self._keep()
        self._replan()

    def plan(self) -> list[Planned]:
        """Return the plans in force."""
        return [Planned(cpu, *entry) for cpu, plan in self._plans.items() for entry in plan]

    def kernel_message(self, _sender: int, message: Message) -> None:
        """Plan anew when a member came or went; who sleeps the kernel skips by itself."""
        if message.label != Label.PREEMPTION:
            return
        events = set(message.words[::3])
        if events & {Preemption.READY, Preemption.EXIT}:
            self._replan()

    def _replan(self) -> None:
        """Install a plan for the members as the KIP shows them. One that just ended is told about next."""
        for cpu, handle in self._cpus.items():
            plan = self._policy.plan({thread: self._shares.get(thread, 1) for thread in self._members(cpu)})
            try:
                self.environment.sys.plan(handle, [Slice(*entry) for entry in plan])
                self._plans[cpu] = plan
            except TrapRefused:
                continue

    def _members(self, cpu: int) -> Iterator[int]:
        waiting = (EnvironmentState.STARTING, EnvironmentState.DEAD)
        rows = [
            row for row in self.environment.kip.environments() if row.cpu == cpu and row.state not in waiting
        ]
        return (row.thread for row in sorted(rows, key=lambda row: row.started))

    def _inherit_shares(self) -> dict[int, int]:
        handle = inherited(self.environment)
        if not handle:
            return {}
        self._estate = Estate(self.environment.views.map(handle))
        state = self._estate.load()
        return _SHARES.decode(state) if state else {}

    def _keep(self) -> None:
        """Write the shares of the living into the estate, which is made when it is first needed."""
        if self._estate is None:
            extent = Memory.connect(self.environment).allocate(4)
            self._estate = Estate(self.environment.views.map(extent.handle))
        living = {row.thread for row in self.environment.kip.environments()}
        self._shares = {thread: share for thread, share in self._shares.items() if thread in living}
        self._estate.store(msgspec.msgpack.encode(self._shares))


def main() -> None:
    """Serve until the system ends."""
    environment = attach()
    serve(SchedulerServer(environment), environment=environment)

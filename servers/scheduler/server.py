"""The scheduler server: holds all processors, hears from the kernel which members are ready, and installs plans.

The kernel walks a plan by itself, so this server works only when something changes: a member comes, goes, sleeps
or wakes, its settings change, or it may have used up its quantum. Settings are kept in the
estate; members are read from the KIP, at the start and after a restart.

An alarm watches total quanta. A member uses at most a second in a second, so its account is
checked when it could be used up at the earliest, and again while it is not.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.ids import FIRST_PROGRAM, NIL_THREAD, is_interrupt, thread_number
from kernel.abi.kip import EnvironmentState
from kernel.abi.messages import Label, Preemption
from kernel.abi.rights import Kind
from kernel.abi.traps import Slice
from libexo import attach
from libexo.environment import Environment
from libexo.errors import ExoError, TrapRefused
from libexo.estate import Estate, inherited
from libexo.ipc.message import Message
from libexo.kip import EnvironmentRow
from libexo.stub import Server, serve
from servers.memory.api import Memory
from servers.scheduler.api import Planned, Scheduler
from servers.scheduler.checking import Checked
from servers.scheduler.policy import (
    DEFAULT_PRIORITY,
    Candidate,
    NotAllowed,
    Policy,
    RoundRobin,
    Settings,
    check_share,
    divide,
    estate_pages,
    families,
)

if TYPE_CHECKING:
    from servers.scheduler.schedule import Schedule

_SETTINGS = msgspec.msgpack.Decoder(dict[int, Settings])
GRAIN_NS = 500_000
"""The rest of a total quantum that is not worth another check."""


class SchedulerServer(Scheduler):
    """Serves `Scheduler`, and X.2's Schedule, with one policy for all processors."""

    def __init__(self, environment: Environment, policy: Policy | None = None) -> None:
        """Take the processors, and become their scheduler by installing a first plan."""
        self.environment = environment
        self.server = Server(environment, self)
        self._policy = Checked(policy or RoundRobin())
        self._said = ""
        """Why the policy's plans are not in force, as last logged."""
        self._estate: Estate | None = None
        self._prepared = False
        self._settings = self._inherit()
        self._cpus = {
            inspection.first: handle for handle, inspection in environment.sys.holdings(Kind.CPU).items()
        }
        self._plans: dict[int, list[tuple[int, int]]] = {}
        self._grouped = False
        """Some family has several members: then sleeping and waking move time between them."""
        self._due = 0
        """When accounts are checked next; 0: no alarm is set."""
        self._schedule: Schedule | None = None
        self._replan()

    # ------------------------------------------------------------------------------------------- operations

    def set_share(self, thread: int, share: int) -> None:
        """Keep it, and plan again; a server that divides by shares wants no slice length that was set before."""
        target, caller = self.row_of(thread), self.row_of(self.call.sender)
        own = target is not None and caller is not None and target.number == caller.number
        server = self._is_server()
        if not own and not server:
            raise NotAllowed("a program sets its own share only")
        check_share(share)
        name = target.thread if target is not None else thread
        widens = server and self.settings(name).family in (0, name)

        def apply(settings: Settings) -> None:
            settings.share = share
            if server:
                settings.slice_us = 0

        self.change(name, apply, part=share if widens else 0)

    def place(self, thread: int, family: int, part: int, share: int) -> None:
        """Keep it, and plan again."""
        if not self._is_server():
            raise NotAllowed("only the process server may set families")
        check_share(share)

        def apply(settings: Settings) -> None:
            settings.family, settings.share = family, share

        self.change(thread, apply, part=check_share(part))

    def _is_server(self) -> bool:
        return thread_number(self.call.sender) < FIRST_PROGRAM

    def plan(self) -> list[Planned]:
        """Return the plans in force."""
        return [Planned(cpu, *entry) for cpu, plan in self._plans.items() for entry in plan]

    def refused(self) -> str:
        """Return why the policy's plans are not in force."""
        return self._said

    def switch(self, to: int) -> None:
        """Have the kernel do it, if the caller's slice has not ended meanwhile."""
        caller = self.row_of(self.call.sender)
        target = self.row_of(to) if to else None
        if caller is None or caller.cpu < 0 or (target is not None and target.number == caller.number):
            return
        heir = target.thread if target is not None and self._may_inherit(target, caller.cpu) else NIL_THREAD
        with suppress(TrapRefused):  # one of them ended meanwhile
            self.environment.sys.thread_switch(self._cpus[caller.cpu], heir, 0, caller.thread)

    def foreign_message(self, sender: int, message: Message) -> Message | None:
        """Answer X.2's Schedule; None: it is not that, either."""
        if self._schedule is None:
            from servers.scheduler.schedule import Schedule  # noqa: PLC0415 - few systems have X.2 programs

            self._schedule = Schedule(self)
        return self._schedule.answer(sender, message)

    def kernel_message(self, _sender: int, message: Message) -> None:
        """Plan again when a member came or went; when one fell asleep, only if that brings others into the plan."""
        if message.label == Label.PREEMPTION:
            events = set(message.words[::3])
            surely = bool(events & {Preemption.READY, Preemption.EXIT})
            if (
                surely
                or self._grouped
                or any(said.priority != DEFAULT_PRIORITY for said in self._settings.values())
            ):
                self._replan(surely=surely)

    # -------------------------------------------------------------------------------- for Schedule

    @property
    def processors(self) -> int:
        """The number of processors."""
        return len(self._cpus)

    def row_of(self, thread: int) -> EnvironmentRow | None:
        """Return the environment of *thread*, any of its threads."""
        kip = self.environment.kip
        found, row = kip.environment_of(thread), kip.thread(thread)
        if found is not None or row is None:
            return found
        return next((each for each in kip.environments() if each.number == row.environment), None)

    def settings(self, thread: int) -> Settings:
        """Return the settings of the environment of first thread *thread*."""
        return self._settings.get(thread) or Settings()

    def planned(self, thread: int) -> int:
        """Return the length of the slices of *thread*, in microseconds; 0: it has none."""
        return next((length for plan in self._plans.values() for each, length in plan if each == thread), 0)

    def change(self, thread: int, apply: Callable[[Settings], None], part: int = 0) -> None:
        """Change the settings of *thread*, keep them, and plan again. Raises ExoError: nothing is changed.

        With *part*, set the family's parts of the processor, too.
        """
        changed = msgspec.structs.replace(self.settings(thread))
        apply(changed)
        kip = self.environment.kip
        living = {
            t: said for t, said in self._settings.items() if is_interrupt(t) or kip.thread(t) is not None
        }
        all_settings = living | {thread: changed}
        if part:
            family = changed.family or thread
            for each, said in all_settings.items():
                if (said.family or each) == family:
                    all_settings[each] = msgspec.structs.replace(said, part=part)
        self._keep(all_settings)
        self._settings = all_settings
        self._replan()

    def migrate(self, thread: int, processor: int) -> None:
        """Move the environment of *thread* under *processor*. Raises TrapRefused."""
        self.environment.sys.migrate(self._cpus[processor], thread)

    def look(self) -> None:
        """Bring the accounts of running members up to date: the kernel shows them with every plan."""
        for cpu, plan in self._plans.items():
            self._install(cpu, plan)

    # ------------------------------------------------------------------------------------------------ plans

    def _replan(self, *, surely: bool = True) -> None:
        """Install plans for the members as the KIP shows them; *surely* even if they are the same as before."""
        self._grouped, members = False, self._members()
        if self._estate is None and not self._prepared and any(members.values()):
            self._prepare_estate()
        refused = ""
        for cpu, rows in members.items():
            candidates = [self._candidate(row) for row in rows]
            self._grouped |= len(families(candidates)) < len(candidates)
            plan = divide(self._policy, candidates)
            refused = refused or self._policy.refused
            if surely or plan != self._plans.get(cpu):
                self._install(cpu, plan)
        self._say(refused)
        if any(said.quantum_us is not None and not said.expired for said in self._settings.values()):
            self._set_alarm()

    def _say(self, refused: str) -> None:
        """Log a change: the policy's plans are refused, or in force again."""
        if refused == self._said:
            return
        self._said = refused
        if refused:
            print(f"{self._policy.traceback}plan refused: {refused}; round robin instead", file=sys.stderr)
        else:
            print("the policy's plans are in force again", file=sys.stderr)

    def _install(self, cpu: int, plan: list[tuple[int, int]]) -> None:
        """Install *plan*. If a member of it just ended, the kernel tells that next."""
        try:
            self.environment.sys.plan(self._cpus[cpu], [Slice(*entry) for entry in plan])
        except TrapRefused as refused:
            if refused.refusal not in (Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD):
                print(f"the kernel refuses the plan of processor {cpu}: {refused}", file=sys.stderr)
        else:
            self._plans[cpu] = plan

    def _members(self) -> dict[int, list[EnvironmentRow]]:
        """Return the members of every processor, oldest first."""
        waiting = (EnvironmentState.STARTING, EnvironmentState.DEAD)
        members: dict[int, list[EnvironmentRow]] = {cpu: [] for cpu in self._cpus}
        for row in sorted(self.environment.kip.environments(), key=lambda row: row.started):
            if row.cpu in members and row.state not in waiting:
                members[row.cpu].append(row)
        return members

    def _candidate(self, row: EnvironmentRow) -> Candidate:
        settings = self.settings(row.thread)
        if not settings.expired and settings.left(row.consumed) == 0:
            self._expire(row, settings)
        return Candidate(row.thread, settings, row.state == EnvironmentState.BLOCKED)

    def _may_inherit(self, target: EnvironmentRow, cpu: int) -> bool:
        awake = target.state in (EnvironmentState.READY, EnvironmentState.RUNNING)
        return target.cpu == cpu and awake and not self.settings(target.thread).expired

    # ----------------------------------------------------------------------------------------------- quanta

    def _expire(self, row: EnvironmentRow, settings: Settings) -> None:
        """Note that a quantum is used up: no slices until another Schedule, and its scheduler is told."""
        settings.expired = True
        with suppress(ExoError):  # being told twice is the smaller harm
            self._keep(self._settings)
        with suppress(TrapRefused):  # it ended meanwhile
            self.environment.sys.expire(self._cpus[row.cpu], row.thread)

    def _set_alarm(self) -> None:
        """Set an alarm for when the first account, as of the plans just installed, can be used up."""
        left = []
        for row in chain.from_iterable(self._members().values()):
            settings = self.settings(row.thread)
            rest = settings.left(row.consumed)
            if rest is not None and not settings.expired:
                left.append(rest)
        if not left:
            return
        now = self.environment.host.now()
        due = now + max(min(left), GRAIN_NS)
        if not now < self._due <= due:
            self._due = due
            self.server.after(max(0, due - now) / 1e9, lambda: self._look_at_accounts(due))

    def _look_at_accounts(self, due: int) -> None:
        if due == self._due:  # otherwise an earlier alarm replaced this one
            self._due = 0
            self.look()
            self._replan(surely=False)

    # ----------------------------------------------------------------------------------------------- estate

    def _inherit(self) -> dict[int, Settings]:
        handle = inherited(self.environment)
        if not handle:
            return {}
        self._estate = Estate(self.environment.views.map(handle))
        state = self._estate.load()
        return _SETTINGS.decode(state) if state else {}

    def _make_estate(self, memory: Memory) -> Estate:
        return Estate(self.environment.views.map(memory.allocate(estate_pages(len(self._cpus))).handle))

    def _prepare_estate(self) -> None:
        """Make one before there is anything to keep, so that free memory does not depend on what programs do."""
        self._prepared = True
        with suppress(ExoError):
            self._estate = self._make_estate(Memory.connect(self.environment, timeout=1, patience=0))

    def _keep(self, all_settings: dict[int, Settings]) -> None:
        """Write the settings into the estate, which is made when it is first needed. Raises ExoError."""
        if self._estate is None:
            self._estate = self._make_estate(Memory.connect(self.environment))
        self._estate.store(msgspec.msgpack.encode(all_settings))


def main() -> None:
    """Serve until the system ends."""
    environment = attach()
    serve(SchedulerServer(environment), environment=environment)

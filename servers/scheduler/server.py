"""The scheduler server: holds all processors, hears from the kernel which members are ready, and installs plans.

The kernel walks a plan by itself, so this server works only when something changes: a member comes, goes, sleeps
or wakes, its settings change, or it may have used up its quantum; and when its policy wants to be asked again.
Settings, parameters and the choice of the policy are kept in the estate; members are read from the KIP, at the
start and after a restart.

An alarm watches total quanta. A member uses at most a second in a second, so its account is
checked when it could be used up at the earliest, and again while it is not.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.ids import FIRST_PROGRAM, NIL_THREAD, is_interrupt, show_thread, thread_number
from kernel.abi.kip import EnvironmentState
from kernel.abi.messages import Label, Preemption
from kernel.abi.rights import Kind
from kernel.abi.traps import How, Slice
from libexo import attach
from libexo.environment import Environment
from libexo.errors import ExoError, TooSlow, TrapRefused
from libexo.ipc.message import Message
from libexo.kip import EnvironmentRow
from libexo.sched import Parameter, Plan, Policy
from libexo.stub import DEFERRED, Server, serve
from servers.scheduler import choice as choices
from servers.scheduler.accounts import Accounts, Reading
from servers.scheduler.api import Choice, Planned, Slices
from servers.scheduler.checking import PATIENCE, BadPlan, Checked
from servers.scheduler.explaining import Explaining, Explanations
from servers.scheduler.hearing import hear
from servers.scheduler.inside import Inside
from servers.scheduler.keeping import Kept
from servers.scheduler.members import members
from servers.scheduler.parameters import changed
from servers.scheduler.policy import Candidate, divide
from servers.scheduler.removals import Homes, Removals
from servers.scheduler.reservations import Reservations, Reserving
from servers.scheduler.settings import NotAllowed, PolicyRefused, Said, Settings, State, check_share
from servers.scheduler.unfinished import Unfinished

if TYPE_CHECKING:
    from servers.scheduler.schedule import Schedule

GRAIN_NS = 500_000
"""The rest of a total quantum that is not worth another check."""
AFFIRM_NS = 400_000_000
"""How often a plan that leaves out somebody is sent again, so that the kernel knows that it is meant."""


class SchedulerServer(Reserving, Explaining):
    """Serves `Scheduler`, and X.2's Schedule, with one policy for all processors."""

    def __init__(self, environment: Environment, policy: Policy | None = None) -> None:
        """Take the processors, and become their scheduler by installing a first plan.

        Without a *policy*, it is what an operator chose (`use`), or round robin.
        """
        self.environment = environment
        self.server = Server(environment, self)
        self._logged = ""
        """Why the policy's plans are not in force, as last logged."""
        self._kept = Kept(environment)
        self._state = self._kept.state
        self.accounts = Accounts()
        self._policy = Checked(policy or self._chosen(), limit=environment.host.limited)
        self._cpus = {
            inspection.first: handle for handle, inspection in environment.sys.holdings(Kind.CPU).items()
        }
        self.reservations = Reservations(environment, self._cpus)
        self.removals = Removals(
            environment.kip, self._cpus, self.migrate, self._state.homes, self._keep_homes, self.log
        )
        self.waits: dict[int, int] = {}
        self._plans: dict[int, Plan] = {}
        self.unfinished = Unfinished()
        self.explanations = Explanations(environment, self.server)
        self.inside = Inside(self)
        self._due = 0
        """When accounts are checked next, or the policy is asked; 0: no alarm is set."""
        self._leaves_out = False  # somebody who is awake, from the plans
        self._schedule: Schedule | None = None
        self.removals.settle()
        self._replan()

    # ------------------------------------------------------------------------------------------- operations

    def set_share(self, thread: int, share: int) -> None:
        """Keep it, and plan again; a server that divides by shares wants no slice length that was set before."""
        target, caller = self.row_of(thread), self.row_of(self.call.sender)
        own = target is not None and caller is not None and target.number == caller.number
        server = self.commands()
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
        if thread_number(self.call.sender) >= FIRST_PROGRAM:
            raise NotAllowed("only the process server may set families")
        check_share(share)

        def apply(settings: Settings) -> None:
            settings.family, settings.share = family, share

        self.change(thread, apply, part=check_share(part))

    def commands(self) -> bool:
        """Say whether the caller is a server or an operator."""
        caller = self.row_of(self.call.sender)
        is_server = thread_number(self.call.sender) < FIRST_PROGRAM
        return is_server or (caller is not None and not caller.family)

    def plan(self) -> list[Planned]:
        """Return the plans in force."""
        return [Planned(cpu, *entry) for cpu, plan in self._plans.items() for entry in plan.slices]

    def refused(self) -> str:
        """Return why the policy's plans are not in force."""
        why = self._policy.refused
        return f"{why}; {self._policy.instead} is in force instead" if why else ""

    def use(self, choice: Choice) -> None:
        """Make it, try it, keep it, and plan by it."""
        if not self.commands():
            raise NotAllowed("only servers and operators choose the policy")
        tried = Checked(self._make(choice), self._policy.policy, self.environment.host.limited)
        self._try(tried, self._state.said)
        self._keep(msgspec.structs.replace(self._state, choice=choice))
        self._policy = tried
        self.log(f"policy {choice} is in force")
        self._replan()

    def in_force(self) -> Choice:
        """Return which it is."""
        choice = self._state.choice
        return choice if self.commands() else msgspec.structs.replace(choice, source="")

    def set(self, thread: int, parameters: dict[str, Parameter]) -> None:
        """Try the policy with them, keep them, and plan again."""
        family, commands = self._family_of(thread), self.commands()
        if not commands and family != self._family_of(self.call.sender):
            raise NotAllowed("a program declares parameters of its own family only")
        living = {each: said for each, said in self._state.said.items() if self.accounts.knows(each)}
        said = changed(living, family, parameters, declared=not commands)
        self._try(self._policy, said)
        self._keep(msgspec.structs.replace(self._state, said=said))
        self._replan()

    def said(self, thread: int) -> dict[str, Parameter]:
        """Return what was said, an operator's word first."""
        said = self._state.said.get(self._family_of(thread), Said())
        return {**said.declared, **said.parameters}

    def policies(self) -> dict[str, str]:
        """Return what there is."""
        return choices.known()

    def _family_of(self, thread: int) -> int:
        row = self.row_of(thread)
        if row is None or row.cpu not in self._cpus:
            raise NotAllowed(f"no program under a processor has thread {show_thread(thread)}")
        return self.settings(row.thread).family or row.thread

    def divide(self, slices: Slices) -> None:
        """Keep it until its author ends, and plan again when it is due."""
        self.inside.divide(self.call.sender, slices)
        self._set_alarm(self.environment.host.now())

    def changed(self, seen: int, microseconds: int) -> int:
        """Answer when something has changed, or it is due."""
        self.inside.changed(self.call, seen, microseconds)
        self._set_alarm(self.environment.host.now())
        later: int = DEFERRED
        return later

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
        """Plan again: a member came, went, fell asleep or woke."""
        if message.label != Label.PREEMPTION:
            return
        kinds, woke = hear(self, message.words)
        if kinds or any(plan.at_ends for plan in self._plans.values()):
            planned = {thread for slices in self.unfinished.installed.values() for thread, _ in slices}
            self._replan(surely=bool(woke - planned) or Preemption.EXIT in kinds)

    def log(self, line: str) -> None:
        """Write *line* for people."""
        print(line, file=sys.stderr)

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
        return self._state.settings.get(thread) or Settings()

    def planned(self, thread: int) -> int:
        """Return the length of the slices of *thread*, in microseconds; 0: it has none."""
        slices = (each for plan in self._plans.values() for each in plan.slices)
        return next((length for each, length in slices if each == thread), 0)

    def change(self, thread: int, apply: Callable[[Settings], None], part: int = 0) -> None:
        """Change the settings of *thread*, keep them, and plan again. Raises ExoError: nothing is changed.

        With *part*, set the family's parts of the processor, too.
        """
        changed = msgspec.structs.replace(self.settings(thread))
        apply(changed)
        kip = self.environment.kip
        living = {
            t: said
            for t, said in self._state.settings.items()
            if is_interrupt(t) or kip.thread(t) is not None
        }
        all_settings = living | {thread: changed}
        if part:
            family = changed.family or thread
            for each, said in all_settings.items():
                if (said.family or each) == family:
                    all_settings[each] = msgspec.structs.replace(said, part=part)
        self._keep(msgspec.structs.replace(self._state, settings=all_settings))
        self._replan()

    def migrate(self, thread: int, processor: int) -> None:
        """Move the environment of *thread* under *processor*. Raises TrapRefused."""
        self.environment.sys.migrate(self._cpus[processor], thread)

    def look(self) -> None:
        """Bring the accounts of running members up to date: the kernel shows them with every plan."""
        shown = self.environment.kip.plans()
        self.unfinished.read(shown, members(self.environment.kip, self._cpus))
        for cpu, slices in self.unfinished.installed.items():
            begun = 0 if self._plans[cpu].again else shown[cpu].begun
            self._write(cpu, [*slices[begun:], *slices[:begun]], How.ENDS * self._plans[cpu].at_ends)

    # ------------------------------------------------------------------------------------------------ plans

    def _replan(self, *, surely: bool = True) -> None:
        """Install plans for the members as the KIP shows them; *surely* even if they are the same as before."""
        rows = members(self.environment.kip, self._cpus)
        if any(rows.values()):
            self._kept.prepare(len(self._cpus))
        refused, now, self._leaves_out = "", self.environment.host.now(), False
        found = self._candidates(rows, now)
        self.accounts.leave(self.unfinished.read(self.environment.kip.plans(), rows))
        self.inside.update(found, now)
        for cpu, candidates in found.items():
            walks = self.inside.walks(cpu, candidates, self.accounts, now)
            rest = self.inside.rest(cpu, rows[cpu]) if walks else (0, 0)
            plan = divide(self._policy.plan, candidates, self.accounts, self._state.said, now, walks, rest)
            refused = refused or self._policy.refused
            planned = {thread for thread, _ in plan.slices}
            self._leaves_out |= any(not each.asleep and each.thread not in planned for each in candidates)
            if surely or plan.now or cpu not in self._plans or plan.slices != self._plans[cpu].slices:
                self._install(cpu, plan, turned=rest[0] in walks)
            else:
                self._plans[cpu] = plan
        self._log(refused)
        self._set_alarm(now)

    def _try(self, policy: Checked, said: Mapping[int, Said]) -> None:
        """Ask *policy* for a plan as all is now. Raises PolicyRefused: it has none."""
        now = self.environment.host.now()
        try:
            for candidates in self._candidates(members(self.environment.kip, self._cpus), now).values():
                divide(policy.ask, candidates, self.accounts, said, now)
        except BadPlan as bad:
            self.log(f"{policy.traceback}refused: {bad}")
            raise PolicyRefused(str(bad)) from None

    def _candidates(
        self, rows: Mapping[int, Sequence[EnvironmentRow]], now: int
    ) -> dict[int, list[Candidate]]:
        """Return what can be planned of each processor, and take in what all used."""
        candidates = {cpu: [self._candidate(row) for row in under] for cpu, under in rows.items()}
        self.accounts.read(
            (
                Reading(each.thread, each.family, each.asleep, row.consumed)
                for cpu, under in rows.items()
                for each, row in zip(candidates[cpu], under, strict=True)
            ),
            now,
        )
        return candidates

    def _log(self, refused: str) -> None:
        """Log a change: the policy's plans are refused, or in force again."""
        if refused == self._logged:
            return
        self._logged = refused
        if refused:
            self.log(f"{self._policy.traceback}plan refused: {refused}; {self._policy.instead} instead")
        else:
            self.log("the policy's plans are in force again")

    def _install(self, cpu: int, plan: Plan, *, turned: bool = False) -> None:
        """Install *plan*, as it is if it was *turned*. If a member of it just ended, the kernel tells that next."""
        as_it_is = plan.again or plan.now or turned
        slices = plan.slices if as_it_is else self._continued(cpu, plan.slices)
        if self._write(cpu, slices, How.NOW * plan.now | How.ENDS * plan.at_ends):
            self._plans[cpu] = plan

    def _write(self, cpu: int, slices: Sequence[tuple[int, int]], how: int) -> bool:
        try:
            self.environment.sys.plan(self._cpus[cpu], [Slice(*entry) for entry in slices], how)
        except TrapRefused as refused:
            if refused.refusal not in (Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD):
                self.log(f"the kernel refuses the plan of processor {cpu}: {refused}")
            return False
        self.unfinished.install(cpu, slices)
        return True

    def _continued(self, cpu: int, slices: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Begin a plan without end behind who runs: who comes first in it has no more for being planned often."""
        kip = self.environment.kip
        now = kip.plans()[cpu]
        number = now.running if now.interrupted < 0 else now.interrupted
        runs = {row.thread for row in kip.environments() if row.number == number}
        at = next((at for at, (thread, _) in enumerate(slices, 1) if thread in runs), 0)
        return [*slices[at:], *slices[:at]]

    def _candidate(self, row: EnvironmentRow) -> Candidate:
        settings = self.settings(row.thread)
        if not settings.expired and settings.left(row.consumed) == 0:
            self._expire(row, settings)
        return Candidate(
            row.thread,
            settings,
            row.state == EnvironmentState.BLOCKED,
            row.name,
            row.cpu,
            self.waits.get(row.thread, 0),
        )

    def _may_inherit(self, target: EnvironmentRow, cpu: int) -> bool:
        awake = target.state in (EnvironmentState.READY, EnvironmentState.RUNNING)
        return target.cpu == cpu and awake and not self.settings(target.thread).expired

    # ----------------------------------------------------------------------------------------------- quanta

    def _expire(self, row: EnvironmentRow, settings: Settings) -> None:
        """Note that a quantum is used up: no slices until another Schedule, and its scheduler is told."""
        settings.expired = True
        with suppress(ExoError):  # being told twice is the smaller harm
            self._keep(self._state)
        with suppress(TrapRefused):  # it ended meanwhile
            self.environment.sys.expire(self._cpus[row.cpu], row.thread)

    def _set_alarm(self, now: int) -> None:
        """Set an alarm for when the policy wants to be asked, or the first account of a quantum can be used up."""
        asked = [now + plan.again * 1000 for plan in self._plans.values() if plan.again]
        asked += self.inside.due()
        rests = [now + max(rest, GRAIN_NS) for rest in self._rests()]
        due = min(asked + rests + [now + AFFIRM_NS] * self._leaves_out, default=0)
        if due and not now < self._due <= due:
            self._due = due
            self.server.after(max(0, due - now) / 1e9, lambda: self._strike(due))

    def _rests(self) -> Iterator[int]:
        """Yield how much each member with a total quantum may still use, in ns, by the plans just installed."""
        if any(said.quantum_us is not None and not said.expired for said in self._state.settings.values()):
            for row in chain.from_iterable(members(self.environment.kip, self._cpus).values()):
                settings = self.settings(row.thread)
                rest = settings.left(row.consumed)
                if rest is not None and not settings.expired:
                    yield rest

    def _strike(self, due: int) -> None:
        if due == self._due:  # otherwise an earlier alarm replaced this one
            self._due = 0
            self.look()
            self._replan(surely=False)

    # ----------------------------------------------------------------------------------------------- estate

    def _chosen(self) -> Policy:
        """Return the policy that was in force when the server before this one ended."""
        choice = self._state.choice
        try:
            return self._make(choice)
        except PolicyRefused as refused:  # it is another version's, perhaps
            self.log(f"policy {choice} is not in force again: {refused}; round robin instead")
            self._state = msgspec.structs.replace(self._state, choice=Choice())
            return choices.make(Choice())

    def _make(self, choice: Choice) -> Policy:
        try:
            return self.environment.host.limited(lambda: choices.make(choice), PATIENCE)
        except TooSlow as slow:
            raise PolicyRefused(f"{choice} {slow}") from None

    def _keep_homes(self, homes: Homes) -> None:
        self._keep(msgspec.structs.replace(self._state, homes=dict(homes)))

    def _keep(self, state: State) -> None:
        """Keep *state*, and go by it. Raises ExoError."""
        self._kept.store(state, len(self._cpus))
        self._state = state


def main() -> None:
    """Serve until the system ends."""
    environment = attach()
    serve(SchedulerServer(environment), environment=environment)

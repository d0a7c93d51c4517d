"""A program that schedules its own descendants, with a policy of its own: `libexo.sched`, one level further in.

    inside = Inside(env, Stride())
    inside.set(child, weight=3)
    inside.run()            # until the last descendant is gone; perhaps in a thread

The classes that divide a processor among families (`libexo.sched`) divide a family's part among its members, as
they are: what they are told and what they answer is the same. The members are the descendants under a processor,
a policy is asked for each processor, and what it says holds for what the family is given there. Others have neither
more nor less for it, whatever it says. A running slice is finished first: `Plan.now` says nothing here.

For the first program of a family: one that an operator started. While it is awake itself it has a quarter of that.
When it ends, its descendants divide by their shares, as they do without.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.kip import EnvironmentState
from libexo.errors import ExoError, RemoteError
from libexo.sched import MAX_SLICE_US, Member, Parameter, Plan, Policy

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow


class Inside:
    """The division of one family by a policy."""

    def __init__(self, environment: "Environment", policy: Policy) -> None:
        """Ask *policy*. Raises ExoError: the program is not the first of a family."""
        self.policy = policy
        """It may be replaced at any time, and is asked when something changes next, or its own time is over."""
        self._environment = environment
        self._scheduler = environment.services.scheduler()
        own = environment.kip.environment_of(environment.first)
        if own is None or not own.is_first:
            raise ExoError(
                "only the first program of a family divides its part: one that an operator started"
            )
        self._family = own.family
        self._said: dict[int, tuple[int, dict[str, Parameter]]] = {}
        """Weight and parameters of each."""
        self._states: dict[int, tuple[bool, int]] = {}
        """Whether each sleeps, and since when."""
        self._seen = 0

    def set(self, thread: int, weight: int = 1, **parameters: Parameter) -> None:
        """Say to the policy what it should know of the program of *thread*, in place of what was said."""
        self._said[thread] = weight, parameters

    def members(self) -> dict[int, list[Member]]:
        """Return the descendants under each processor, oldest first."""
        now, states = self._environment.host.now(), self._states
        rows = sorted(self._rows(), key=lambda row: row.started)
        self._states, found = {}, dict[int, list[Member]]()
        for row in rows:
            if row.state is EnvironmentState.STARTING:
                continue
            asleep = row.state is EnvironmentState.BLOCKED
            before = states.get(row.thread)
            state = before if before is not None and before[0] == asleep else (asleep, now)
            self._states[row.thread] = state
            found.setdefault(row.cpu, []).append(self._member(row, *state))
        living = {row.thread for row in rows}
        self._said = {thread: said for thread, said in self._said.items() if thread in living}
        return found

    def _rows(self) -> "list[EnvironmentRow]":
        return [
            row
            for row in self._environment.kip.environments()
            if row.family == self._family
            and row.cpu >= 0
            and row.state is not EnvironmentState.DEAD
            and row.number != self._environment.number
        ]

    def _member(self, row: "EnvironmentRow", asleep: bool, since: int) -> Member:  # noqa: FBT001 - a Member's
        weight, said = self._said.get(row.thread, (1, {}))
        used = row.consumed
        return Member(row.thread, row.name, weight, asleep, since, used, said, processor=row.cpu)

    def plan(self) -> Plan | None:
        """Ask the policy, and have its plan put in force; None: there is no descendant left.

        Raises what the policy raises, and RemoteError: BadDivision, for a plan that is none.
        """
        members = self.members()
        if not members and not self._rows():
            return None
        now = self._environment.host.now()
        plans = [self.policy.plan(found, now) for found in members.values()]
        slices = [each for plan in plans for each in plan.slices]
        again = min((plan.again for plan in plans if plan.again), default=0)
        self._scheduler.divide(slices)
        return Plan(slices, again)

    def wait(self, plan: Plan) -> None:
        """Wait until a descendant came, went, fell asleep or woke since the last time, or until *plan* says so."""
        self._seen = self._scheduler.changed(self._seen, plan.again or MAX_SLICE_US)

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Divide until no descendant is left, or while it *goes_on*; then all divide by their shares again."""
        try:
            while goes_on():
                plan = self._plan_of_living()
                if plan is None:
                    return
                self.wait(plan)
        finally:
            self._scheduler.divide([])

    def _plan_of_living(self) -> Plan | None:
        """Plan, once more if a descendant ended meanwhile."""
        before = self._states.keys()
        try:
            return self.plan()
        except RemoteError as error:
            if error.kind != "BadDivision" or before == self.members().keys():
                raise
            return self.plan()

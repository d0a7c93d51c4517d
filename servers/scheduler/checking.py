"""Plans of policies, checked: a plan that the kernel would refuse is refused where its author finds it."""

import traceback
from collections.abc import Callable, Collection, Sequence
from typing import Any

from kernel.abi.ids import show_thread
from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from libexo.errors import TooSlow
from libexo.sched import STARVED, Member, Plan, Policy
from servers.scheduler.policies import POLICIES, RoundRobin

Limit = Callable[[Callable[[], Any], float], Any]
"""Calls a policy, for some seconds at most; raises TooSlow when it takes longer: see `Host.limited`."""
PATIENCE = 0.05
"""Seconds of CPU time a policy may take for a plan, or to be made: nobody is served meanwhile."""


class BadPlan(Exception):
    """A policy's plan is invalid; the text names the policy, the place, and the reason."""


class Checked:
    """Any policy, checked. While its plans are invalid, what was in force before is in force instead."""

    def __init__(
        self, policy: Policy, before: Policy | None = None, limit: Limit = lambda does, _seconds: does()
    ) -> None:
        """Ask *policy*, within the *limit*, and otherwise *before*: round robin, if there was none."""
        self.policy = policy
        self._before = before or RoundRobin()
        self.instead = _name(self._before)
        """What is in force while its plans are refused."""
        self._limit = limit
        self._out: dict[int, int] = {}
        """Since when those that are awake have no slice in its plans."""
        self.refused = ""
        """Why its last plan was refused; empty: it was not."""
        self.traceback = ""
        """The traceback, if the policy raised."""

    def plan(self, members: Sequence[Member], now: int) -> Plan:
        """Return the policy's plan if that is valid, and another otherwise: it has slices, if there are members."""
        self.traceback = ""
        try:
            plan = self.ask(members, now)
            self._check_starved(plan, members, now)
        except BadPlan as bad:
            self.refused = str(bad)
            return self._instead(members, now)
        self.refused = ""
        return plan if plan.slices else RoundRobin().plan(members, now)

    def _check_starved(self, plan: Plan, members: Sequence[Member], now: int) -> None:
        """Raise BadPlan when *plan*, as those before it for too long, leaves out somebody who is awake."""
        planned = {thread for thread, _ in plan.slices}
        left_out = [each for each in members if not each.asleep and each.thread not in planned]
        self._out = {each.thread: self._out.get(each.thread, now) for each in left_out}
        policy = _single(self.policy)
        if getattr(policy, "starves", False) or type(policy) in POLICIES.values():
            return  # ours leave out nobody but whom they are told to, by weights, priorities or deadlines
        for each in left_out:
            if now - self._out[each.thread] > STARVED:
                raise BadPlan(
                    f"{_place(self.policy)}: it has given {each.name} no slice for 2 s, which is awake"
                )

    def _instead(self, members: Sequence[Member], now: int) -> Plan:
        try:
            plan = Checked(self._before, limit=self._limit).ask(members, now)
        except BadPlan:
            plan = Plan([])
        return plan if plan.slices else RoundRobin().plan(members, now)

    def ask(self, members: Sequence[Member], now: int) -> Plan:
        """Return the plan of the policy. Raises BadPlan."""
        policy = self.policy
        try:
            return check(self._limit(lambda: policy.plan(list(members), now), PATIENCE), members)
        except BadPlan as bad:
            raise BadPlan(f"{_place(policy)}: {bad}") from None
        except TooSlow as slow:
            self.policy = self._before  # each try would take as long
            raise BadPlan(f"{_place(policy)} {slow}; it is asked no more") from None
        except Exception as error:  # noqa: BLE001 - a policy may be any code
            self.traceback = "".join(traceback.format_exception(error, limit=-8))
            raise BadPlan(f"{_place(policy)} raised {type(error).__name__}: {error}") from None


def check(plan: Any, members: Collection[Member]) -> Plan:  # noqa: ANN401 - whatever it is
    """Return *plan* if it is valid for *members*. Raises BadPlan."""
    if not isinstance(plan, Plan):
        raise BadPlan(f"it returns a Plan of (thread, microseconds), not {plan!r:.100}")
    slices: Any = plan.slices
    again: Any = plan.again
    if not isinstance(slices, Sequence) or isinstance(slices, str | bytes):
        raise BadPlan(f"the slices of a plan are a list of (thread, microseconds), not {slices!r:.100}")
    if not slices and not all(each.asleep for each in members):
        raise BadPlan("the plan is empty, and nothing would run")
    if len(slices) > MAX_SLICES:
        raise BadPlan(f"the plan has {len(slices)} slices, at most {MAX_SLICES} fit")
    if type(again) is not int or (again and not MIN_SLICE_US <= again <= MAX_SLICE_US):
        raise BadPlan(
            f"it is asked again after 0, or {MIN_SLICE_US} to {MAX_SLICE_US} us, not {again!r:.100}"
        )
    if type(plan.now) is not bool:
        raise BadPlan(f"a running slice ends now or not: True or False, not {plan.now!r:.100}")
    if type(plan.at_ends) is not bool:
        raise BadPlan(f"it is asked at the ends of slices or not: True or False, not {plan.at_ends!r:.100}")
    threads = {each.thread for each in members}
    return Plan([_slice(each, threads) for each in slices], again, plan.now, plan.at_ends)


def _slice(each: Any, threads: Collection[int]) -> tuple[int, int]:  # noqa: ANN401 - whatever it is
    if not isinstance(each, Sequence) or len(each) != 2 or not all(type(part) is int for part in each):  # noqa: PLR2004
        raise BadPlan(f"a slice is (thread, microseconds), two whole numbers, not {each!r:.100}")
    thread, length = each
    if thread not in threads:
        raise BadPlan(f"it gives a slice to {thread}, which is not among the members it was asked to plan")
    if not MIN_SLICE_US <= length <= MAX_SLICE_US:
        raise BadPlan(
            f"it gives {show_thread(thread)} a slice of {length} us, not {MIN_SLICE_US} to {MAX_SLICE_US}"
        )
    return thread, length


def _single(policy: Policy) -> Policy:
    """Return *policy*, or the first of one for each processor."""
    single: Policy = getattr(policy, "first", policy)
    return single


def _place(policy: Policy) -> str:
    """Return the name of the policy's `plan`, and its place in the source."""
    policy = _single(policy)
    name = f"{type(policy).__name__}.plan"
    code = getattr(getattr(policy, "plan", None), "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name


def _name(policy: Policy) -> str:
    return str(getattr(policy, "name", type(policy).__name__))

"""Plans of policies, checked: a plan that the kernel would refuse is refused where its author finds it."""

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from kernel.abi.ids import show_thread
from kernel.abi.limits import MAX_SLICE_US, MAX_SLICES, MIN_SLICE_US
from servers.scheduler.policy import Policy, RoundRobin


class BadPlan(Exception):
    """A policy's plan is invalid; the text names the policy, the place, and the reason."""


class Checked:
    """Any policy, checked. While its plans are invalid, round robin is in force instead."""

    def __init__(self, policy: Policy) -> None:
        """Ask *policy*."""
        self._policy = policy
        self.refused = ""
        """Why its last plan was refused; empty: it was not."""
        self.traceback = ""
        """The traceback, if the policy raised."""

    def plan(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return the policy's plan if that is valid, and round robin otherwise."""
        self.traceback = ""
        try:
            plan = self._ask(shares)
        except BadPlan as bad:
            self.refused = str(bad)
            return RoundRobin().plan(shares)
        self.refused = ""
        return plan

    def _ask(self, shares: Mapping[int, int]) -> list[tuple[int, int]]:
        """Return the plan of the policy. Raises BadPlan."""
        try:
            plan = self._policy.plan(dict(shares))
            return check(plan, shares)
        except BadPlan as bad:
            raise BadPlan(f"{_place(self._policy)}: {bad}") from None
        except Exception as error:  # noqa: BLE001 - a policy may be any code
            self.traceback = "".join(traceback.format_exception(error, limit=-8))
            raise BadPlan(f"{_place(self._policy)} raised {type(error).__name__}: {error}") from None


def check(plan: Any, shares: Mapping[int, int]) -> list[tuple[int, int]]:  # noqa: ANN401 - whatever it is
    """Return *plan* if it is valid for the families of *shares*. Raises BadPlan."""
    if not isinstance(plan, Sequence) or isinstance(plan, str | bytes):
        raise BadPlan(f"a plan is a list of (thread, microseconds), not {plan!r:.100}")
    if shares and not plan:
        raise BadPlan("the plan is empty, and nothing would run")
    if len(plan) > MAX_SLICES:
        raise BadPlan(f"the plan has {len(plan)} slices, at most {MAX_SLICES} fit")
    return [_slice(each, shares) for each in plan]


def _slice(each: Any, shares: Mapping[int, int]) -> tuple[int, int]:  # noqa: ANN401 - whatever it is
    if not isinstance(each, Sequence) or len(each) != 2 or not all(type(part) is int for part in each):  # noqa: PLR2004
        raise BadPlan(f"a slice is (thread, microseconds), two whole numbers, not {each!r:.100}")
    thread, length = each
    if thread not in shares:
        raise BadPlan(f"it gives a slice to {thread}, which is not among the threads it was asked to plan")
    if not MIN_SLICE_US <= length <= MAX_SLICE_US:
        raise BadPlan(
            f"it gives {show_thread(thread)} a slice of {length} us, not {MIN_SLICE_US} to {MAX_SLICE_US}"
        )
    return thread, length


def _place(policy: Policy) -> str:
    """Return the name of the policy's `plan`, and its place in the source."""
    name = f"{type(policy).__name__}.plan"
    code = getattr(getattr(policy, "plan", None), "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name

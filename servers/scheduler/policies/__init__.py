"""Scheduling policies, each a page of pure code, chosen by name: `exo sched use NAME`."""

from collections.abc import Callable, Mapping

from libexo.sched import Policy
from servers.scheduler.policies.fair import Fair
from servers.scheduler.policies.feedback import Feedback
from servers.scheduler.policies.lottery import Lottery
from servers.scheduler.policies.priority import Priority
from servers.scheduler.policies.round_robin import RoundRobin
from servers.scheduler.policies.stride import Stride

__all__ = ["POLICIES", "Fair", "Feedback", "Lottery", "Priority", "RoundRobin", "Stride"]

POLICIES: Mapping[str, Callable[..., Policy]] = {
    each.name: each for each in (RoundRobin, Priority, Lottery, Stride, Fair, Feedback)
}
"""By name."""

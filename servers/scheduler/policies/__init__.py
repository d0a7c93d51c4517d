"""Scheduling policies, each a page of pure code, chosen by name: `exo sched use NAME`."""

from collections.abc import Callable, Mapping

from libexo.sched import Policy
from servers.scheduler.policies.edf import Edf
from servers.scheduler.policies.fair import Fair
from servers.scheduler.policies.feedback import Feedback
from servers.scheduler.policies.gang import Gang
from servers.scheduler.policies.groups import Groups
from servers.scheduler.policies.lottery import Lottery
from servers.scheduler.policies.priority import Priority
from servers.scheduler.policies.rate_monotonic import RateMonotonic
from servers.scheduler.policies.round_robin import RoundRobin
from servers.scheduler.policies.single import SINGLE
from servers.scheduler.policies.stride import Stride

__all__ = [
    "POLICIES",
    "Edf",
    "Fair",
    "Feedback",
    "Gang",
    "Groups",
    "Lottery",
    "Priority",
    "RateMonotonic",
    "RoundRobin",
    "Stride",
]

POLICIES: Mapping[str, Callable[..., Policy]] = {**SINGLE, Gang.name: Gang, Groups.name: Groups}
"""By name."""

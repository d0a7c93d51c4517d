"""The policies that know of no others, by name."""

from collections.abc import Callable, Mapping

from libexo.sched import Policy
from servers.scheduler.policies.edf import Edf
from servers.scheduler.policies.fair import Fair
from servers.scheduler.policies.feedback import Feedback
from servers.scheduler.policies.lottery import Lottery
from servers.scheduler.policies.priority import Priority
from servers.scheduler.policies.rate_monotonic import RateMonotonic
from servers.scheduler.policies.round_robin import RoundRobin
from servers.scheduler.policies.stride import Stride

SINGLE: Mapping[str, Callable[..., Policy]] = {
    each.name: each for each in (RoundRobin, Priority, Lottery, Stride, Fair, Feedback, RateMonotonic, Edf)
}

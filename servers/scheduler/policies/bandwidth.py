"""A constant-bandwidth server: L. Abeni and G. Buttazzo, RTSS 1998. Pure.

The paper is *Integrating Multimedia Applications in Hard Real-Time Systems*; its rules are `arrive` and `spend`.
"""


class Bandwidth:
    """So much *runtime* in each *period*, both in ns, with a deadline that goes on as the runtime is used."""

    __slots__ = ("budget", "deadline", "period", "runtime", "since")

    def __init__(self, runtime: int, period: int) -> None:
        """Have nothing, until something arrives."""
        self.runtime, self.period = runtime, period
        self.budget = 0
        """What it may use before its deadline goes on, in ns."""
        self.deadline = 0
        self.since = 0
        """When it got that deadline."""

    def arrive(self, at: int) -> None:
        """Begin to serve at the time *at*: with what is left, unless that were more than its bandwidth."""
        if self.budget * self.period >= (self.deadline - at) * self.runtime:
            self.budget, self.deadline, self.since = self.runtime, at + self.period, at

    def spend(self, used: int, now: int) -> None:
        """Count CPU time, in ns. When the budget is gone it is full again, for a deadline a period later."""
        self.budget -= used
        if used and self.budget <= 0:
            times = -self.budget // self.runtime + 1
            self.budget += times * self.runtime
            self.deadline += times * self.period
            self.since = now

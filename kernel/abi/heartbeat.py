"""Heartbeats: when a server counts as unresponsive. The kernel's rule for the root task, and its rule for others.

The watcher asks every BEAT, over the path that clients use. Once an answer is overdue, it looks at the server
again and again. A server that does nothing for STILL_LOOKS looks is ended. One that runs, or wants to, has
BUSY_LOOKS: others may only be starving it. One under a debugger is left alone.
"""

from kernel.abi.program import Activity

BEAT = 100_000_000
"""Nanoseconds until an answer is due, and between two questions."""
LOOK = 25_000_000
"""Nanoseconds between looks at a server whose answer is overdue."""
STILL_LOOKS = 4
BUSY_LOOKS = 400
START_LOOKS = 200
"""Looks that a successor has until its first answer, whatever it does."""
MAX_REASON = 200
"""Bytes of a reason that is given with an end."""


class Silence:
    """Looks at one server whose answer is overdue."""

    def __init__(self, *, starting: bool = False) -> None:
        """Begin to look; *starting*: it has not answered anything yet."""
        self.still = 0
        self.looks = 0
        self.doing = Activity.RUNS
        """Its activity at the last look."""
        self._starting = starting

    def look(self, doing: Activity, *, excused: bool = False) -> bool:
        """Note one look at its activity; return whether to end it. *Excused*: it may wait for another that runs."""
        self.doing = doing
        if doing is Activity.TRACED:
            self.still = self.looks = 0
            return False
        self.looks += 1
        if doing is Activity.RUNS:
            self.still = 0
        elif doing is Activity.STOPPED or not excused:
            self.still += 1
        if self._starting:
            return self.looks >= START_LOOKS
        return self.still >= STILL_LOOKS or self.looks >= BUSY_LOOKS

    @property
    def reason(self) -> str:
        """The reason for ending it."""
        nanoseconds = BEAT + (self.looks - 1) * LOOK
        return f"no answer for {nanoseconds / 1e6:.0f} ms, {_DOING[self.doing]}"


_DOING = {
    Activity.ENDED: "it had ended",
    Activity.RUNS: "it ran, or wanted to",
    Activity.WAITS: "it waited for something else",
    Activity.STOPPED: "it was stopped",
    Activity.TRACED: "it was being debugged",
}

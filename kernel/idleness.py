"""Idleness: how long the owner of a slice had the core and slept, and whether it has fallen asleep.

Where the machine tells who comes to a core and leaves it, both are exact: who has left it for a PAUSE sleeps.
Who comes back sooner, as one does that waits for an answer, keeps its slice, and is charged for what it slept.
Where the machine does not tell, or has not yet, one sleeps that waits, and used almost nothing since the last look.
"""

from typing import TYPE_CHECKING

from kernel.abi.program import Activity

if TYPE_CHECKING:
    from hwmodel.machine import Body

TICK = 2_000_000
"""How often a slice is looked at while others wait for the core, in ns: bounds what a sleeper wastes."""
PAUSE = 250_000
"""Who has left the core for so long, in ns, sleeps: it costs about that to give the core to another and back."""
UNKNOWN = -1
"""Since when somebody sleeps of whom nobody tells."""


class Idleness:
    """That of one slice after the other: `total`, in ns, and when the next look at its owner is `due`."""

    __slots__ = ("_at", "_consumed", "_early", "_slept", "due", "total")

    def __init__(self) -> None:
        """Have no slice yet."""
        self._at = self._consumed = self._slept = self.total = 0
        self._early, self.due = False, TICK

    def begin(self, body: "Body", now: int, consumed: int) -> None:
        """Begin a slice of *body*, which has *consumed* so much CPU time."""
        self._at, self._consumed, self._slept = now, consumed, asleep(body, now)[1]
        self.total, self.due = 0, now + TICK

    def look(self, body: "Body", now: int) -> bool:
        """Charge the slice what *body* slept since the last look; say whether it sleeps now, or is stopped."""
        at, used, slept = self._at, body.consumed() - self._consumed, self._slept
        self._at, self._consumed = now, self._consumed + used
        since, self._slept = asleep(body, now)
        self._early, self.due = since > 0 and not self._early, now + TICK
        if since != UNKNOWN:
            self.total += min(max(self._slept - slept, 0), now - at)  # before, it may not have been known
            if self._early:
                self.due = since + PAUSE
            return bool(since) and now - since >= PAUSE
        idle = now - at - used
        if 2 * idle < now - at or body.activity() is Activity.RUNS:
            return False
        self.total += idle  # it has kept others from the core as long as it slept
        return idle * 16 > max(now - at, TICK // 2) * 15


def asleep(body: "Body", now: int) -> tuple[int, int]:
    """Return since when *body* sleeps, or 0, or UNKNOWN; and how long it slept by now."""
    return body.presence.absence(now) if body.presence is not None else (UNKNOWN, 0)

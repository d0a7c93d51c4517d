"""Whether a call whose server went away is done again.

A request that the server never took always is. Of one that it may have taken, a stub cannot know how far it came:
it is done again if the operation is `repeatable`, and if the server did not die of it. What counts is how the
server ended. Somebody may have ended it from outside, by a signal that asks for that: then its successor is
asked. After anything else, a fault, a crash, an exception, an exit of its own, the request itself may have been
the reason, and would end each successor in turn.
"""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.errors import Fault
from libexo.errors import NoPartner

if TYPE_CHECKING:
    from libexo.stub.operation import Operation

AGAIN = 4
"""How often one call is done again at most, whatever ended its servers."""
HARMLESS = 60_000_000_000
"""A server that lived this long with a call, in ns, did not end for it: then the count starts anew."""
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
OUTSIDE = frozenset(status for number in _FROM_OUTSIDE for status in (-int(number), 128 + int(number)))
"""Exit statuses of what was ended by others: by the signal, or by a handler that exits as shells count that."""


class Repeats:
    """Those of one call."""

    def __init__(self, now: Callable[[], int]) -> None:
        """Start with the first attempt; *now* reads the clock."""
        self._now = now
        self._begun = now()
        self._left = AGAIN

    def judge(self, server: str, operation: "Operation", gone: NoPartner) -> None:
        """Return if *operation*, for which *server* is *gone*, is to be done again. Raises NoPartner."""
        now = self._now()
        if now - self._begun >= HARMLESS:
            self._left = AGAIN
        self._begun = now
        self._left -= 1
        taken = bool(gone.phase) or operation.oneway  # of several oneway ones, one before may be lost
        if not taken and self._left >= -AGAIN:
            return
        if not taken or not operation.repeatable or self._left < 0 or not is_from_outside(gone):
            raise NoPartner(gone.phase, self._why(server, operation, gone), gone.status, gone.fault) from gone

    def _why(self, server: str, operation: "Operation", gone: NoPartner) -> str:
        """Say what happened, and why it is not done again."""
        call = f"{server}.{operation.name}"
        if not is_from_outside(gone):
            return f"{call}: the server died of this call, or during it: {_told(gone)}; it is not done again"
        if operation.repeatable or not gone.phase:
            return f"{call}: {gone}, and so did its successors: it is not done again"
        return f"{call}: {gone}; whether it was done is not known"


def is_from_outside(gone: NoPartner) -> bool:
    """Say whether somebody else ended the server that is *gone*, if it ended at all."""
    return not gone.fault and (gone.status is None or gone.status in OUTSIDE)


def _told(gone: NoPartner) -> str:
    """Say how the server that is *gone* ended."""
    if gone.fault:
        known = gone.fault in tuple(Fault)
        return f"fault {Fault(gone.fault).name}, {Fault(gone.fault).text}" if known else f"fault {gone.fault}"
    assert gone.status is not None
    if gone.status >= 0:
        return f"it exited with status {gone.status}"
    known = -gone.status in tuple(signal.Signals)
    return f"by {signal.Signals(-gone.status).name}" if known else f"by signal {-gone.status}"

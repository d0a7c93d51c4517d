"""How the page faults of a thread reach its pager: by an IPC in the middle of whatever the thread does."""

from typing import TYPE_CHECKING

from kernel.abi.messages import IpcCode
from libexo.l4.engine.copying import Limit
from libexo.l4.engine.fault import TUNNELLED, PageFaults
from libexo.l4.errors import Aborted
from libexo.l4.format.acceptor import MapGrantItems
from libexo.l4.format.constants import ipc_error_parts
from libexo.l4.format.fpage import Fpage
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.times import Never, Time, Timeouts, TimePeriod, TimePoint, ZeroTime

if TYPE_CHECKING:
    from libexo.l4.engine.context import Context

_STEPS_BITS = 9
"""A time has ten bits of steps; with one to spare, rounding up to a step keeps within them."""


class Paging:
    """The page faults of one thread."""

    def __init__(self, engine: "Context") -> None:
        """Ask the pager of *engine*'s thread; without one, the thread is halted."""
        self._engine = engine
        self._faults = PageFaults(self._ask, engine.halt, lambda: engine.ip)

    def fault(self, address: int, access: int) -> None:
        """Handle a fault at *address*, for *access* (rights of an fpage)."""
        self._faults.fault(address, access)

    def limit(self, *, sender: int = Never, receiver: int = Never) -> Limit:
        """Return what handles faults while strings are copied, within the transfer time-outs."""
        return Limit(self._faults.tunnelled, self._engine.clock, sender, receiver)

    def _ask(self, to: int, tag: MsgTag, words: tuple[int, ...], window: Fpage, deadline: int | None) -> int:
        """Exchange a fault with the pager *to*: see `fault.Call`."""
        engine = self._engine
        registers = engine.registers
        left = Never if deadline is None else _until(deadline, engine.clock())
        registers.mr[: len(words) + 1] = (int(tag), *words)
        registers.br[0] = int(MapGrantItems(window))
        _, answer = engine.ipc(to, to, Timeouts(left, left))
        error = registers.error_code if answer.E else 0
        if words[1] == TUNNELLED and error and ipc_error_parts(error)[1] is IpcCode.CANCELLED:
            raise Aborted("the transfer was aborted while it waited for a pager")
        return error


def _until(deadline: int, now: int) -> Time:
    """Return a time that is over at *deadline*, or as soon after it as a time can say: both by the clock, in us.

    A moment, not a length: of sending and receiving together. Beyond what a moment reaches, the length of each.
    """
    left = max(deadline - now, 0)
    step = 1 << max((left + 1).bit_length() - _STEPS_BITS, 0)
    at = -(-deadline // step) * step
    if at <= now:
        return ZeroTime
    try:
        return TimePoint(at, now)
    except ValueError:
        return TimePeriod(at - now)

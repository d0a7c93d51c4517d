"""Taking capabilities away: the traps that do it, and the steps in which it is done.

*Theory of operation.* The derivatives of a capability are cut off from it at once. So they are condemned: nothing
is done with them or derived from them. Then they leave their tables, one a step, parents before children.
A mapping cannot be taken from one holder only. So an extent that a loser has mapped gets new memory, to which the
contents were copied *before*, while the host may still refuse; at last the old memory is taken from all. Meanwhile
the extent is locked, and a program that maps it waits. Frames without a holder are freed after that, too.

A taker loses nothing by force, and a holder that gives up a capability may keep the memory mapped: neither is a
reason to move memory that others use. The capability above answers for it, when its own holder revokes (`_leave`).

Several such walks may be in one tree. One that meets the top of another waits for it before it ends, so that
everything is gone when a revocation is answered.
"""

from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.messages import Label
from kernel.errors import Refused
from kernel.frames import Extent
from kernel.jobs import Latch

if TYPE_CHECKING:
    from kernel.capability import Capability, Holder
    from kernel.exposure import Exposure
    from kernel.jobs import Steps


class Taking:
    """One walk: it takes everything derived from one capability, and perhaps that one itself."""

    def __init__(
        self,
        exposure: "Exposure",
        top: "Capability",
        by: "Holder | None",
        keeper: "Capability | None" = None,
    ) -> None:
        """Prepare to take from *top*. Losers other than *by* are told; of new memory, all but *keeper*."""
        self._exposure = exposure
        self._top = top
        self._by = by
        self._keeper = keeper
        self._others: list[Latch] = []
        """The walks it met."""
        self._after: list[Steps[None]] = []
        """Steps of resources whose last capability went."""
        self.count = 0
        """Capabilities taken."""
        self.moved = False
        """An extent has new memory, to which a capability remains."""

    def steps(self, *, itself: bool, forced: bool = False) -> "Steps[None]":
        """Take everything derived from the top, and the top *itself* if so asked.

        Raises Refused when another walk took the top first, and Exhausted when there is no memory for a copy:
        then nothing has changed. By *force* nothing is refused: without a copy the extent is empty.
        """
        top = self._top
        while top.walk is not None:
            yield top.walk
        top.walk = Latch()
        try:
            yield from self._take_moving(itself=itself, forced=forced)
            for after in self._after:
                yield from after
                yield None
            for latch in self._others:
                yield latch
        finally:
            if top.taken and top.parent is not None:
                top.parent.children.pop(top, None)
            latch, top.walk = top.walk, None
            latch.open()

    def _take_moving(self, *, itself: bool, forced: bool) -> "Steps[None]":
        """Take; an extent that remains, and that a loser has mapped, gets new memory."""
        top, extent = self._top, self._top.resource
        if not isinstance(extent, Extent) or (itself and extent.root is top):
            return (yield from self._take(itself=itself, forced=forced))
        yield from extent.lock()
        try:
            moves = (yield from self._has_mapped(itself=itself, forced=forced)) and not top.taken
            pages = extent.span(top)
            if moves:
                yield from self._copy(extent, pages, forced=forced)
            yield from self._take(itself=itself, forced=forced)
            if moves and extent.root is not None:
                self.moved = True
                yield from extent.move(self._keeper, pages)
            elif itself:
                _leave(top)
        finally:
            extent.unlock()

    def _has_mapped(self, *, itself: bool, forced: bool) -> "Steps[bool]":
        """Say whether a loser, or one who left, has the memory mapped; by *force* the top's holder is a loser."""
        top = self._top
        waiting = [top]
        while waiting:
            for capability in list(waiting.pop().children):
                if capability.mapped and capability.holder is not top.holder:
                    return True
                top.mapped |= capability.mapped
                top.leaked |= capability.leaked
                waiting.append(capability)
                yield None
        return top.leaked if not itself else forced and top.mapped

    def _copy(self, extent: Extent, pages: range, *, forced: bool) -> "Steps[None]":
        try:
            yield extent.copy(pages)
        except Exhausted as exhausted:
            if not forced:
                raise
            self._exposure.log(f"{extent!r} is emptied, because it is taken back by force: {exhausted}")

    def _take(self, *, itself: bool, forced: bool) -> "Steps[None]":
        top = self._top
        if top.taken:
            if forced:
                return
            raise Refused(Refusal.STALE_HANDLE, f"handle {top.handle:#x}")
        condemned, top.children = [top.children], {}
        if itself:
            self._lose(top)
        while condemned:
            if not condemned[-1]:
                condemned.pop()
                continue
            capability, _ = condemned[-1].popitem()
            if capability.walk is not None:
                self._others.append(capability.walk)
            if not capability.taken:
                children, capability.children = capability.children, {}
                condemned.append(children)
                self._lose(capability)
            yield None

    def _lose(self, lost: "Capability") -> None:
        exposure, holder = self._exposure, lost.holder
        self.count += 1
        lost.table.remove(lost)
        if holder is not self._by:
            holder.repossess(lost)
            exposure.tell(holder, Label.REVOKED, (lost.handle,))
            exposure.trace.record(Event.LOST, holder.number, lost.handle, lost.resource.kind)
        exposure.kip.show(holder)
        after = lost.resource.lost(lost) if lost.offer is None else None
        if after is not None:
            self._after.append(after)


def _leave(gone: "Capability") -> None:
    """Let the capability above answer for the mappings below *gone*, which its holder gave up."""
    above = gone.parent
    if above is None or above.taken or above.resource is not gone.resource:
        return
    if above.holder is gone.holder:
        above.mapped |= gone.mapped
        above.leaked |= gone.leaked
    else:
        above.leaked |= gone.mapped or gone.leaked

"""Unmap of some rights, as X.2 has it: who got a mapping from here keeps it with the others."""

from kernel.abi.rights import Rights
from kernel.capability import Capability
from kernel.frames import Extent
from kernel.jobs import Steps


def narrow(extent: Extent, top: Capability, rights: Rights) -> Steps[int]:
    """Take *rights* from all derived from *top*; return how many lost some. Raises Exhausted: then none did."""
    yield from extent.lock()
    try:
        if not (top.children or top.leaked):  # so it is for a ring, whose memory stays
            return 0
        yield extent.copy(extent.span(top))
        count, waiting = 0, [top]
        while waiting:  # parents come first: nothing is derived with a right behind the walk
            for capability in list(waiting.pop().children):
                lost = bool(capability.rights & rights)
                count += lost
                capability.rights &= ~rights
                capability.mapped |= lost and capability.offer is None  # so that it is told
                waiting.append(capability)
            extent.show()
            yield None
        yield from extent.move(None, extent.span(top))
    finally:
        extent.unlock()
    return count

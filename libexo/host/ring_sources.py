"""The ring ends among the sources of a wait, which are waited for otherwise than all else."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from libexo.transport.base import Source

if TYPE_CHECKING:
    from libexo.transport.ring.ends import RingEnd


def is_ring_end(source: Source) -> bool:
    """Say whether *source* is a `libexo.transport.ring.ends.RingEnd`, without importing that."""
    return hasattr(source, "prepare_to_sleep")


class RingSources:
    """A wait for sources, of which some are ring ends."""

    _rings: "Sequence[RingEnd]" = ()

    def part(self, sources: Sequence[Source]) -> list[Source]:
        """Keep the ring ends of *sources*; return the others, and those inside ring ends."""
        self._rings = rings = [cast("RingEnd", source) for source in sources if is_ring_end(source)]
        others = [source for source in sources if not is_ring_end(source)]
        return others + [source for ring in rings for source in ring.inner()]

    @property
    def has_rings(self) -> bool:
        """Whether there is a ring end among them."""
        return bool(self._rings)

    def rings_have_news(self) -> bool:
        """Say whether there is something to do in a ring after all; a closed one counts."""
        try:
            return any(ring.has_news() for ring in self._rings)
        except ValueError:
            return True

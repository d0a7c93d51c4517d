"""Tickets and doorbells of a program on the simulated machine."""

from libexo.host.ground import Doorbells, Posted


class SimulatedTicket:
    """One end of a ticket. Implements `libexo.host.base.Ticket`."""

    def __init__(self, posted: Posted) -> None:
        """Post into *posted*, which the other end shares."""
        self.post = posted.post
        self.claim = posted.claim

    def close(self) -> None:
        """Do nothing: nothing is held."""


class SimulatedBell:
    """One side of two doorbells, with a key to wait on. Implements `libexo.host.base.Bell`."""

    def __init__(self, key: int, doorbells: Doorbells, known: dict[int, Doorbells]) -> None:
        """Use *doorbells*, which are *known* to waits by *key* until they are closed."""
        self._key = key
        self._doorbells = doorbells
        self._known = known
        known[key] = doorbells
        self.ring = doorbells.ring
        self.silence = doorbells.silence

    def fileno(self) -> int:
        """Return the key to wait on."""
        if self._key not in self._known:
            raise ValueError("the doorbell is closed")
        return self._key

    def close(self) -> None:
        """Give it up."""
        self._known.pop(self._key, None)
        self._doorbells.close()

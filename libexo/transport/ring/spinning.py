"""How long to look at a ring before sleeping: as long as it pays, by experience.

The host wakes a sleeper, which costs both sides many times what a message costs while both are awake. So we
look for about as long as waking takes: at worst, that doubles the price of a message (competitive spinning;
Karlin, Li, Manasse, Owicki: Empirical studies of competitive spinning for a shared-memory multiprocessor, 1991).

It cannot pay if the other side runs on our processor: it would have to wait until we stop. So each side tells on
which one it woke, each time it does. A side that finds the other on its own processor sleeps at once, which hands
the processor over; one that finds it on another stays awake. The host may place both anew at every wake-up, and we
know nothing else of it, so the experience with one placing is forgotten with it. Nor does looking pay if the other
side takes much longer: after a look without success we sleep at once for a few times before we try again.

The other side may say anything of itself: at worst we look without success, and learn not to, or sleep at once.
"""

from typing import Final

from libexo.transport.ring.duplex import ONCE

OFTEN: Final = 64
"""Sleeps without a look, at most."""
AWAKE_NS: Final = 500_000
"""A side awake for this long has found its message."""


class SpinPolicy:
    """The experience of one end."""

    __slots__ = ("_ended", "_many", "_skip", "_step", "learns", "shares", "spins")

    def __init__(self, spins: int) -> None:
        """Look that many times; 0: never, sleep at once."""
        self._many = (None,) * spins or ONCE
        self.learns = self._many is not ONCE
        """It matters how long we sleep."""
        self.shares = False
        """All others last woke on our processor."""
        self._skip = 0
        """How often to sleep at once before looking again."""
        self._step = 0
        self._ended = 0
        self.spins = self._many
        """As often as this is long."""

    def share(self, shares: bool) -> None:  # noqa: FBT001 - the only argument
        """Learn whether all others last woke on our processor."""
        if shares != self.shares:
            self.shares = shares
            self.spins = ONCE if shares else self._many
            self.learns = self.spins is not ONCE
            self._step = self._skip = 0

    def slept(self, began: int, ended: int) -> None:
        """Note a sleep, by the host's clock in ns, while not all were on our processor."""
        if not self.learns:
            return
        if began - self._ended > AWAKE_NS:
            self._step = self._skip = 0
        self._ended = ended
        if self._skip:
            self._skip -= 1
            self.spins = ONCE if self._skip else self._many
        elif self.spins is ONCE:
            self.spins = self._many
        else:
            self._step = self._skip = min(2 * self._step or 1, OFTEN)
            self.spins = ONCE

"""How long to look at a ring before sleeping: as long as it pays, by what was seen of it.

A sleeper is woken by the host, which costs both sides many times what a message costs while both are awake. So we
look for about as long as being woken takes: at worst, that doubles the price of a message (competitive spinning;
Karlin, Li, Manasse, Owicki: Empirical studies of competitive spinning for a shared-memory multiprocessor, 1991).

It cannot pay where the other side has no processor to run on but ours: then we hand that over, and sleep if there
is nothing when we have it back. Each side tells which one it is kept on. Nor does it pay where the other side takes
much longer: when we looked in vain, we sleep at once for a few times before we try again.
"""

from typing import Final

from libexo.transport.ring.line import ONCE

OFTEN: Final = 64
"""Sleeps without a look, at most."""
AWAKE_NS: Final = 500_000
"""Who did not sleep for that long found what it looked for."""


class Patience:
    """What is known of one end."""

    __slots__ = ("_ended", "_many", "_skip", "_step", "looks", "shares")

    def __init__(self, looks: int) -> None:
        """Look that many times; 0: never, sleep at once."""
        self._many = (None,) * looks or ONCE
        self.shares = False
        """Both sides are kept on one processor."""
        self._skip = 0
        """How often to sleep at once before looking again."""
        self._step = 0
        self._ended = 0
        self.looks = self._many
        """As often as this is long."""

    def share(self, shares: bool) -> None:  # noqa: FBT001 - the one thing there is to say
        """Learn whether both sides are kept on one processor."""
        if shares != self.shares:
            self.shares = shares
            self.looks = ONCE if shares else self._many

    @property
    def learns(self) -> bool:
        """Whether it matters how long we sleep."""
        return not self.shares and self._many is not ONCE

    def slept(self, began: int, ended: int) -> None:
        """We slept so long, by the host's clock in ns."""
        if began - self._ended > AWAKE_NS:
            self._step = self._skip = 0
        self._ended = ended
        if self._skip:
            self._skip -= 1
            self.looks = ONCE if self._skip else self._many
        elif self.looks is ONCE:
            self.looks = self._many
        else:
            self._step = self._skip = min(2 * self._step or 1, OFTEN)
            self.looks = ONCE

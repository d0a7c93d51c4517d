"""The memory server's decisions: how much each may have. Pure: plain numbers in, a yes or an error out."""

from collections.abc import Mapping
from typing import NamedTuple

from kernel.abi.limits import MAX_HANDLES, MAX_OFFERS
from libexo.errors import OperationRefused
from libexo.levels import RESERVE_DIVISOR


class MemoryRefused(OperationRefused):
    """The base of the memory server's refusals."""


class OutOfMemory(MemoryRefused):
    """No free memory of that size."""


class FrameBusy(MemoryRefused):
    """A frame asked for by number is taken."""


class QuotaExceeded(MemoryRefused):
    """The caller has as much as it may have."""


class NotAllowed(MemoryRefused):
    """The caller may not do that."""


QUOTA_DIVISOR = 2
"""A family without a quota of its own may have this part of RAM: one family cannot starve all others."""
ROOM_DIVISOR = 8
"""While less than this part of RAM is left, a family may have no more than it leaves: however many take what they
can, the next one finds something."""
KEPT = MAX_HANDLES * 11 // 16
"""Extents the server keeps a capability to, because they were mapped and not granted. The rest of its table is
for what it grants, and for offers that nobody accepted yet."""
SHOWN = MAX_HANDLES // 16
"""Extents that programs show the server: their rules, what is to be saved, and where."""
SHOWN_DIVISOR = 8
"""A family may have this part of them."""

POOLS = MAX_HANDLES * 3 // 16
"""Pools there may be, including those of dead environments whose memory still has a holder."""
POOLS_DIVISOR = 6
"""A family may have this part of them: more than it can have living members."""


class Party(NamedTuple):
    """A party that asks for frames. A server of the topology, and an operator that attached, is of no family."""

    thread: int
    family: int = 0
    used: int = 0
    """Frames its environment has."""
    together: int = 0
    """Frames its family has, or asked for and passed on."""


class Quotas:
    """Frames each family may have, and each environment with a quota of its own."""

    def __init__(self, total: int, own: Mapping[int, int]) -> None:
        """Share *total* frames; *own* are the quotas that were set, by thread or family: no number is both."""
        self.own = dict(own)
        self.reserve = total // RESERVE_DIVISOR
        """Frames that programs do not get."""
        self._room = total // ROOM_DIVISOR
        self._default = max(1, total // QUOTA_DIVISOR)

    def quota(self, thread: int, family: int = 0) -> int:
        """Return how many frames the environment of first thread *thread*, of *family*, may have."""
        shared = self.own.get(family, self._default)
        return min(self.own.get(thread, shared), shared) if family else self.own.get(thread, shared)

    def of_family(self, family: int) -> int:
        """Return how many frames *family* may have."""
        return self.own.get(family, self._default)

    def leaves(self, party: Party, wanted: int) -> int:
        """Return how many frames must be free when *party* has got *wanted*."""
        if not party.family:
            return 0
        return self.reserve + (0 if party.family in self.own else min(party.together + wanted, self._room))

    def check(self, party: Party, wanted: int, free: int) -> None:
        """Raise QuotaExceeded or OutOfMemory unless *party* may have *wanted* of the *free* frames."""
        if wanted < 1:
            raise MemoryRefused(f"{wanted} pages: ask for at least one")
        quota = self.quota(party.thread, party.family)
        if party.used + wanted > quota:
            raise QuotaExceeded(
                f"{party.used} of {quota} frames in use, {wanted} more asked for: free some first"
            )
        if party.family:
            self._check_family(party, wanted, free)
        elif wanted > free:
            raise OutOfMemory(f"{wanted} frames asked for, {free} free")

    def _check_family(self, party: Party, wanted: int, free: int) -> None:
        together, quota = party.together, self.of_family(party.family)
        if together + wanted > quota:
            raise QuotaExceeded(
                f"{together} of {quota} frames in use by the caller's family, that is its first program and all "
                f"descendants, or passed on by it, {wanted} more asked for: free some first"
            )
        left = free - self.reserve - wanted
        if left < 0:
            raise OutOfMemory(
                f"{wanted} frames asked for, {max(free - self.reserve, 0)} free beside {self.reserve} for servers"
            )
        if party.family not in self.own and must_leave(together + wanted, left, self._room):
            raise OutOfMemory(
                f"{wanted} frames asked for, {free - self.reserve} free: a family that has {together} "
                "must leave as much for others as it has then"
            )


def must_leave(then: int, left: int, room: int) -> bool:
    """Say whether a party that would have *then* leaves too little: *left* is less, and less than *room*."""
    return then > left < room


def check_kept(own: int, wanted: int, total: int) -> None:
    """Raise QuotaExceeded unless the family with *own* of the *total* extents that are kept may have more.

    A family may have the same part of them as of RAM, and near the end no more than it leaves.
    """
    then, left = own + wanted, KEPT - total - wanted
    if then > KEPT // QUOTA_DIVISOR or left < 0 or must_leave(then, left, KEPT // ROOM_DIVISOR):
        raise QuotaExceeded(f"{own} extents of {total} are the caller's family's: ask for larger pages")


def check_pools(own: int, total: int) -> None:
    """Raise QuotaExceeded unless the family with *own* of the *total* pools may have one more."""
    then, left = own + 1, POOLS - total - 1
    if then > POOLS // POOLS_DIVISOR or left < 0 or must_leave(then, left, POOLS // ROOM_DIVISOR):
        raise QuotaExceeded(
            f"{own} of {total} pools are of programs of the caller's family, whose memory is still held: "
            "have some given up first"
        )


def check_shown(own: int, total: int) -> None:
    """Raise QuotaExceeded unless the family that shows *own* of the *total* extents may show one more."""
    then, left = own + 1, SHOWN - total - 1
    if then > SHOWN // SHOWN_DIVISOR or left < 0 or must_leave(then, left, SHOWN // ROOM_DIVISOR):
        raise QuotaExceeded(f"{own} of {total} extents shown are the caller's family's: have fewer saved")


def check_message(extents: int) -> None:
    """Raise QuotaExceeded unless one message can bring so many *extents*: each is an offer."""
    if extents > MAX_OFFERS:
        raise QuotaExceeded(f"{extents} extents in one message: at most {MAX_OFFERS}, ask for smaller pages")


def find_free(users: memoryview, count: int, alignment: int, lowest: int = 0, colour: int = 0) -> int:
    """Return the first of *count* free frames in a row: *colour* above a multiple of *alignment*, from *lowest* on.

    *users* gives the user of each frame, 0 for none. Raises OutOfMemory. The search is among bytes, at
    the speed of the C library: frame by frame, one caller would keep all others waiting.
    """
    width, taken, free = users.itemsize, users.tobytes(), bytes(count * users.itemsize)
    first = lowest + (colour - lowest) % alignment
    while not taken.startswith(free, first * width):
        at = taken.find(free, first * width + 1)
        if at < 0:
            where = f"{colour} above a multiple of {alignment}" if colour else f"a multiple of {alignment}"
            raise OutOfMemory(f"{count} frames in a row, from {where}: none are free")
        at = -(-at // width)
        first = at + (colour - at) % alignment
    return first

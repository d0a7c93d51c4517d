"""Who is asked when frames are short, and for how many. Pure: plain numbers in and out.

The *share* of a family is what each would have if all had the same, and as much was free as is to be. First asked
are families that have more than their quota, then those that have more than their share, each in proportion to what
it has too many, and for no more than that. So no family is pressed below its share for others.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """What a family has."""

    family: int
    frames: int
    quota: int
    """What it may have at most."""


def share(claims: Sequence[Claim], free: int, leave: int) -> int:
    """Return the share of each of the families of *claims*, where *leave* frames are to be free; *free* are now."""
    together = sum(claim.frames for claim in claims)
    return max(0, together + free - leave) // max(1, len(claims))


def asked_back(claims: Sequence[Claim], own: int, wanted: int) -> dict[int, int]:
    """Return how many frames each family that is asked may keep, so that *wanted* come back; *own* is the share."""
    have = {claim.family: claim.frames for claim in claims}
    keeps = dict[int, int]()
    for bounds in ({claim.family: claim.quota for claim in claims}, dict.fromkeys(have, own)):
        over = {family: frames - bounds[family] for family, frames in have.items() if frames > bounds[family]}
        gives = _divided(over, wanted)
        wanted -= sum(gives.values())
        for family, frames in gives.items():
            have[family] -= frames
            keeps[family] = have[family]
    return keeps


def _divided(over: dict[int, int], wanted: int) -> dict[int, int]:
    """Divide what is *wanted* in proportion to what each has *over*; no part is 0."""
    left, whole = min(wanted, sum(over.values())), sum(over.values())
    gives, wanted = dict[int, int](), left
    for family, frames in sorted(over.items(), key=lambda each: each[1], reverse=True):
        part = min(left, frames, -(-wanted * frames // whole))
        if part:
            gives[family] = part
            left -= part
    return gives

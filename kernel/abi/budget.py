"""Budgets: how much an environment may make the kernel and the servers hold, by item.

Every item has a *limit* for each environment. The topology gives that of a server (`budget` in system.toml); a
program that an operator started has the default; both come from the system. The limit of a program that another
one started comes out of its starter's: the starter lacks what it gave until the child has ended. So a program
and its descendants together never make the system hold more than the program could by itself.

Where its starter names no limit, a child gets the least it can live on, and an eighth of what its starter can
spare beyond the same for itself and for every child it may still start.

Some items are bounds of each environment and are not divided: a share of them would be too little for a single
message. Their sum is bounded by the number of environments, which is divided.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, Self

_EVERYBODY = -1


class Item(IntEnum):
    """The items of a budget."""

    text: str
    """Its name in a refusal and in the table of docs/budgets.md."""
    program: int
    """The limit of a program that an operator started."""
    server: int
    """The limit of a server whose entry in the topology names none."""
    least: int
    """The least a child gets."""
    divided: bool
    """A child's limit comes out of its starter's; otherwise it has the same limit."""

    def __new__(
        cls, number: int, text: str = "", program: int = 0, server: int = 0, least: int = _EVERYBODY
    ) -> Self:
        """Make a member that is its number and carries the rest."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.text, member.program, member.server = text, program, server
        member.divided, member.least = least != _EVERYBODY, max(least, 0)
        return member

    HANDLES = 0, "capabilities in its table", 1024, 4096, 8
    DESCRIPTORS = (
        1,
        "host descriptors the kernel holds: memory, bindings, what it starts with",
        2048,
        65536,
        24,
    )
    BINDINGS = 2, "bindings to threads it may send to", 512, 1024, 4
    THREADS = 3, "threads", 256, 1024, 2
    CHILDREN = 4, "environments it started, until nobody may ask how they ended", 64, 128, 0
    RESTARTS = 5, "children that are started again when they end", 16, 128, 0
    KEPT = 6, "bytes of arguments and environ held to start children again", 1 << 20, 1 << 26, 0
    NAMES = 7, "names published for its threads beside its own", 16, 256, 0
    ALARMS = 8, "revocations that wait for their deadline", 64, 1024, 0
    WAITS = 9, "answers it waits for that servers give later", 256, 4096, 2
    OFFERS = 10, "capabilities offered to it in answers, or by it, that nobody took yet", 64, 1024
    UPCALLS = 11, "messages of the kernel that it has not read, or that its predicates will send", 1024, 4096
    PREDICATES = 12, "predicates its threads wait for", 128, 512, 1


CHARGEABLE: Final = frozenset({Item.WAITS})
"""What servers hold for their callers, and charge them for."""
LEAST_PART: Final = 8
"""A child gets this part of what its starter has to spare."""
OFFER_LIFE_NS: Final = 30_000_000_000
"""How long an offer lasts that nobody takes."""


def default_limits(*, server: bool, wished: Mapping[Item, int] | None = None) -> tuple[int, ...]:
    """Return the limits of a server or a program, by item; *wished* overrides the defaults."""
    chosen = wished or {}
    return tuple(chosen.get(item, item.server if server else item.program) for item in Item)


def named(limits: Mapping[str, int]) -> dict[Item, int]:
    """Return *limits*, given by the items' names in small letters, by item. Raises ValueError."""
    known = {item.name.lower(): item for item in Item}
    if unknown := [name for name in limits if name not in known]:
        raise ValueError(f"no budget counts {', '.join(unknown)}: there are {', '.join(known)}")
    return {known[name]: limit for name, limit in limits.items()}


def pairs(limits: Mapping[Item, int]) -> tuple[tuple[int, int], ...]:
    """Return *limits* as a trap carries them: item, limit."""
    return tuple((int(item), limit) for item, limit in limits.items())


def from_pairs(limits: Iterable[tuple[int, int]]) -> dict[Item, int]:
    """Return what a trap carried, by item. Raises ValueError for an unknown item."""
    return {Item(item): limit for item, limit in limits}

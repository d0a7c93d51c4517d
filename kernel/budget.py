"""Budgets: the account of what each environment makes the kernel and the servers hold for it (`kernel.abi.budget`).

Taking a place in a table is charged here first, and released when the place is free. The limits of a child come
out of its payer's budget and go back when it has ended. A payer that ends first leaves its children, and what they
cost, to its own payer: nothing is gained by dying.

What a server charges its callers for is void when either of them ends.
"""

from collections.abc import Hashable, Mapping, Sequence

from kernel.abi.budget import LEAST_PART, Item
from kernel.abi.errors import Refusal
from kernel.errors import Refused

_COUNT = len(Item)


class Budget:
    """What one environment may use, uses, and gave to its children, by item."""

    __slots__ = (
        *("charges", "costs", "family", "given", "heir", "limit", "name", "parts", "payer", "row", "used"),
    )

    def __init__(self, name: str, limit: Sequence[int], payer: "Budget | None" = None) -> None:
        """Start with nothing used; the limits come out of those of *payer*, None: of the system."""
        self.name = name
        self.limit = list(limit)
        self.used = [0] * _COUNT
        self.given = [0] * _COUNT
        self.payer = payer
        self.heir: Budget | None = None  # after its end: to which goes what it uses still
        self.family: int | None = (payer.family or None) if payer is not None else None
        """Family of its environment (`kernel.abi.kip`); 0: none, None: not decided yet."""
        self.parts: set[Budget] = set()
        """The budgets cut out of this one."""
        self.costs: dict[Item, int] = {}
        """Its own cost to its payer."""
        self.charges: dict[tuple[Hashable, Item], int] = {}
        """What servers hold for it, by server."""
        self.row: memoryview | None = None
        """Its row in the exposed table: for each item what is used, and the limit less what was given."""

    # ------------------------------------------------------------------------------------------------ accounts

    def room(self, item: Item) -> int:
        """Return how much more there may be of *item*."""
        return self.limit[item] - self.used[item] - self.given[item]

    def check(self, item: Item, amount: int = 1) -> None:
        """Refuse unless there may be *amount* more of *item*."""
        if amount > self.room(item):
            given = f", {self.given[item]} given to children" if self.given[item] else ""
            raise Refused(
                Refusal.OVER_BUDGET,
                f"{item.name.lower()} of {self.name}: {self.used[item]} of {self.limit[item]} in use{given}, "
                f"{amount} more asked for: give some up first, or ask for a larger budget",
            )

    def charge(self, item: Item, amount: int = 1) -> None:
        """Count *amount* more of *item*. Raises Refused: then nothing is counted."""
        self.check(item, amount)
        self.hold(item, amount)

    def hold(self, item: Item, amount: int = 1) -> None:
        """Count *amount* more of *item*, over the limit if need be: it cannot be refused any more."""
        self.used[item] += amount
        if self.row is not None:  # as `_show`, but for the limit
            self.row[2 * item] = max(self.used[item], 0)

    def release(self, item: Item, amount: int = 1) -> None:
        """Count *amount* less of *item*."""
        self.hold(item, -amount)

    def last(self) -> "Budget":
        """Return the budget to which its use has gone by now."""
        return self if self.heir is None else self.heir.last()

    def void(self, by: Hashable = None) -> None:
        """Release what servers hold for it; with *by*, what that one holds."""
        for key in [key for key in self.charges if by in (None, key[0])]:
            self.release(key[1], self.charges.pop(key))

    def show_in(self, row: memoryview) -> None:
        """Show everything in *row* from now on."""
        self.row = row
        for item in Item:
            self._show(item)

    def _show(self, item: Item) -> None:
        if self.row is not None:
            self.row[2 * item] = max(self.used[item], 0)
            self.row[2 * item + 1] = max(self.limit[item] - self.given[item], 0)

    # ------------------------------------------------------------------------------------- what children are given

    def divide(self, name: str, wished: Mapping[Item, int], costs: Mapping[Item, int]) -> "Budget":
        """Cut the budget of child *name* out of this one; the child itself *costs* something. Raises Refused."""
        for item, amount in costs.items():
            self.check(item, amount)
        further = self.room(Item.CHILDREN) - 1
        limit = [self._share(item, costs.get(item, 0), further, wished.get(item)) for item in Item]
        child = Budget(name, limit, self)
        child.costs = dict(costs)
        self.parts.add(child)
        self.move(child, 1)
        return child

    def _share(self, item: Item, cost: int, further: int, wished: int | None) -> int:
        """Return how much of *item* a child gets, of which *further* ones may still come. Raises Refused."""
        if not item.divided:
            return min(self.limit[item], self.limit[item] if wished is None else wished)
        left = self.room(item) - cost
        if wished is None:
            spare = max(left - item.least * (further + 1), 0)
            wished = item.least + -(-spare // LEAST_PART)
        if wished > left:
            raise Refused(
                Refusal.OVER_BUDGET,
                f"{item.name.lower()} of {self.name}: {left} of {self.limit[item]} left, "
                f"a child is to have {wished}",
            )
        return wished

    def move(self, child: "Budget", sign: int) -> None:
        """Charge what *child* has to this budget (*sign* 1), or release it (-1)."""
        for item, amount in child.costs.items():
            self.used[item] += sign * amount
        for item in Item:
            self.given[item] += sign * child.limit[item] * item.divided
            self._show(item)

    def end(self) -> None:
        """Give all back that does not outlast it; the children's parts come out of the payer's. Harmless twice."""
        payer, self.payer, self.heir, self.row = self.payer, None, self.heir or self.payer, None
        parts, self.parts = self.parts, set()
        if payer is not None and self in payer.parts:
            payer.parts.remove(self)
            payer.move(self, -1)
            payer.hold(Item.DESCRIPTORS, self.used[Item.DESCRIPTORS])
        for part in parts:
            part.payer = payer
            if payer is not None:
                payer.parts.add(part)
                payer.move(part, 1)

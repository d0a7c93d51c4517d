"""Pools: a capability to RAM for each environment, through which all its extents are carved.

Revoking a pool takes all of an environment's memory back. The environment may be given a capability derived from
its pool, and then carves by itself, without this server. The kernel counts what is carved, and refuses what
exceeds the *limit* set here. A limit is a promise: its unused part counts as taken, so quotas and
reserve hold whoever carves. An unused promise is narrowed when another party needs the frames;
its holder is refused then, and asks again.

The kernel enforces the limits and this server sets them. After a restart the server withdraws them all: nobody
loses memory by that, and programs that need more ask. The server finds the owner of a pool in its estate, since
holders prove nothing: an extent, and the capability it was carved through, can be granted to anybody.

A pool stays while any of its memory is held, also when its environment has ended, and counts to that
environment's family: otherwise a program that carves, passes on and ends would have carved nothing.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.limits import MAX_BATCH
from kernel.abi.rights import ALL_RIGHTS
from kernel.abi.traps import Limit
from servers.memory.policy import check_pools

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow


class Pool(NamedTuple):
    """The handle of its capability, and the family its environment is, or was, of."""

    handle: int
    family: int


class Pools:
    """The pools, by the first thread of their environments."""

    def __init__(self, environment: "Environment", ram: int, write: "Callable[[], object]") -> None:
        """Derive pools from *ram*, later; *write* stores `known`, and raises when there is no room for it."""
        self._environment = environment
        self._ram = ram
        self._write = write
        self.known: dict[int, Pool] = {}
        self._families: dict[int, set[int]] = {}
        """Threads whose pools count to a family."""
        self._limits: dict[int, int] = {}
        """Frames that an environment may carve by itself, by thread, where any."""
        self._taken: dict[int, int] = {}
        """Frames that it has carved by itself, at most."""

    def __len__(self) -> int:
        """The number of pools."""
        return len(self.known)

    def adopt(self, thread: int, pool: Pool) -> None:
        """Go on with a *pool* that a predecessor made for *thread*; its promises are void."""
        self._remember(thread, pool)
        self._withdraw([thread])

    def of(self, row: "EnvironmentRow") -> int:
        """Return the capability to RAM for the extents of *row*'s environment.

        Raises QuotaExceeded, and the errors of storing it.
        """
        pool = self.known.get(row.thread)
        if pool is not None:
            return pool.handle
        self.drop_dead()
        if row.family:
            check_pools(len(self._families.get(row.family, ())), len(self.known))
        sys = self._environment.sys
        handle = sys.derive(self._ram, int(ALL_RIGHTS))
        sys.limit(handle, 0)
        self._remember(row.thread, Pool(handle, row.family))
        try:
            self._write()
        except BaseException:
            self._forget(row.thread)
            raise
        return handle

    def _remember(self, thread: int, pool: Pool) -> None:
        self.known[thread] = pool
        self._families.setdefault(pool.family, set()).add(thread)

    def _forget(self, thread: int) -> None:
        """Give up the pool of *thread*."""
        pool = self.known.pop(thread)
        self._taken.pop(thread, None)
        theirs = self._families[pool.family]
        theirs.remove(thread)
        if not theirs:
            del self._families[pool.family]
        self._environment.sys.drop(pool.handle)

    def drop_dead(self) -> None:
        """Give up pools of the dead. Their extents may have other holders, and are not ours to take."""
        living = {row.thread for row in self._environment.kip.environments()}
        gone = self.known.keys() - living
        self._withdraw(gone)
        for thread in gone:
            if not self._environment.sys.inspect(self.known[thread].handle).holders:
                self._forget(thread)

    # ---------------------------------------------------------------------------------------------- the limits

    def promised(self, rows: "Iterable[EnvironmentRow]") -> int:
        """Return how many frames the environments *rows* may still carve, at most."""
        return sum(self._limits.get(row.thread, 0) for row in rows)

    def taken(self, rows: "Iterable[EnvironmentRow]") -> int:
        """Return how many frames the family of *rows* has carved or may yet, at most, whoever holds them now."""
        threads = {row.thread for row in rows}
        for family in {row.family for row in rows if row.family}:
            threads |= self._families.get(family, set())
        return sum(self._taken.get(thread, 0) for thread in threads)

    def promised_to_all(self) -> int:
        """Return how many frames all environments may still carve, at most."""
        return sum(self._limits.values())

    def unused(self) -> dict[int, int]:
        """Return how many frames each environment may still carve just now, by thread."""
        limits = list(self._limits.items())
        carved = self._set([(thread, limit) for thread, limit in limits])
        return {thread: max(0, limit - had) for (thread, limit), had in zip(limits, carved, strict=True)}

    def limited(self, first: "Iterable[EnvironmentRow]") -> list[set[int]]:
        """Return the threads that may carve, in the order in which to narrow them: those of *first* come first."""
        own = {row.thread for row in first} & self._limits.keys()
        others = sorted(self._limits.keys() - own, key=self._limits.__getitem__, reverse=True)
        return [own, *({*others[at : at + MAX_BATCH]} for at in range(0, len(others), MAX_BATCH))]

    def narrow(self, threads: Iterable[int]) -> None:
        """Let *threads* carve no more: what they have carved stays theirs."""
        self._withdraw([thread for thread in threads if thread in self._limits])

    def narrow_all(self) -> None:
        """Let nobody carve any more: when this returns no program is carving."""
        self.narrow(list(self._limits))

    def _withdraw(self, threads: Iterable[int]) -> None:
        """Narrow *threads*, whether anything was promised to them or not."""
        found = list(threads)
        self._taken.update(zip(found, self._set([(thread, 0) for thread in found]), strict=True))
        for thread in found:
            self._limits.pop(thread, None)

    def carved(self, row: "EnvironmentRow") -> int:
        """Let *row*'s environment carve no more, and return how many frames it has carved."""
        self.of(row)
        self._withdraw([row.thread])
        return self._taken[row.thread]

    def promise(self, row: "EnvironmentRow", frames: int) -> None:
        """Let *row*'s environment have carved up to *frames* in all."""
        self._environment.sys.limit(self.of(row), frames)
        self._limits[row.thread] = self._taken[row.thread] = frames

    def _set(self, limits: list[tuple[int, int]]) -> list[int]:
        """Set limits, by thread; return how many frames each has carved."""
        carved: list[int] = []
        for first in range(0, len(limits), MAX_BATCH):
            some = [
                Limit(self.known[thread].handle, frames)
                for thread, frames in limits[first : first + MAX_BATCH]
            ]
            carved += self._environment.sys.batch(some)[0]
        return carved

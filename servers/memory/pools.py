"""Pools: a capability to RAM for each environment, through which all its extents are carved.

One revocation of a pool takes all of an environment's memory back. Who asks is given a capability derived from its
pool, and carves by itself from then on, without this server. The kernel counts what is carved so, and refuses what
is over the *limit* that stands here. A limit is a promise: what is not carved of it counts as taken, so quotas and
reserve hold whoever carves. What was promised and not used is narrowed away when somebody else can have it by that;
its holder is refused then, and asks again.

The limits are the kernel's to enforce and this server's to set. A restarted one withdraws them all: nobody loses
memory by that, and who needs more asks.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kernel.abi.limits import MAX_BATCH
from kernel.abi.rights import ALL_RIGHTS
from kernel.abi.traps import Limit

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow


class Pools:
    """The pools there are, by the first thread of their environments."""

    def __init__(self, environment: "Environment", ram: int) -> None:
        """Derive pools from *ram*, later."""
        self._environment = environment
        self._ram = ram
        self._handles: dict[int, int] = {}
        self._limits: dict[int, int] = {}
        """Frames that may be carved by the environment itself, where any may: by thread."""
        self._taken: dict[int, int] = {}
        """Frames that it has carved by itself, at most."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self._handles)

    def adopt(self, thread: int, handle: int) -> None:
        """Go on with a pool that a predecessor made for *thread*; what that promised is void."""
        self._handles[thread] = handle
        self._taken[thread] = self._environment.sys.limit(handle, 0)

    def of(self, thread: int) -> int:
        """Return the capability to RAM for *thread*'s extents."""
        handle = self._handles.get(thread)
        if handle is None:
            self.drop_dead()
            handle = self._handles[thread] = self._environment.sys.derive(self._ram, int(ALL_RIGHTS))
            self._environment.sys.limit(handle, 0)
        return handle

    def drop_dead(self) -> None:
        """Give up those of who ended. Their extents may be a successor's, or others': not ours to take."""
        sys = self._environment.sys
        living = {row.thread for row in self._environment.kip.environments()}
        gone = self._handles.keys() - living
        self.narrow(gone)
        for thread in gone:
            if not sys.inspect(self._handles[thread]).holders:
                sys.drop(self._handles.pop(thread))
                self._taken.pop(thread, None)

    # ---------------------------------------------------------------------------------------------- the limits

    def promised(self, rows: "Iterable[EnvironmentRow]") -> int:
        """Return how many frames the environments *rows* may still carve, at most."""
        return sum(self._limits.get(row.thread, 0) for row in rows)

    def taken(self, rows: "Iterable[EnvironmentRow]") -> int:
        """Return how many frames *rows* have carved or may yet, at most, whoever has them now."""
        return sum(self._taken.get(row.thread, 0) for row in rows)

    def promised_to_all(self) -> int:
        """Return how many frames all of them may still carve, at most."""
        return sum(self._limits.values())

    def unused(self) -> dict[int, int]:
        """Return how many frames each may still carve just now, by thread."""
        limits = list(self._limits.items())
        carved = self._set([(thread, limit) for thread, limit in limits])
        return {thread: max(0, limit - had) for (thread, limit), had in zip(limits, carved, strict=True)}

    def limited(self, first: "Iterable[EnvironmentRow]") -> list[set[int]]:
        """Return who may carve, in the order in which they are to be narrowed: those of *first* come first."""
        own = {row.thread for row in first} & self._limits.keys()
        others = sorted(self._limits.keys() - own, key=self._limits.__getitem__, reverse=True)
        return [own, *({*others[at : at + MAX_BATCH]} for at in range(0, len(others), MAX_BATCH))]

    def narrow(self, threads: Iterable[int]) -> None:
        """Let *threads* carve no more: what they have carved stays theirs."""
        found = [thread for thread in threads if self._limits.pop(thread, 0)]
        self._taken.update(zip(found, self._set([(thread, 0) for thread in found]), strict=True))

    def carved(self, thread: int) -> int:
        """Let *thread* carve no more, and return how many frames it has carved."""
        self._limits.pop(thread, None)
        self._taken[thread] = self._environment.sys.limit(self.of(thread), 0)
        return self._taken[thread]

    def promise(self, thread: int, frames: int) -> None:
        """Let *thread* have carved up to *frames* in all."""
        self._environment.sys.limit(self.of(thread), frames)
        self._limits[thread] = self._taken[thread] = frames

    def _set(self, limits: list[tuple[int, int]]) -> list[int]:
        """Set limits, by thread; return how many frames each has carved."""
        carved: list[int] = []
        for first in range(0, len(limits), MAX_BATCH):
            some = [
                Limit(self._handles[thread], frames) for thread, frames in limits[first : first + MAX_BATCH]
            ]
            carved += self._environment.sys.batch(some)[0]
        return carved

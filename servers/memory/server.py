"""The memory server: holds all RAM, carves what is asked for, and grants it away.

What it granted it can still take back: extents are carved through a capability to RAM made for each caller,
and revoking that takes all of the caller's. Who has how much is read from the KIP, so nothing needs to be
rebuilt after a restart but the quotas that were set, which are kept in its estate.
"""

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.ids import FIRST_PROGRAM, thread_number
from kernel.abi.kip import Head
from kernel.abi.rights import ALL_RIGHTS, Kind
from libexo import attach
from libexo.environment import Environment
from libexo.errors import TrapRefused
from libexo.estate import Estate, inherited
from libexo.extent import Extent, GrantedExtent
from libexo.kip import EnvironmentRow
from libexo.stub import serve
from servers.memory.api import Memory, Statistics, Usage
from servers.memory.policy import FrameBusy, NotAllowed, OutOfMemory, Quotas

_QUOTAS = msgspec.msgpack.Decoder(dict[int, int])


class MemoryServer(Memory):
    """Serves `Memory`."""

    def __init__(self, environment: Environment) -> None:
        """Take over what the kernel gave, or a predecessor left."""
        self.environment = environment
        self._ram = _first_ram(environment)
        self._pools: dict[int, int] = {}
        """The capability to RAM through which a thread's extents are carved, by thread."""
        self._estate = self._open_estate()
        state = self._estate.load()
        self._quotas = Quotas(environment.kip.head(Head.FRAME_COUNT), _QUOTAS.decode(state) if state else {})
        self._adopt_pools()

    def _open_estate(self) -> Estate:
        handle = inherited(self.environment) or self.environment.sys.carve(self._ram, 1).extent
        return Estate(self.environment.views.map(handle))

    def _adopt_pools(self) -> None:
        """Find the pools of a predecessor; those whose extents are all gone are given up."""
        sys = self.environment.sys
        for handle in sys.inventory():
            inspection = sys.inspect(handle)
            if inspection.kind != Kind.RAM or handle == self._ram:
                continue
            if inspection.holders:
                self._pools[inspection.holders[0].thread] = handle
            else:
                sys.drop(handle)

    def allocate(self, pages: int, first: int = -1) -> Extent:
        """Carve, and grant."""
        caller = self.call.sender
        used, free = self._frames_of(caller), self.environment.kip.head(Head.FREE_FRAMES)
        self._quotas.check(caller, used, pages, free)
        try:
            carved = self.environment.sys.carve(self._pool(caller), pages, first)
        except TrapRefused as refused:
            if refused.refusal == Refusal.FRAME_BUSY:
                raise FrameBusy(refused.detail) from refused
            if refused.refusal in (Refusal.NO_FRAMES, Refusal.HOST_FULL):
                raise OutOfMemory(refused.detail) from refused
            raise
        return GrantedExtent(carved.extent, pages, carved.first, int(ALL_RIGHTS))

    def statistics(self) -> Statistics:
        """Read the KIP."""
        kip = self.environment.kip
        users = [self._usage(row) for row in kip.environments() if row.frames]
        return Statistics(kip.head(Head.FRAME_COUNT), kip.head(Head.FREE_FRAMES), users)

    def set_quota(self, thread: int, frames: int) -> None:
        """Set it, and keep it."""
        if thread_number(self.call.sender) >= FIRST_PROGRAM:
            raise NotAllowed("quotas are set by servers")
        living = {row.thread for row in self.environment.kip.environments()}
        own = {of: quota for of, quota in self._quotas.own.items() if of in living}
        self._quotas.own = own | {thread: frames}
        self._estate.store(msgspec.msgpack.encode(self._quotas.own))

    def _usage(self, row: EnvironmentRow) -> Usage:
        return Usage(row.thread, row.name, row.frames, self._quotas.quota(row.thread))

    def _frames_of(self, thread: int) -> int:
        row = self.environment.kip.environment_of(thread)
        return row.frames if row is not None else 0

    def _pool(self, thread: int) -> int:
        """Return the capability to RAM for *thread*'s extents."""
        pool = self._pools.get(thread)
        if pool is None:
            self._drop_dead_pools()
            pool = self._pools[thread] = self.environment.sys.derive(self._ram, int(ALL_RIGHTS))
        return pool

    def _drop_dead_pools(self) -> None:
        living = {row.thread for row in self.environment.kip.environments()}
        for thread in [thread for thread in self._pools if thread not in living]:
            # Its extents may have gone to a successor, or have been given away: then they are not ours to take.
            if not self.environment.sys.inspect(self._pools[thread]).holders:
                self.environment.sys.drop(self._pools.pop(thread))


def _first_ram(environment: Environment) -> int:
    """Return the capability to all RAM: the kernel gave it first, pools are derived from it."""
    rams = [
        handle for handle in environment.sys.inventory() if environment.sys.inspect(handle).kind == Kind.RAM
    ]
    if not rams:
        raise SystemExit('the memory server holds no RAM: give it holds = ["ram"] in system.toml')
    return rams[0]


def main() -> None:
    """Serve until the system ends."""
    environment = attach()
    serve(MemoryServer(environment), environment=environment)

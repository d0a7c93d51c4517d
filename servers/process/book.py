"""The process server's knowledge for its successor, in an estate that grows and shrinks with it.

The memory server provides the estate. It may be away: the process server restarts it, and so does not wait for
it. It may also refuse: then the estate is out of date, the log says so, and the write is tried again; until it
succeeds, nothing is begun that must be remembered.
"""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Kind
from libexo.errors import ExoError, IpcTimeout, NoPartner, NotFound, RemoteError
from libexo.estate import Estate
from servers.memory.api import Memory
from servers.process import policy
from servers.process.children import State

if TYPE_CHECKING:
    from libexo.environment import Environment
    from servers.process.keeper import Keeper

PAGES = 16
"""Frames of the estate at first, and at least."""
SPARE = (4, 2)
"""Room in a new estate, as a multiple of the need: more, so that it lasts, or else the two slots alone."""
SHRINK = 16
"""Once no more than this part of it is needed, it is changed for a smaller one."""
MEMORY_TIME = 0.1
"""Seconds the memory server has to answer: while we wait for it we serve nobody, and ask for no heartbeats."""


class Book:
    """Every child, with what is needed to answer for it, and the last exits."""

    def __init__(self, server: "Keeper") -> None:
        """Open the estate of a predecessor, if there was one."""
        self._server = server
        self._environment = server.environment
        self._extent, self._estate = inherited(server.environment)
        self._why = ""
        self._tries = False
        self.surplus: dict[int, None] = {}
        """Capabilities that are given up once what is written down no longer names them."""

    def load(self) -> State | None:
        """Return what a predecessor wrote down."""
        state = self._estate.load() if self._estate is not None else b""
        return msgspec.msgpack.decode(state, type=State) if state else None

    def keep(self, state: State) -> str:
        """Write *state* down, at once or later; return why the memory server refuses memory for it, or ""."""
        content, why = msgspec.msgpack.encode(state), ""
        try:
            extent, estate = self._suitable(len(content))
        except (NotFound, NoPartner, IpcTimeout):
            self._keep_later(policy.ASK_AGAIN)
            return ""
        except RemoteError as refused:
            why = str(refused)
            self._keep_later(policy.MAX_DELAY)
        else:
            estate.store(content)
            self._change_to(extent, estate)
            while self.surplus:
                self._environment.sys.give_up(self.surplus.popitem()[0])
        if why and not self._why:
            sys.stderr.write(f"what runs is not written down, which takes {len(content)} bytes: {why}\n")
        self._why = why
        return why

    def _change_to(self, extent: int, estate: Estate) -> None:
        """Write into *estate* from now on, and give up the one before."""
        before, self._extent, self._estate = self._extent, extent, estate
        if before and before != extent:
            self._environment.sys.give_up(before)

    def _keep_later(self, seconds: float) -> None:
        if not self._tries:
            self._tries = True
            self._server.server.after(seconds, self._try)

    def _try(self) -> None:
        self._tries = False
        self._server.keep()

    def _suitable(self, needed: int) -> tuple[int, Estate]:
        """Return an estate with room for *needed* bytes, not much more, and its extent.

        Raises RemoteError, NotFound, IpcError.
        """
        now = self._estate
        fits = now is not None and needed <= now.room
        if now is not None and fits and (2 * now.room <= PAGES * FRAME_SIZE or SHRINK * needed > now.room):
            return self._extent, now
        memory = Memory.connect(self._environment, timeout=MEMORY_TIME, patience=0)
        try:
            extent = _allocate(memory, [_pages(needed, spare) for spare in SPARE])
        except ExoError:
            if now is not None and fits:
                return self._extent, now  # too large, but there
            raise
        return extent, Estate(self._environment.views.map(extent), now)


def inherited(environment: "Environment") -> tuple[int, Estate | None]:
    """Return the extent and the estate that a predecessor left, or 0, None.

    It may have died while it changed from one to another: the last stored state counts, the other is given up.
    """
    sys = environment.sys
    estates = {handle: Estate(environment.views.map(handle)) for handle in sys.holdings(Kind.EXTENT)}
    if not estates:
        return 0, None
    latest = max(estates, key=lambda handle: estates[handle].sequence)
    for handle in estates:
        if handle != latest:
            sys.give_up(handle)
    return latest, estates[latest]


def _pages(needed: int, spare: int) -> int:
    """Return how many pages have room for *needed* bytes, *spare* times."""
    pages = PAGES
    while pages * FRAME_SIZE < spare * (needed + FRAME_SIZE):
        pages *= 2
    return pages


def _allocate(memory: Memory, sizes: Iterable[int]) -> int:
    """Return the handle of an extent of the first of *sizes* that is granted. Raises RemoteError, IpcError."""
    *before, last = sizes
    for pages in before:
        try:
            return memory.allocate(pages).handle
        except RemoteError:
            continue
    return memory.allocate(last).handle

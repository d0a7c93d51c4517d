"""The memory server: holds all RAM, carves extents on request, and grants them away; it is sigma0.

It can take back what it granted: extents are carved through a capability to RAM made for each caller
(`pools`), and revoking that takes all of the caller's, also what it carved by itself. Of memory it maps, as
sigma0, it keeps a capability (`lent`). The KIP shows how much each has. So after a restart only the quotas that
were set and the owners of the pools must be known, and these are in its estate: the one extent among
its capabilities that cannot be passed on.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.ids import FIRST_PROGRAM, show_thread, thread_number
from kernel.abi.kip import Head
from kernel.abi.rights import ALL_RIGHTS, Kind, Rights
from kernel.abi.traps import Carved
from libexo import attach
from libexo.environment import Environment
from libexo.errors import TrapRefused
from libexo.estate import Estate
from libexo.extent import Extent, GrantedExtent, Ram
from libexo.ipc.message import Message
from libexo.kip import EnvironmentRow
from libexo.levels import Marks, marks
from libexo.stub import DEFERRED, Server, publish
from servers.memory.api import Memory, Pressed, Pressure, Statistics, Taken, Usage
from servers.memory.asked import Asked
from servers.memory.families import Families
from servers.memory.lent import Held, Lent, Piece, is_lent
from servers.memory.policy import FrameBusy, MemoryRefused, NotAllowed, OutOfMemory, Party, Quotas, find_free
from servers.memory.pools import Pool, Pools
from servers.memory.pressing import Pressing
from servers.memory.promised import Promised
from servers.memory.shortage import Shortage
from servers.memory.shown import Shown

if TYPE_CHECKING:
    from servers.memory.sigma0 import Sigma0

T = TypeVar("T")


class _State(msgspec.Struct, array_like=True):
    """The content of the estate."""

    quotas: dict[int, int] = {}
    """Quotas that were set, by thread or family."""
    pools: dict[int, Pool] = {}
    """By thread."""


_STATE = msgspec.msgpack.Decoder(_State)
_POOL_FRAMES = 4096
"""Frames of RAM for each frame of the estate: of 256 MiB, enough for the pools of all environments."""
_PLACES = 4
"""How often a place is looked for that others take meanwhile."""
LOOK_AGAIN = 0.5
"""Seconds until the memory of an ended environment is free again, if it was mapped to it and not granted."""
_OWN_RIGHTS = int(ALL_RIGHTS & ~Rights.TRANSFER)
"""Frames the server carves for itself."""


class MemoryServer(Memory):
    """Serves `Memory`, and the protocols of `sigma0`."""

    def __init__(self, environment: Environment, arguments: Sequence[str] = ()) -> None:
        """Take over what the kernel gave, or a predecessor left; *arguments* set marks (`libexo.levels`)."""
        self.environment = environment
        held = _held(environment)
        self._ram = _first_ram(held)
        self._pools = Pools(environment, self._ram, self._write_down)
        self._estate = self._open_estate(held)
        written = self._estate.load()
        state = _STATE.decode(written) if written else _State()
        self._quotas = Quotas(environment.kip.head(Head.FRAME_COUNT), state.quotas)
        self._shown = Shown(environment, held)
        self._lent = Lent(
            environment, {handle: each for handle, each in held.items() if handle not in self._shown}
        )
        self._promised = Promised(environment)
        self._families = Families(environment)
        self._asked = Asked(environment)
        self._pressing = Pressing(
            environment, self._ram, self._families, self._pools, self._lent, self._promised, self._shown
        )
        self._shortage = Shortage(
            environment,
            _marks(environment, arguments),
            self._quotas,
            self._pressing,
            self._party,
            self._check,
        )
        self._sigma0: Sigma0 | None = None
        self._adopt_pools(held, state.pools)
        self.server = self._pressing.server = self._shortage.server = Server(environment, self)
        self.server.keeps = lambda: len(self._shortage) + len(self._pressing)
        self._looks = False
        """Whether it is going to look for owners that ended."""
        self._look_later()

    def _open_estate(self, held: Held) -> Estate:
        """Open the estate a predecessor left, or a new one. Others may write to memory that was handed out."""
        for handle, inspection in held.items():
            if inspection.kind == Kind.EXTENT and not is_lent(inspection) and not inspection.origin:
                return Estate(self.environment.views.map(handle))
        sys = self.environment.sys
        own = sys.derive(self._ram, _OWN_RIGHTS)
        pages = max(1, self.environment.kip.head(Head.FRAME_COUNT) // _POOL_FRAMES)
        return Estate(self.environment.views.map(sys.carve(own, pages).extent))

    def _adopt_pools(self, held: Held, pools: dict[int, Pool]) -> None:
        """Go on with the *pools* of a predecessor; give up those that were made and not written down."""
        sys, own = self.environment.sys, {pool.handle: thread for thread, pool in pools.items()}
        for handle in [handle for handle, found in held.items() if found.kind == Kind.RAM]:
            if handle in own:
                self._pools.adopt(own[handle], pools[own[handle]])
            elif handle != self._ram and not sys.inspect(handle).holders:
                sys.drop(handle)

    def _write_down(self) -> None:
        """Store what a successor needs. Raises OutOfMemory: then the estate is as before."""
        state = msgspec.msgpack.encode(_State(self._quotas.own, self._pools.known))
        if len(state) > self._estate.room:
            raise OutOfMemory(f"{len(self._pools)} programs have memory: there is no room to remember more")
        self._estate.store(state)

    def allocate(self, pages: int, first: int = -1) -> Extent:
        """Carve, and grant."""
        return self._with(self._caller(), pages, lambda row: self._granted(row, pages, first))

    def try_allocate(self, pages: int) -> Extent:
        """Carve, and grant."""
        return self._with(self._caller(), pages, lambda row: self._granted(row, pages, -1), waits=False)

    def _with(
        self, row: EnvironmentRow, pages: int, do: Callable[[EnvironmentRow], T], *, waits: bool = True
    ) -> T:
        """Do what needs *pages* frames, at once or when others have given back: then the caller is told later."""
        try:
            self._check(row, pages)
            done = do(row)
        except OutOfMemory as why:
            origin = self.call.message.origin
            if not waits or origin is None or not origin.answers:
                raise
            self._shortage.wait(self.call, row, pages, do, why)
            later: T = DEFERRED
            return later
        self._shortage.look()
        return done

    def _granted(self, row: EnvironmentRow, pages: int, first: int) -> Extent:
        carved = self._carve(row, self._pools.of(row), pages, first)
        self._promised.add(row, carved.extent, pages)
        self._look_later()
        return GrantedExtent(carved.extent, pages, carved.first, int(ALL_RIGHTS))

    def place(self, pages: int, colours: int, colour: int = 0) -> Extent:
        """Look for such a run, and carve it; again, where a program carved there by itself meanwhile."""
        if colour >= colours:
            raise MemoryRefused(f"colour {colour} of {colours}: name one from 0 to {colours - 1}")
        return self._with(self._caller(), pages, lambda row: self._placed(row, pages, colours, colour))

    def _placed(self, row: EnvironmentRow, pages: int, colours: int, colour: int) -> Extent:
        users, last = self.environment.kip.frame_users(), _PLACES - 1
        for tries in range(_PLACES):
            try:
                return self._granted(row, pages, find_free(users, pages, colours, colour=colour))
            except FrameBusy:
                if tries == last:
                    raise
        raise AssertionError("a loop that returns or raises")

    def ram(self) -> Ram:
        """Pass on a capability to the caller's pool."""
        pool = self._pools.of(self._caller())
        self._look_later()
        return Ram(pool, self.environment.kip.head(Head.FRAME_COUNT), 0, int(ALL_RIGHTS))

    def promise(self, pages: int) -> None:
        """Narrow others, check that the caller may have so many, and set its limit."""
        self._claim(pages, waits=False)

    def claim(self, pages: int) -> None:
        """Do the same, perhaps later."""
        return self._claim(pages, waits=True)

    def _claim(self, pages: int, *, waits: bool) -> None:
        self._pools.carved(self._caller())
        self._look_later()
        if pages:
            return self._with(self._caller(), pages, lambda row: self._promise(row, pages), waits=waits)
        return None

    def _promise(self, row: EnvironmentRow, pages: int) -> None:
        self._pools.promise(row, self._pools.carved(row) + pages)

    def _caller(self) -> EnvironmentRow:
        row = self._environment_of(self.call.sender)
        if row is None:
            raise NotAllowed("the caller has ended")
        return row

    def statistics(self) -> Statistics:
        """Read the KIP."""
        kip = self.environment.kip
        self._lent.attend()
        self._promised.review()
        unused = self._pools.unused()
        users = [
            self._usage(row, unused.get(row.thread, 0))
            for row in kip.environments()
            if row.frames or unused.get(row.thread)
        ]
        return Statistics(kip.head(Head.FRAME_COUNT), kip.head(Head.FREE_FRAMES), users)

    def set_quota(self, thread: int, frames: int) -> None:
        """Set it, and keep it."""
        if thread_number(self.call.sender) >= FIRST_PROGRAM:
            raise NotAllowed("quotas are set by servers")
        named = self._existing(thread)
        living = {key for row in self.environment.kip.environments() for key in (row.thread, row.family)}
        own = {key: quota for key, quota in self._quotas.own.items() if key in living}
        key = named.family if named.is_first else named.thread
        self._quotas.own = own | {key: frames}
        self._write_down()

    def _existing(self, thread: int) -> EnvironmentRow:
        """Return the environment of *thread*, which a caller named. Raises NotAllowed."""
        named = self._environment_of(thread)
        if named is None:
            raise NotAllowed(f"thread {show_thread(thread)} does not exist: it ended, or never did")
        return named

    def press(self, thread: int, frames: int, seconds: float) -> Pressed:
        """Ask, and answer when it is over."""
        if self._caller().family:
            raise NotAllowed("frames are asked for by servers and operators")
        named = self._existing(thread)
        if not named.family:
            raise NotAllowed(f"{named.name} is a server, or an operator's: it keeps what it has")
        self._pressing.begin(named, frames, seconds, self.call.answer, whole=named.is_first)
        later: Pressed = DEFERRED
        return later

    def show(self, extent: Extent) -> None:
        """Keep the capability that came."""
        row = self._caller()
        try:
            self._shown.add(row, self._families.members(row), extent.handle)
        except BaseException:
            self.environment.sys.give_up(extent.handle)
            raise

    def holds(self, thread: int) -> int:
        """Count as a press does; that takes a look at all of RAM."""
        if self._caller().family:
            raise NotAllowed("what others hold is told to servers and operators")
        return self._pressing.holds(self._existing(thread))

    def pressure(self) -> Pressure:
        """Compare what is free with the marks."""
        marks, free = self._shortage.marks, self._shortage.free
        return Pressure(marks.level(free), free, marks.low, marks.high, marks.reserve, len(self._shortage))

    def taken(self) -> list[Taken]:
        """Return what was noted."""
        return self._pressing.taken(self._caller().thread)

    def foreign_message(self, sender: int, message: Message) -> Message | None:
        """Answer as sigma0; None: it is not a request of X.2's, either."""
        if self._sigma0 is None:
            from servers.memory.sigma0 import Sigma0  # noqa: PLC0415 - few systems have X.2 programs

            self._sigma0 = Sigma0(
                self.environment,
                self._lent,
                self._families,
                self._check,
                self._carve_to_map,
                self._shortage.wait,
                _log,
            )
        self._lent.attend()
        row = self._environment_of(sender)
        answer = self._sigma0.answer(row, sender, message) if row is not None else None
        self._look_later()
        return answer

    def _look_later(self) -> None:
        """While anything is kept for others, check from time to time whether they live."""
        if (len(self._lent) or len(self._promised) or len(self._pools)) and not self._looks:
            self._looks = True
            self.server.after(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        self._looks = False
        self._lent.attend()
        self._promised.review()
        self._pools.drop_dead()
        self._pressing.forget_dead()
        self._shortage.look()
        self._look_later()

    def _environment_of(self, sender: int) -> EnvironmentRow | None:
        """Return the environment of thread *sender*, which need not be its first; None: it has ended."""
        kip = self.environment.kip
        if (row := kip.environment_of(sender)) is not None:
            return row
        thread = kip.thread(sender)
        rows = kip.environments() if thread is not None else []
        return next((row for row in rows if thread is not None and row.number == thread.environment), None)

    def _check(self, row: EnvironmentRow, pages: int) -> None:
        """Raise MemoryRefused unless *row*'s environment may have *pages* frames more."""
        self._lent.attend()
        self._pressing.check(row, pages)
        try:
            self._check_quota(row, pages)
        except MemoryRefused:
            self._promised.review()
            self._check_quota(row, pages, narrows=True)
            self._narrow_for(row, pages)

    def _check_quota(self, row: EnvironmentRow, pages: int, *, narrows: bool = False) -> None:
        """Raise MemoryRefused unless *row* may have *pages* more; *narrows*: as if nothing was promised."""
        free = self._shortage.free - (0 if narrows else self._pools.promised_to_all())
        self._quotas.check(self._party(row, narrows=narrows), pages, max(free, 0))

    def _party(self, row: EnvironmentRow, *, narrows: bool = True) -> Party:
        """Return what *row*'s environment and its family have; what is promised counts, unless that *narrows*."""
        row = self._environment_of(row.thread) or row
        members = self._families.members(row)
        used = self._frames(row)
        together = sum(map(self._frames, members)) + self._asked.elsewhere(members)
        if not narrows:
            used += self._pools.promised([row])
            together += self._pools.promised(members)
            # Frames they carved and passed on are in no row of theirs.
            together = max(together, self._pools.taken(members) + self._asked.in_use(members))
        return Party(row.thread, row.family, used, together)

    def _narrow_for(self, row: EnvironmentRow, pages: int) -> None:
        """Take back unused promises, until *row* may have *pages*. Raises MemoryRefused."""
        for some in self._pools.limited(self._families.members(row)):
            self._pools.narrow(some)
            with suppress(OutOfMemory):
                return self._check_quota(row, pages)
        return self._check_quota(row, pages)

    def _frames(self, row: EnvironmentRow) -> int:
        """Return how many frames are, or count as, *row*'s environment's."""
        return row.frames + self._lent.unheld(row) + self._promised.frames(row)

    def _carve(self, row: EnvironmentRow, ram: int, pages: int, first: int) -> Carved:
        """Make *pages* frames of *ram* into an extent for *row*. Raises FrameBusy, OutOfMemory, TrapRefused."""
        try:
            carved = self.environment.sys.carve(ram, pages, first)
        except TrapRefused as refused:
            if refused.refusal == Refusal.FRAME_BUSY:
                raise FrameBusy(refused.detail) from refused
            if refused.refusal in (
                Refusal.NO_FRAMES,
                Refusal.HOST_FULL,
                Refusal.TABLE_FULL,
                Refusal.OVER_BUDGET,
            ):
                raise OutOfMemory(refused.detail) from refused
            raise
        self._asked.add(row.family, carved.first, pages)
        return carved

    def _carve_to_map(self, row: EnvironmentRow, pages: int, first: int) -> Piece:
        carved = self._carve(row, self._ram, pages, first)
        return Piece(carved.first, pages, carved.extent)

    def _usage(self, row: EnvironmentRow, promised: int) -> Usage:
        quota = self._quotas.quota(row.thread, row.family)
        return Usage(row.thread, row.name, row.frames, quota, row.family, promised)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _marks(environment: Environment, arguments: Sequence[str]) -> Marks:
    try:
        return marks(environment.kip.head(Head.FRAME_COUNT), arguments)
    except ValueError as error:
        raise SystemExit(f"the memory server's arguments: {error}") from error


def _held(environment: Environment) -> Held:
    """Inspect every capability of the server: a predecessor may have left many."""
    return environment.sys.inspections(environment.sys.inventory())


def _first_ram(held: Held) -> int:
    """Return the capability to all RAM: the kernel gave it first, pools are derived from it."""
    ram = next((handle for handle, inspection in held.items() if inspection.kind == Kind.RAM), None)
    if ram is None:
        raise SystemExit('the memory server holds no RAM: give it holds = ["ram"] in system.toml')
    return ram


def main(arguments: Sequence[str] = ()) -> None:
    """Serve until the system ends."""
    environment = attach()
    memory = MemoryServer(environment, arguments)
    if environment.kip.lookup(Memory.default_name) != environment.thread.id:
        publish(environment, Memory.default_name)
    memory.server.run()

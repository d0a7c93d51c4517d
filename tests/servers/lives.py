"""Programs that do anything with memory, in any order, by a seed.

Each page of plain, paged or shared memory begins with its own number, or zero: nobody may find anything else there.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from hwmodel.simulated.mmu import is_bus_error
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.program import ProgramKind
from kernel.abi.rights import Rights
from libexo import ipc, pressure, vm
from libexo.environment import Environment
from libexo.errors import ExoError, GateClosed, TrapRefused
from libexo.extent import Extent, Ram
from libexo.heap import Block, Heap
from libexo.ipc.message import GrantItem, MapItem
from libexo.pager import Fault, PagedObject, PageState
from servers.memory.api import Memory, Pager
from servers.memory.policies import POLICIES
from servers.process.api import Processes, ProgramSpec, Restart

SHARED = int(Rights.READ | Rights.TRANSFER)
WRITTEN = SHARED | int(Rights.WRITE)
MOST, REST, PATIENCE = 8, 1.5, 1.5
"""Things of a kind that one has; seconds between two steps; seconds that a fault of a page waits."""


T = TypeVar("T")


class Idle(Exception):
    """There is nothing to do it with."""


class World(Protocol):
    """What lives know of one another."""

    did: Counter[str]
    closing: bool
    density: int
    """How much faster than usual they live."""

    def peers(self) -> list[int]:
        """Return the threads of all that live."""

    def born(self) -> str:
        """Return the name of a new program, which the process server can start."""

    def stepped(self, what: str) -> None:
        """Note that a step was done."""


class Life:
    """One program."""

    def __init__(self, env: Environment, world: World, seed: str) -> None:
        self.env, self.world, self.draw = env, world, random.Random(seed)
        self.memory, self.pager = Memory.connect(env, timeout=2), Pager.connect(env, timeout=2)
        self.processes = Processes.connect(env, timeout=0.2)
        self.heap, self.blocks = Heap(env, chunk=4), list[Block]()
        self.have, self.lent, self.swapped = list[Extent](), list[Extent](), list[Extent]()
        self.stores, self.kept = list[PagedObject](), dict[tuple[int, int], bytes]()
        self.views: dict[int, memoryview] = {}
        self.ram: Ram | None = None
        self.rules: pressure.Rules | None = None
        self.children: list[int] = []
        self.steps: dict[Callable[[], object], int] = {
            self.allocate: 8, self.place: 2, self.carve: 6, self.grow: 6, self.shrink: 5, self.trim: 1,
            self.touch: 24, self.unmap: 4, self.share: 9, self.give: 4, self.revoke: 4, self.narrow: 2,
            self.drop: 8, self.say: 2, self.make: 3, self.evict: 4, self.close: 2, self.swap: 3, self.turn: 1,
            self.release: 2, self.start: 1, self.look_after: 2,
        }  # fmt: skip
        if self.draw.random() < 0.5:
            pressure.on_pressure(env, lambda frames, _: self.spare(frames))

    def live(self) -> None:
        """Take steps until it is time to end."""
        names, weights = list(self.steps), list(self.steps.values())
        for _ in range(self.draw.randint(10, 300)):
            [step] = self.draw.choices(names, weights)
            self.world.stepped(self.attempt(step))
            self.attempt(self.receive)
            if self.world.closing:
                return

    def attempt(self, step: Callable[[], object]) -> str:
        """Do it; return what was done, or not."""
        try:
            step()
        except GateClosed:
            raise
        except ExoError:
            self.look()
            return f"{step.__name__} refused"
        except Idle:
            return "idle"
        return step.__name__

    def look(self) -> None:
        """Forget what was taken."""
        mine = set(self.env.sys.inventory())
        for some in (self.have, self.lent, self.swapped):
            some[:] = [each for each in some if each.handle in mine]
        self.views = {handle: view for handle, view in self.views.items() if handle in mine}
        self.stores = [each for each in self.stores if each.extent.handle in mine]

    def one(self, things: Sequence[T]) -> T:
        """Return one of them. Raises Idle where there are none."""
        if not things:
            raise Idle
        return self.draw.choice(things)

    def out(self, things: list[T]) -> T:
        """Take one of them out."""
        thing = self.one(things)
        things.remove(thing)
        return thing

    # -------------------------------------------------------------------------------------------- its own memory

    def allocate(self) -> None:
        self.take(self.memory.allocate(self.draw.randint(1, 9)))

    def place(self) -> None:
        self.take(self.memory.place(self.draw.randint(1, 4), 8, self.draw.randrange(8)))

    def carve(self) -> None:
        pages = self.draw.randint(1, 6)
        extent, view = vm.carve(self.env, self.promised(pages), pages)
        self.views[extent.handle] = view
        self.take(extent)

    def promised(self, pages: int) -> Ram:
        """Return RAM from which so many frames can be carved, if nobody takes them first."""
        self.memory.promise(pages)
        if self.ram is None or self.ram.handle not in self.env.sys.inventory():
            self.ram = self.memory.ram()
        return self.ram

    def take(self, extent: Extent) -> None:
        """Have a new one, in which there is nothing yet."""
        view = self.view(extent)
        assert bytes(view) == bytes(extent.size), f"{extent} is not all zeros"
        self.have.append(extent)
        while len(self.have) > MOST:
            self.let_go()

    def view(self, extent: Extent) -> memoryview:
        if extent.handle not in self.views:
            self.views[extent.handle] = vm.map(self.env, extent)
        return self.views[extent.handle]

    def touch(self) -> None:
        """Read a page of anything, and write to it."""
        extent = self.one([*self.have, *2 * self.swapped, *3 * self.lent])
        view, page = self.view(extent), self.draw.randrange(extent.pages)
        write = extent.writable and not view.readonly and self.draw.random() < 0.6
        vm.touch(self.env, view, page * FRAME_SIZE, FRAME_SIZE, write=write)
        head = view[page * FRAME_SIZE : page * FRAME_SIZE + 8]
        number = int.from_bytes(head, "little")
        assert number in (0, page + 1), f"page {page} of {extent} begins with {number:#x}"
        if write:
            head[:] = (page + 1).to_bytes(8, "little")

    def unmap(self) -> None:
        vm.unmap(self.env, self.views.pop(self.one(list(self.views))))

    def let_go(self) -> None:
        """Give up the oldest."""
        if self.have:
            self.forget(self.have.pop(0))

    def spare(self, frames: int) -> None:
        """Give back what is asked for, or more."""
        for _ in range(frames):
            self.let_go()

    def forget(self, extent: Extent) -> None:
        view = self.views.pop(extent.handle, None)
        if view is not None:
            vm.unmap(self.env, view)
        with suppress(TrapRefused):
            self.env.sys.drop(extent.handle)

    def drop(self) -> None:
        self.forget(self.out(self.draw.choice((self.have, self.have, self.lent))))

    def grow(self) -> None:
        if len(self.blocks) == 4 * MOST:
            raise Idle
        self.blocks.append(self.heap.allocate(self.draw.choice((10, 900, 5_000, 20_000))))
        self.blocks[-1].view[:1] = b"x"

    def shrink(self) -> None:
        self.heap.free(self.out(self.blocks))

    def trim(self) -> None:
        self.heap.trim()

    def say(self) -> None:
        """Say what may go first, and what last."""
        if self.rules is None:
            self.rules = pressure.Rules(self.env)
        if len(self.have) < 3:
            raise Idle
        self.rules.set(first=[self.have[0], (self.have[1], self.have[2])], spared=self.have[2:])

    # -------------------------------------------------------------------------------------------- that of others

    def share(self) -> None:
        """Let another map anything that can be passed on."""
        found = [*self.have, *self.lent, *self.swapped, *4 * [store.extent for store in self.stores]]
        extent = self.one([each for each in found if each.rights & Rights.TRANSFER])
        self.send(MapItem(extent.handle, self.draw.choice((SHARED, WRITTEN)) & extent.rights))

    def give(self) -> None:
        """Give another what can be passed on, mapped or not."""
        extent = self.one([each for each in self.have if each.rights & Rights.TRANSFER])
        self.send(GrantItem(extent.handle, extent.rights & WRITTEN))
        self.have.remove(extent)
        self.views.pop(extent.handle, None)

    def send(self, item: MapItem | GrantItem) -> None:
        to = self.one([each for each in self.world.peers() if each != self.env.thread.id])
        self.env.thread.send(to, ipc.Message(items=(item,)), timeout=self.draw.choice((0.01, 0.3)))

    def receive(self) -> None:
        """Rest, and take what comes."""
        _, message = self.env.thread.wait(timeout=self.draw.expovariate(self.world.density / REST))
        for item in message.items:
            assert isinstance(item, MapItem | GrantItem)
            found = self.env.sys.inspect(item.handle)
            some = self.lent if isinstance(item, MapItem) else self.have
            some.append(Extent(item.handle, found.count, found.first, found.rights))
            self.world.did["received"] += 1
        while len(self.lent) > MOST // 2:
            self.forget(self.lent.pop(0))

    def revoke(self) -> None:
        vm.revoke(self.env, self.one([*self.have, *self.lent]), self.draw.choice((0, 0, 0.05, 0.5)))

    def narrow(self) -> None:
        """Derive one with fewer rights."""
        of = self.one(self.have)
        handle = self.env.sys.derive(of.handle, of.rights & SHARED)
        self.have.append(Extent(handle, of.pages, of.first, of.rights & SHARED))

    # -------------------------------------------------------------------------------------------- as a pager

    def make(self) -> None:
        """Make an object, more pages than frames."""
        if len(self.stores) == 2:
            raise Idle
        frames = self.draw.randint(2, 5)
        pages = frames + self.draw.randint(0, 12)
        ram = self.promised(frames)
        self.stores.append(PagedObject(self.env, ram, pages, frames, self.fill, patience=PATIENCE))

    def fill(self, store: PagedObject, fault: Fault) -> None:
        """Answer a fault, unless the object was taken."""
        self.world.did["faults"] += 1
        with suppress(TrapRefused):
            known = [store.known(page) & PageState.SUPPLIED for page in range(store.pages)]
            if not known[fault.page]:
                if sum(map(bool, known)) >= store.frames:
                    self.save(store, self.draw.choice([page for page in range(store.pages) if known[page]]))
                head = self.kept.get((store.extent.handle, fault.page), b"")
                store.store(fault.page, head or (fault.page + 1).to_bytes(8, "little"))
            store.supply(fault.page)

    def save(self, store: PagedObject, page: int) -> None:
        """Guard a page, save it where it was written, and evict it."""
        [state] = store.guard(page)
        if state & PageState.WRITTEN:
            self.kept[store.extent.handle, page] = store.load(page)
        store.evict(page)
        self.world.did["evicted"] += 1

    def evict(self) -> None:
        store = self.one(self.stores)
        states = store.states(0, store.pages)
        for page in [page for page, state in enumerate(states) if state & PageState.SUPPLIED][:2]:
            self.save(store, page)
        store.sweep()

    def close(self) -> None:
        store = self.out(self.stores)
        self.kept = {at: kept for at, kept in self.kept.items() if at[0] != store.extent.handle}
        store.close()

    # -------------------------------------------------------------------------------------------- with servers

    def swap(self) -> None:
        if len(self.swapped) == 2:
            raise Idle
        pages, policy = self.draw.randint(9, 24), self.draw.choice(list(POLICIES))
        self.swapped.append(self.pager.paged(pages, 8, policy=policy, around=self.draw.choice((1, 4))))

    def turn(self) -> None:
        self.pager.set_policy(self.one(self.swapped).first, self.draw.choice(list(POLICIES)))

    def release(self) -> None:
        extent = self.out(self.swapped)
        view = self.views.pop(extent.handle, None)
        if view is not None:
            vm.unmap(self.env, view)
        self.pager.release(extent.first)
        self.forget(extent)

    def start(self) -> None:
        """Have a child, of the same family, which may map no paged memory."""
        name = self.world.born()
        restart: Restart = self.draw.choice(("never", "never", "never", "on-failure"))
        spec = ProgramSpec(int(ProgramKind.PYTHON), (name,), name, restart=restart)
        self.children.append(self.processes.spawn(spec))

    def look_after(self) -> None:
        """Kill a child, or wait for it."""
        child = self.one(self.children)
        if self.draw.random() < 0.3:
            self.processes.kill(child)
        self.processes.wait(child)
        self.children.remove(child)


def is_death(error: BaseException) -> bool:
    """Say whether a program ends of *error* as it may: its memory was taken, or its gate is closed."""
    return is_bus_error(error) or isinstance(error, GateClosed)

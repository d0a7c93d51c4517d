"""Every trap with every host call it makes failing in turn: the caller is refused, and nothing has changed."""

import errno
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from hwmodel.failures import HostFailure
from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.abi.topology import ServerConfig, Topology
from libexo import attach
from libexo.errors import TrapRefused
from libexo.testing import simulated
from tests.abi.world import NUMBER, PROGRAM, World, refusal_of
from tests.kernel.passing import passed
from tests.kernel.puppets import faults, theatre, wait_for_ever

ERRORS = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EFBIG,
    errno.EPERM,
    errno.ETOOMANYREFS,
)
CASES: dict[str, Callable[[Any], list[Any]]] = {
    **{trap.__name__: lambda w, t=trap: [NUMBER[t], *w.arguments(t)] for trap in traps.TRAPS.values()},  # type: ignore[misc]
    "Carve, junk": lambda w: [NUMBER[traps.Carve], w.ram, 1, w.used, False],
    "Revoke, mapped": lambda w: [NUMBER[traps.Revoke], w.shared, 0],
    "Revoke, rights": lambda w: [NUMBER[traps.Revoke], w.shared, 0, -1, 0, int(Rights.READ)],
    "Derive, part": lambda w: [NUMBER[traps.Derive], w.mapped, 4, 1, 0],
    "Revoke, by frame": lambda w: [NUMBER[traps.Revoke], w.ram, 0, w.caller.sys.inspect(w.extent).first],
    "Drop, mapped": lambda w: [NUMBER[traps.Drop], w.part],
    "Accept, mapped": lambda w: [NUMBER[traps.Accept], w.victim.thread, w.granted, 31],
    "Bind, plain": lambda w: [NUMBER[traps.Bind], w.victim.thread, 0, 0],
    "Bind, mapped": lambda w: [NUMBER[traps.Bind], w.victim.thread, 0, w.mapped],
    "EnvironmentCreate, keeps": lambda w: [
        NUMBER[traps.EnvironmentCreate],
        w.factory,
        "kept",
        PROGRAM,
        -1,
        True,
        0,
        [],
    ],
    "EnvironmentCreate, succeeds": lambda w: [
        NUMBER[traps.EnvironmentCreate],
        w.factory,
        "heir",
        PROGRAM,
        -1,
        False,
        w.dead,
        [],
    ],
    "Window, again": lambda w: [NUMBER[traps.Window], w.paged, w.window, 0, 1],
    "Supply, awaited": lambda w: [NUMBER[traps.Supply], w.backed, 1, 1],
    "Supply, a run awaited": lambda w: [NUMBER[traps.Supply], w.backed, 1, 2],
    "Evict, seen": lambda w: [NUMBER[traps.Evict], w.backed, 0, 3],
    "Protect, seen": lambda w: [NUMBER[traps.Protect], w.backed, 0, 3, 2],
    "Revoke, paged": lambda w: [NUMBER[traps.Revoke], w.backed, 0],
    "Drop, paged": lambda w: [NUMBER[traps.Drop], w.backed],
    "Batch": lambda w: [
        NUMBER[traps.Batch],
        [
            [NUMBER[traps.KernelInterface]],
            [NUMBER[traps.Carve], w.ram, 1, -1, True],
            [NUMBER[traps.Bind], w.victim.thread, 0, 0],
        ],
    ],
}


class Rich(World):
    """The caller has more: memory that others have mapped, a grant, somebody to succeed."""

    def renew(self) -> Any:  # noqa: ANN401 - a puppet
        caller, stage = super().renew(), self.stage
        victim, free = self.victim, ALL_RIGHTS & ~Rights.EXECUTE
        self.used = stage.kernel.frames.total - 1
        caller.sys.drop(caller.sys.carve(self.ram, 1, self.used).extent)
        self.shared = caller.sys.carve(self.ram, 1).extent
        self.view = caller.env.views.map(self.shared)
        self.seen = victim.env.views.map(passed(caller, self.shared, victim, Rights.READ))
        whole = caller.sys.carve(self.ram, 1).extent
        self.part = caller.sys.derive(whole, free)
        victim.env.views.map(passed(caller, self.part, victim, Rights.READ))
        self.mapped = caller.sys.carve(self.ram, 3).extent
        self.contents = caller.env.views.map(self.mapped)
        self.contents[0] = self.view[0] = 7
        self._page(caller)
        given = victim.sys.carve(victim.handles[0], 1).extent
        victim.env.views.map(given)
        self.granted = victim.sys.transfer(given, caller.thread, 6, grant=True)
        dead = stage.puppet("dead", keeps=True)
        self.dead = stage.system.give(caller.task, dead.environment).handle
        stage.kill(dead)
        return caller

    def _page(self, caller: Any) -> None:  # noqa: ANN401 - a puppet
        """Make an object of which somebody sees one page, and waits for the next."""
        viewer = self.stage.puppet("viewer")
        self.backed = caller.sys.object_create(traps.ObjectCreate(self.ram, 3, 4)).extent
        stored = caller.env.views.map(self.backed)
        for page in range(3):
            caller.host.touch(stored, page * FRAME_SIZE, 1, write=True)
            stored[page * FRAME_SIZE] = 1 + page
        caller.sys.supply(self.backed, 0)
        seen = viewer.env.views.map(passed(caller, self.backed, viewer, Rights.READ | Rights.WRITE))
        for page in (0, 1):
            viewer.body.touch(seen, page * FRAME_SIZE, write=False)
        self.stage.settle()

    def books(self) -> tuple[object, ...]:
        """The state that a refused trap must leave unchanged."""
        kernel, caller = self.stage.kernel, self.caller
        return (
            [(c.handle, c.rights) for c in caller.caps],
            [(c.handle, c.rights) for c in self.victim.caps],
            [(e.number, e.name, e.alive, e.keeps) for e in kernel.environments],
            kernel.frames.free,
            [*caller.environment.outgoing],
            sorted(
                repr(d.target.kind + d.owner)
                for d in self.stage.machine.open_descriptors()
                if d.target.kind != "endpoint"
            ),
            self.view[0],
            bytes(caller.sys.protect(self.backed, 0, 4)),
        )


@pytest.fixture
def world() -> Iterator[Rich]:
    with theatre() as stage:
        made = Rich(stage)
        made.renew()
        yield made
        made.check()


def attempt(world: Rich, packet: bytes, fails: HostFailure | None = None) -> tuple[int | None, list[str]]:
    """Make the trap; return the refusal, or None, and which host calls were made until it was answered."""
    failures, calls = world.stage.machine.failures, world.stage.machine.calls
    if fails is not None:
        failures.fail_call(fails)
    calls.names, calls.listening = [], True
    answer = world.caller.raw(packet)
    calls.listening = False
    assert answer is not None, (fails, calls.names)
    return refusal_of(answer), calls.names


def refused_and_unchanged(world: Rich, case: str, packet: bytes, at: int) -> bool:
    """Have the *at*-th host call of the trap fail with each error; False: it was done without that call."""
    before = world.books()
    for number in ERRORS:
        fails = HostFailure(world.stage.machine.calls.count + at, number)
        refused, names = attempt(world, packet, fails)
        assert world.stage.machine.failures.failed_calls[-1] == fails, f"{case} makes {len(names)} host calls"
        world.stage.settle()
        world.caller.upcalls()
        world.check()
        if refused is None:
            return False
        assert refused == Refusal.HOST_FULL, names
        assert world.books() == before, names
        # But for a ring whose sender could not be given its ends: its memory was new, and is of zeros.
        assert not faults(world.contents) or ("Bind" in case and "sendmsg" in names)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_call_fails(world: Rich, case: str) -> None:
    """For each host call and each error: HOST_FULL or done without, every invariant holds, and again it is done."""
    made = CASES[case](world)
    refused, names = attempt(world, msgspec.msgpack.encode(made))
    assert refused is None
    for at in range(1, len(names) + 1):
        world.renew()
        packet = msgspec.msgpack.encode(CASES[case](world))
        if refused_and_unchanged(world, case, packet, at):
            assert attempt(world, packet)[0] is None


@pytest.mark.slow
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_births_and_deaths(number: int) -> None:
    """Whichever host call fails while programs are born, share memory, die and are succeeded: life goes on."""
    at, most, said = 0, 0, set[str]()
    while at <= most:
        with theatre() as stage:
            stage.machine.programs["child"] = lambda: wait_for_ever(attach())
            start = stage.machine.calls.count
            stage.machine.failures.fail_call(HostFailure(start + at, number))  # the first time: none
            try:
                a, b = stage.puppet(holds=("ram",)), stage.puppet(keeps=True)
                stage.system.give(a.task, b.environment)
                extent = a.sys.carve(a.handles[0], 1).extent
                part = a.sys.derive(extent, 6 | Rights.TRANSFER)
                a.env.views.map(extent)
                b.env.views.map(passed(a, part, b, Rights.READ))
                a.sys.drop(part)
                stage.kill(b)
                stage.heir(b)
                stage.kill(a)
            except (TrapRefused, Exhausted) as refused:
                said.add(str(refused).rpartition("[")[2].partition("]")[0])
            stage.settle()
            stage.check()
            most = max(most, stage.machine.calls.count - start)
        at += 1

    assert most > 20
    assert said == {errno.errorcode[number]}


@pytest.mark.slow
def test_a_root_task_comes_back() -> None:
    """Whichever host call of its restart fails, it is tried again, and the system goes on."""
    topology = Topology(
        server={"root": ServerConfig(thread=98, module="child", holds=("factory",), restart="always")}
    )
    for at in range(1, 12):
        with simulated(topology) as system:
            system.machine.programs["child"] = lambda: wait_for_ever(attach())
            system.machine.drive(system.supervisor, limit=0)
            root = system.kernel.environments.named("root")
            assert root is not None
            root.body.kill()
            calls = system.machine.calls
            system.machine.failures.fail_call(HostFailure(calls.count + at, errno.EMFILE))
            system.pass_time(1)
            heir = system.kernel.environments.named("root")

            assert heir is not None
            assert heir.thread != root.thread

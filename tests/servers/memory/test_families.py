"""A program and all its descendants have one quota, and no number of families takes what servers need."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from libexo import l4
from libexo.environment import Environment
from libexo.errors import IpcError, RemoteError
from libexo.ipc.message import GrantItem, Message
from libexo.kip import EnvironmentRow
from libexo.testing import System
from servers.memory.api import Memory
from servers.memory.policy import Quotas
from servers.process.api import Processes, ProgramSpec
from tests.servers.memory.stage import NIL, item, rpc
from tests.servers.rig import command, kill, offer, servers

TOTAL = 256
"""Frames of the simulated machine."""


def take_all(env: Environment) -> None:
    """Take all one is given, in ever smaller pieces."""
    memory, size = Memory.connect(env), TOTAL
    while size:
        try:
            memory.allocate(size)
        except RemoteError:
            size //= 2


def hog(env: Environment) -> None:
    take_all(env)
    env.thread.sleep(10_000)


def later(seconds: float) -> Callable[[Environment], None]:
    def program(env: Environment) -> None:
        env.thread.sleep(seconds)
        hog(env)

    return program


def sigma0_hog(env: Environment) -> None:
    for log2 in range(20, 11, -1):
        while item(rpc(env, l4.FpageLog2((1 << 64) - 1, log2))) != NIL:
            pass
    env.thread.sleep(10_000)


def parent_of(*specs: ProgramSpec, then: Callable[[Environment], None]) -> Callable[[Environment], None]:
    """A program that starts others, and then does something itself."""

    def parent(env: Environment) -> None:
        for spec in specs:
            Processes.connect(env).spawn(spec)
        then(env)

    return parent


def start(system: System, spec: ProgramSpec) -> int:
    """Start a program for an operator, and let it have its way; return its thread."""
    thread = command(system, lambda env: Processes.connect(env).spawn(spec))
    system.pass_time(2)
    assert isinstance(thread, int)
    return thread


def frames(system: System) -> dict[str, int]:
    """Return how many frames each program has that has any."""
    return {e.name: e.frames for e in system.kernel.environments if e.frames and e.alive and e.budget.family}


def kip_rows(system: System) -> list[EnvironmentRow]:
    """Return the rows of the KIP, as a program reads them."""
    rows = command(system, lambda env: env.kip.environments())
    assert isinstance(rows, list)
    return rows


def family(system: System, name: str) -> int:
    """Return of which family the program called *name* is."""
    return next(row.family for row in kip_rows(system) if row.name == name)


@pytest.mark.parametrize("takes", [hog, sigma0_hog])
def test_descendants_have_one_quota(takes: Callable[[Environment], None]) -> None:
    """A program, its child and its grandchild, all of which take what they can, have half of RAM together."""
    with servers() as system:
        grandchild = offer(system, takes, "grandchild")
        child = offer(system, parent_of(grandchild, then=takes), "child")
        start(system, offer(system, parent_of(child, then=takes), "first"))

        assert sum(frames(system).values()) == TOTAL // 2


def test_orphans_count() -> None:
    """The children of an ended program stay in its family: they still have one quota, even restarted."""
    with servers() as system:
        orphans = [offer(system, hog, f"orphan-{n}") for n in range(3)]
        orphans[0].restart = "always"
        orphans[0].budget = {"restarts": 0, "children": 0}
        start(system, offer(system, parent_of(*orphans, then=lambda env: env.thread.sleep(0.01)), "first"))
        assert sum(frames(system).values()) == TOTAL // 2

        kill(system, "orphan-0")
        system.pass_time(2)
        assert sum(frames(system).values()) == TOTAL // 2
        assert {e.family for e in kip_rows(system) if e.name.startswith("orphan")} == {
            family(system, "orphan-1")
        }


@pytest.mark.parametrize("name", ["memory", "process"])
def test_families_survive(name: str) -> None:
    """Either server is killed: a child that is started afterwards is of the family, too."""
    with servers() as system:
        late = offer(system, hog, "late")

        def first(env: Environment) -> None:
            take_all(env)
            env.thread.sleep(3)
            Processes.connect(env).spawn(late)
            env.thread.sleep(10_000)

        start(system, offer(system, first, "first"))
        kill(system, name)
        system.pass_time(4)

        assert frames(system) == {"first": TOTAL // 2}


def test_what_is_passed_on_counts() -> None:
    """Memory that a child got from its parent still counts to its family."""
    with servers() as system:

        def takes_one(env: Environment) -> None:
            sender, _ = env.thread.wait()
            env.thread.reply(sender, Message())
            env.thread.sleep(10_000)

        child = offer(system, takes_one, "child")

        def first(env: Environment) -> None:
            to = Processes.connect(env).spawn(child)
            extent = Memory.connect(env).allocate(100)
            env.thread.call(to, Message(items=(GrantItem(extent.handle),)))
            take_all(env)
            env.thread.sleep(10_000)

        start(system, offer(system, first, "first"))

        assert frames(system) == {"first": TOTAL // 2 - 100, "child": 100}


def test_many_families_leave_room_for_others() -> None:
    """Three hostile families of two, one after another: an innocent gets a page, servers all of the reserve."""
    with servers() as system:
        for n in range(3):
            child = offer(system, hog, f"child-{n}")
            start(system, offer(system, parent_of(child, then=hog), f"first-{n}"))
        got: list[int] = []
        innocent = offer(system, lambda env: got.append(Memory.connect(env).allocate(1).pages), "innocent")
        start(system, innocent)
        reserve = Quotas(TOTAL, {}).reserve

        assert got == [1]
        assert system.kernel.frames.free >= reserve
        assert command(system, lambda env: Memory.connect(env).allocate(reserve).pages) == reserve


def test_the_quota_of_the_first_is_its_familys() -> None:
    """A server may set it, while the first lives; it holds for the orphans, and when the memory server died."""
    with servers() as system:
        child = offer(system, later(5), "child")
        first = offer(system, parent_of(child, then=lambda env: env.thread.sleep(3)), "first")
        thread = start(system, first)
        command(system, lambda env: Memory.connect(env).set_quota(thread, 10))
        kill(system, "memory")
        system.pass_time(6)

        assert frames(system) == {"child": 10}


def test_the_quota_of_a_member_is_its_own() -> None:
    """Set for a child it bounds that child, within what its family may have."""
    with servers() as system:
        child = offer(system, later(3), "child")
        start(system, offer(system, parent_of(child, then=lambda env: env.thread.sleep(10_000)), "first"))
        thread = next(row.thread for row in kip_rows(system) if row.name == "child")
        command(system, lambda env: Memory.connect(env).set_quota(thread, 10))
        system.pass_time(3)

        assert frames(system) == {"child": 10}
        usage = command(system, lambda env: Memory.connect(env).statistics().users)
        assert [(u.frames, u.quota, u.family) for u in usage if u.name == "child"] == [  # type: ignore[attr-defined]
            (10, 10, family(system, "first"))
        ]


def keeps_what_comes(env: Environment) -> None:
    """Take whatever anybody grants, for ever."""
    while True:
        sender, message = env.thread.wait()
        with suppress(IpcError):
            env.thread.reply(message if message.origin is not None else sender, Message())


def passes_on(env: Environment) -> None:
    """Take all one is given, and give it to the other family; then ask again."""
    memory, size = Memory.connect(env), TOTAL
    while size:
        try:
            extent = memory.allocate(size)
        except RemoteError:
            size //= 2
        else:
            env.thread.call(env.lookup("keeper"), Message(items=(GrantItem(extent.handle),)))
    env.thread.sleep(10_000)


def passes_on_pages(env: Environment) -> None:
    """The same, with what sigma0 maps."""
    size = 20
    while size > 11:
        found = item(rpc(env, l4.FpageLog2((1 << 64) - 1, size)))
        if found == NIL:
            size -= 1
        else:
            handle = env.sys.inventory()[-1]
            env.thread.call(env.lookup("keeper"), Message(items=(GrantItem(handle),)))
    env.thread.sleep(10_000)


@pytest.mark.parametrize("gives", [passes_on, passes_on_pages])
def test_what_another_family_was_given_counts_still(gives: Callable[[Environment], None]) -> None:
    """A family asks, passes on to another one, and asks again: it has its quota no more than once."""
    with servers() as system:
        start(system, offer(system, keeps_what_comes, "keeper"))
        start(system, offer(system, gives, "giver"))
        assert frames(system) == {"keeper": TOTAL // 2}

        kill(system, "giver")
        kill(system, "keeper")
        got: list[int] = []
        half = TOTAL // 2
        start(system, offer(system, lambda env: got.append(Memory.connect(env).allocate(half).pages), "next"))
        assert got == [half]

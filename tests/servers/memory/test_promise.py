"""Promises to programs that carve by themselves: quotas and reserve hold as if they allocated."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from kernel.abi.errors import Refusal
from libexo import vm
from libexo.environment import Environment
from libexo.errors import RemoteError, TrapRefused
from libexo.ipc.message import GrantItem, Message
from servers.memory.api import Memory
from servers.memory.policy import Quotas
from servers.process.api import Processes
from tests.servers.memory.stage import used
from tests.servers.memory.test_families import keeps_what_comes
from tests.servers.rig import ask, command, kill, offer, servers

HALF, RESERVE = 128, 8
"""Frames a family may have of 256, and of the reserve."""


def failure(action: Callable[..., object], *arguments: object) -> str:
    try:
        action(*arguments)
    except RemoteError as error:
        return error.kind
    except TrapRefused as refused:
        return Refusal(refused.refusal).name
    return "done"


def promised(env: Environment, pages: int) -> tuple[Memory, int]:
    """Return the stub, and a handle to RAM of which so many pages were promised."""
    memory = Memory.connect(env)
    ram = memory.ram()
    memory.promise(pages)
    return memory, ram.handle


def test_carved_without_the_server() -> None:
    """A promise is carved by traps alone, and the KIP and the server see the frames as the program's."""

    def client(env: Environment) -> tuple[object, ...]:
        memory, ram = promised(env, 10)
        before = memory.statistics()
        extent, view = vm.carve(env, memory.ram(), 4)
        view[:2] = b"ok"
        refused = failure(env.sys.carve, ram, 7)
        [own] = [usage for usage in memory.statistics().users if usage.name == "client"]
        return (
            bytes(view[:3]),
            extent.pages,
            refused,
            before.free - memory.statistics().free,
            own.frames,
            own.promised,
        )

    with servers() as system:
        assert ask(system, client) == (b"ok\0", 4, "OVER_LIMIT", 4, 4, 6)


def test_nothing_without_a_promise() -> None:
    """The capability alone is good for nothing."""

    def client(env: Environment) -> list[str]:
        memory = Memory.connect(env)
        ram = memory.ram()
        first = failure(env.sys.carve, ram.handle, 1)
        memory.promise(1)
        memory.promise(0)
        return [first, failure(env.sys.carve, ram.handle, 1)]

    with servers() as system:
        assert ask(system, client) == ["OVER_LIMIT"] * 2


def test_a_promise_is_within_the_quota() -> None:
    """Promised, carved and allocated frames come to no more than the quota, in whatever order."""

    def client(env: Environment) -> list[object]:
        memory, ram = promised(env, 100)
        env.sys.carve(ram, 60)
        found: list[object] = [failure(memory.promise, HALF - 60 + 1), failure(env.sys.carve, ram, 1)]
        memory.promise(HALF - 60)
        env.sys.carve(ram, HALF - 70)
        return [
            *found,
            failure(memory.allocate, 11),
            failure(memory.allocate, 10),
            failure(env.sys.carve, ram, 1),
        ]

    with servers() as system:
        assert ask(system, client) == ["QuotaExceeded", "OVER_LIMIT", "QuotaExceeded", "done", "OVER_LIMIT"]


def test_what_is_freed_may_be_carved_again() -> None:
    """Frames that were carved and freed are part of the promise again, and still count."""

    def client(env: Environment) -> list[str]:
        memory, ram = promised(env, 60)
        for _ in range(3):
            env.sys.drop(env.sys.carve(ram, 60).extent)
        memory.allocate(HALF - 60)
        return [failure(env.sys.carve, ram, 60), failure(env.sys.carve, ram, 1)]

    with servers() as system:
        assert ask(system, client) == ["done", "OVER_LIMIT"]


def test_a_hoard_is_narrowed() -> None:
    """An unused promise of one member goes to another of the family: nobody loses carved memory."""

    def child(env: Environment) -> None:
        _, ram = promised(env, 100)
        env.sys.carve(ram, 20)
        env.thread.sleep(30)

    def parent(env: Environment) -> tuple[str, str, list[int]]:
        hoarder = Processes.connect(env).spawn(spec)
        env.thread.sleep(1)
        memory = Memory.connect(env)
        asked = failure(memory.promise, HALF - 20), failure(memory.promise, HALF - 20 + 1)
        row = env.kip.environment_of(hoarder)
        assert row is not None
        return *asked, [row.frames, used(env)]

    with servers() as system:
        spec = offer(system, child)
        assert ask(system, parent) == ("done", "QuotaExceeded", [20, 0])


def test_hoards_do_not_starve_others() -> None:
    """Families with unused promises of all RAM leave all of it to one that asks."""

    def hoarder(env: Environment) -> None:
        promised(env, 100)
        env.thread.sleep(30)

    def client(env: Environment) -> list[str]:
        memory = Memory.connect(env)
        return [failure(memory.allocate, 60), failure(memory.allocate, 60)]

    with servers() as system:
        for name in ("one", "two"):
            system.spawn(hoarder, name)
        system.pass_time(0.5)
        assert ask(system, client) == ["done", "done"]


def test_the_reserve_holds() -> None:
    """However much was promised, programs together carve all but the reserve, and the end by halves."""

    def hog(env: Environment) -> None:
        memory, pages = Memory.connect(env), 256
        ram = memory.ram()
        while pages:
            if failure(memory.promise, pages) != "done":
                pages //= 2
            failure(env.sys.carve, ram.handle, pages)  # what another narrowed meanwhile is asked for again
        env.thread.sleep(10_000)

    def newcomer(env: Environment) -> str:
        return failure(promised, env, 1)

    with servers() as system:
        for name in ("one", "two", "three"):
            system.spawn(hog, name)
        system.pass_time(0.5)
        assert ask(system, newcomer) == "done"
        assert system.kernel.frames.free >= RESERVE
        assert command(system, lambda env: failure(Memory.connect(env).allocate, RESERVE)) == "done"


def test_what_is_passed_on_counts() -> None:
    """Frames that a program carved and gave to another family count against its own, too, until they are free."""

    def taker(env: Environment) -> None:
        sender, message = env.thread.wait()
        [item] = message.items
        assert isinstance(item, GrantItem)
        env.thread.reply(sender, Message())
        env.thread.wait()
        env.sys.drop(item.handle)
        env.thread.sleep(30)

    def client(env: Environment) -> list[object]:
        memory, ram = promised(env, 100)
        extent, to = env.sys.carve(ram, 100).extent, env.lookup("taker", 1)
        env.thread.call(to, Message(items=(GrantItem(extent, 6),)))
        found: list[object] = [
            used(env),
            failure(memory.promise, HALF - 99),
            failure(memory.allocate, HALF - 99),
        ]
        found.append(failure(memory.promise, HALF - 100))
        env.thread.send(to, Message())
        env.thread.sleep(1)
        return [*found, failure(memory.promise, HALF)]

    with servers() as system:
        system.spawn(taker, "taker")
        refused = "QuotaExceeded"
        assert ask(system, client) == [0, refused, refused, "done", "done"]


def test_a_refused_promise_narrows_nobody() -> None:
    """A program that asks for more than it can get takes nothing from others by that."""

    def hoarder(env: Environment) -> str:
        _, ram = promised(env, 100)
        env.thread.sleep(5)
        return failure(env.sys.carve, ram, 100)

    def client(env: Environment) -> str:
        env.thread.sleep(1)
        return failure(Memory.connect(env).allocate, 200)

    with servers() as system:
        tasks = system.spawn(hoarder, "hoarder"), system.spawn(client, "client")
        system.run(*tasks)
        assert [task.result for task in tasks] == ["done", "QuotaExceeded"]


def test_the_server_dies() -> None:
    """After a restart what was carved is there, promises are void, and the same capability is good again."""

    def client(env: Environment) -> tuple[int, str, str, str]:
        memory, ram = promised(env, 60)
        view = vm.carve(env, memory.ram(), 20)[1]
        view[0] = 7
        env.thread.sleep(5)
        before = failure(env.sys.carve, ram, 1)
        memory.promise(HALF - 20)
        return view[0], before, failure(env.sys.carve, ram, HALF - 20), failure(memory.promise, 1)

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(1)
        kill(system, "memory")
        system.run(task)
        assert task.result == (7, "OVER_LIMIT", "done", "QuotaExceeded")


def test_the_dead_leave_nothing() -> None:
    """With a program goes its promise, and all that was carved through its capability, held by anyone."""

    def client(env: Environment) -> None:
        _, ram = promised(env, 100)
        env.sys.carve(ram, 50)

    with servers() as system:
        before = system.kernel.frames.free
        for _ in range(5):
            ask(system, client)
        system.pass_time(1.5)
        assert system.kernel.frames.free == before


@pytest.mark.parametrize("run", range(3))
def test_never_more_than_the_quota(run: int, seed: int) -> None:
    """A family that promises, carves, frees and allocates at random never has more than its quota."""

    def member(number: int) -> Callable[[Environment], None]:
        def act(env: Environment) -> None:
            draw = random.Random(f"{seed}/{run}/{number}")
            memory = Memory.connect(env)
            ram, have = memory.ram().handle, list[int]()
            for _ in range(60):
                pages = draw.randrange(1, 60)
                match draw.randrange(4):
                    case 0:
                        failure(memory.promise, pages)
                    case 1 if have:
                        env.sys.drop(have.pop(draw.randrange(len(have))))
                    case 2:
                        with suppress(RemoteError):
                            have.append(memory.allocate(pages).handle)
                    case _:
                        with suppress(TrapRefused):
                            have.append(env.sys.carve(ram, pages).extent)
                members = [row for row in env.kip.environments() if row.family]
                assert sum(row.frames for row in members) <= HALF

        return act

    def first(env: Environment) -> None:
        processes = Processes.connect(env)
        children = [processes.spawn(spec) for spec in specs]
        member(0)(env)
        assert [processes.wait(child).status for child in children] == [0, 0]

    with servers(seed=seed) as system:
        specs = [offer(system, member(number), f"member-{number}") for number in (1, 2)]
        ask(system, first, "first")


def test_quotas_are_of_this_size() -> None:
    """The numbers above are those of the machine of these tests."""
    quotas = Quotas(256, {})
    assert (quotas.quota(1), quotas.reserve) == (HALF, RESERVE)


def test_what_a_member_passed_on_counts_when_it_has_ended() -> None:
    """A member carves, gives that away with the capability it carved through, and ends; its family has it still."""

    def keeper(env: Environment) -> None:
        while True:
            sender, _ = env.thread.wait()
            env.thread.reply(sender, Message())

    def member(env: Environment) -> None:
        _, ram = promised(env, 100)
        extent = env.sys.carve(ram, 100).extent
        env.thread.call(env.lookup("keeper", 1), Message(items=(GrantItem(extent), GrantItem(ram))))

    def first(env: Environment) -> None:
        processes, memory = Processes.connect(env), Memory.connect(env)
        for _ in range(2):
            processes.wait(processes.spawn(specs[0]))
            env.thread.sleep(2)
            got.append(failure(memory.promise, HALF - 99))
            env.thread.sleep(2)  # the server is killed meanwhile
        got.append(failure(memory.promise, HALF - 100))

    with servers() as system:
        system.spawn(keeper, "keeper")
        specs, got = [offer(system, member, "member")], list[str]()
        command(system, lambda env: Processes.connect(env).spawn(offer(system, first, "first")))
        system.pass_time(3)
        kill(system, "memory")
        system.pass_time(5)
        assert got == ["QuotaExceeded", "QuotaExceeded", "done"]


def test_the_dead_do_not_fill_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family whose members leave something to others, and end, has its share of pools; others have theirs."""

    def member(env: Environment) -> None:
        result = Message(items=(GrantItem(Memory.connect(env).allocate(1).handle),))
        env.thread.call(env.lookup("keeper", 1), result)

    def first(env: Environment) -> None:
        processes = Processes.connect(env)
        got.extend(processes.wait(processes.spawn(specs[0])).status for _ in range(10))

    with servers() as system:
        monkeypatch.setattr("servers.memory.policy.POOLS", 30)
        system.spawn(keeps_what_comes, "keeper")
        specs, got = [offer(system, member, "member")], list[int]()

        def start(env: Environment, name: str) -> None:
            processes = Processes.connect(env)
            processes.wait(processes.spawn(offer(system, first, name)))

        command(system, lambda env: start(env, "one"))
        command(system, lambda env: start(env, "other"))
        assert got == [0] * 5 + [1] * 5 + [0] * 5 + [1] * 5


def test_a_pool_is_its_makers_after_a_restart() -> None:
    """A program granted another's frames is not taken for their carver when the server is back."""

    def keeper(env: Environment) -> list[str]:
        sender, _ = env.thread.wait()
        env.thread.reply(sender, Message())
        env.thread.sleep(3)  # the server is killed meanwhile
        _, ram = promised(env, 20)
        env.thread.sleep(3)
        return [failure(env.sys.carve, ram, 20), failure(env.sys.carve, ram, 1)]

    def client(env: Environment) -> list[str]:
        extent, (memory, ram) = Memory.connect(env).allocate(1), promised(env, 1)
        env.thread.call(env.lookup("keeper", 1), Message(items=(GrantItem(extent.handle),)))
        env.thread.sleep(5)
        refused = failure(env.sys.carve, ram, 1)
        memory.promise(1)
        return [refused, failure(env.sys.carve, ram, 1)]

    with servers() as system:
        tasks = system.spawn(keeper, "keeper"), system.spawn(client, "client")
        system.pass_time(1)
        kill(system, "memory")
        system.run(*tasks)
        assert [task.result for task in tasks] == [["done", "OVER_LIMIT"], ["OVER_LIMIT", "done"]]


def test_no_more_pools_than_can_be_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the estate has no room for one more pool, its program is refused, and nothing is left of it."""

    def client(env: Environment) -> str:
        return failure(Memory.connect(env).allocate, 1)

    with servers() as system:
        monkeypatch.setattr("libexo.estate.Estate.room", 10)
        assert ask(system, client) == "OutOfMemory"
        monkeypatch.undo()
        assert ask(system, client) == "done"


def test_a_successor_of_pools_with_many_holders() -> None:
    """However many capabilities to RAM programs have, a server that is back hears of all it holds."""

    def hoarder(env: Environment) -> str:
        memory, ram = promised(env, 4)
        for _ in range(900):
            memory.ram()
        ready.append(ram)
        env.thread.sleep(30)
        memory.promise(4)
        return failure(env.sys.carve, ram, 4)

    with servers() as system:
        ready: list[int] = []
        tasks = [system.spawn(hoarder, f"hoarder-{number}") for number in range(12)]
        while len(ready) < len(tasks):
            system.pass_time(1)
        kill(system, "memory")
        system.run(*tasks)
        assert {task.result for task in tasks} == {"done"}

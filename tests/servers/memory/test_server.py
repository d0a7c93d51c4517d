"""The memory server on the simulated machine: allocation, quotas, and what survives its death."""

from collections.abc import Callable
from functools import partial

import pytest

from kernel.abi.ids import thread_id
from libexo import vm
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.ipc import MapItem, Message
from servers.memory.api import Memory, Statistics
from tests.servers.rig import alive, ask, command, kill, servers


def failure(action: object, *arguments: int) -> str:
    """Return the name of what the server raises."""
    assert callable(action)
    try:
        action(*arguments)
    except RemoteError as error:
        return error.kind
    return "done"


def hog(pages: int) -> Callable[[Environment], object]:
    """Take so many pages, and keep them."""

    def program(env: Environment) -> None:
        Memory.connect(env).allocate(pages)
        env.thread.sleep(30)

    return program


def used(statistics: Statistics) -> dict[str, int]:
    return {usage.name: usage.frames for usage in statistics.users}


def test_allocate_and_free() -> None:
    """Allocated memory is zeroed and the caller's alone; freed, it is free again."""

    def client(env: Environment) -> tuple[bytes, int, int]:
        memory = Memory.connect(env)
        before = memory.statistics().free
        extent = memory.allocate(3)
        view = vm.map(env, extent)
        view[:2] = b"ok"
        written = bytes(view[:3])
        between = memory.statistics().free
        memory.free(extent)
        return written, before - between, memory.statistics().free - before

    with servers() as system:
        assert ask(system, client) == (b"ok\0", 3, 0)


def test_chosen_frames() -> None:
    """Frames may be chosen by number; taken ones are refused by name."""

    def client(env: Environment) -> tuple[int, str]:
        memory = Memory.connect(env)
        return memory.allocate(2, 100).first, failure(memory.allocate, 1, 101)

    with servers() as system:
        assert ask(system, client) == (100, "FrameBusy")


def test_refused_clearly() -> None:
    """Beyond its quota a caller is told so; when RAM is full, everybody is."""

    def client(env: Environment) -> list[str]:
        memory = Memory.connect(env)
        found = [failure(memory.allocate, 129)]
        memory.allocate(80)
        return [*found, failure(memory.allocate, 49)]

    with servers() as system:
        first = system.spawn(hog(120), "hog")
        system.run(until=lambda: system.kernel.frames.free < 140)
        second = system.spawn(client, "client")
        system.run(second)

        assert second.result == ["QuotaExceeded", "QuotaExceeded"]
        assert first.status is None


def test_out_of_memory() -> None:
    """Two that fill RAM: the second is refused what would be more than its share, or all if nobody is pressed."""

    def client(more: int, env: Environment) -> str:
        memory = Memory.connect(env)
        memory.allocate(60)
        return failure(memory.allocate, more)

    for marks, more in ((), 60), (("low=0",), 40):
        with servers(memory=marks) as system:
            system.spawn(hog(128), "hog")
            system.run(until=lambda: system.kernel.frames.free < 140)
            assert ask(system, partial(client, more)) == "OutOfMemory"


def test_sharing() -> None:
    """Memory shared read-only is read by the other, and still counts as its owner's."""

    def reader(env: Environment) -> int:
        sender, message = env.thread.wait()
        [item] = message.items
        assert isinstance(item, MapItem)
        found = vm.map(env, item)[0]
        env.thread.reply(sender, Message())
        env.thread.sleep(1)  # it holds the share while the owner asks
        return found

    def owner(env: Environment) -> dict[str, int]:
        memory, to = Memory.connect(env), env.lookup("reader", 1)
        extent = memory.allocate(4)
        vm.map(env, extent)[0] = 77
        env.thread.call(to, Message(items=(memory.share(extent),)))
        return used(memory.statistics())

    with servers() as system:
        tasks = system.spawn(reader, "reader"), system.spawn(owner, "owner")
        system.run(*tasks)

        assert tasks[0].result == 77
        assert tasks[1].result["owner"] == 4  # type: ignore[index]
        assert "reader" not in tasks[1].result  # type: ignore[operator]


def test_quotas_are_set_by_servers() -> None:
    """A program cannot set a quota, not even its own."""

    def client(env: Environment) -> str:
        return failure(Memory.connect(env).set_quota, env.thread.id, 200)

    def server(env: Environment) -> str:
        return failure(Memory.connect(env).set_quota, thread_id(4000), 200)

    with servers() as system:
        assert ask(system, client) == "NotAllowed"
        assert command(system, server) == "NotAllowed"  # there is no such thread


@pytest.mark.parametrize("seed", range(5))
def test_killed_and_back(seed: int) -> None:
    """Killed, the server is back under its name; what it had given away stays, and calls go on."""
    ready: list[bool] = []

    def client(env: Environment) -> tuple[int, int]:
        memory = Memory.connect(env)
        view = vm.map(env, memory.allocate(5))
        view[0] = 1
        ready.append(True)
        env.thread.sleep(1)
        again = memory.allocate(2)
        view[0] += again.pages
        return view[0], used(memory.statistics())["client"]

    with servers(seed=seed) as system:
        task = system.spawn(client, "client")
        system.run(until=lambda: bool(ready))
        kill(system, "memory")
        assert "memory" in alive(system)
        system.run(task)

        assert task.result == (3, 7)


def test_nothing_is_left_of_the_ended() -> None:
    """Programs that come and go leave RAM as it was, however often."""
    with servers() as system:
        ask(system, lambda env: Memory.connect(env).allocate(1), "first")
        free = system.kernel.frames.free
        for n in range(20):
            ask(system, lambda env: Memory.connect(env).allocate(9), f"p{n}")

        assert system.kernel.frames.free == free

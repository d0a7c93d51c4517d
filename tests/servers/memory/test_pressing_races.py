"""Numbers of extents that are other extents by the time they are taken, and memory that was passed on."""

from collections.abc import Callable

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.rights import ALL_RIGHTS
from libexo import pressure, vm
from libexo.environment import Environment
from libexo.errors import TrapRefused
from libexo.extent import Extent
from libexo.ipc.message import GrantItem, Message
from servers.memory.api import Memory, Pressed
from servers.memory.pressing import Pressing
from servers.memory.victims import Victim
from tests.servers.memory.presses import extents, frames_of, idle, press, started
from tests.servers.rig import servers


class Slow:
    """Has time pass between the server's last look at extents and each try to take them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries = 0
        revoke = Pressing._revoke

        def late(pressing: Pressing, ram: int, group: list[Victim]) -> dict[int, int]:
            self.tries += 1
            pressing._environment.thread.sleep(0.05)
            return revoke(pressing, ram, group)

        monkeypatch.setattr(Pressing, "_revoke", late)

    def wait(self, env: Environment, which: int, more: float = 0) -> None:
        """Return in the middle of that try."""
        while self.tries < which:
            env.thread.sleep(0.01)
        env.thread.sleep(more)


def carver(slow: Slow, which: int, some: list[Extent]) -> Callable[[Environment], object]:
    """Carve the same frames as soon as they are free, by a promise of its own; return what is there in the end."""

    def program(env: Environment) -> list[object]:
        memory = Memory.connect(env)
        ram = memory.ram()
        memory.promise(len(some))
        slow.wait(env, which, 0.01)
        found: list[object] = []
        for each in some:
            try:
                made = env.sys.carve(ram.handle, 1, each.first).extent
            except TrapRefused as refused:
                found.append(Refusal(refused.refusal).name)
            else:
                vm.map(env, Extent(made, 1, each.first, int(ALL_RIGHTS)))[:4] = b"mine"
                found.append(made)
        env.thread.sleep(5)
        return [*found, pressure.repossessed(env)]

    return program


def test_a_number_that_is_another_extent(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extent of another program that begins where one ended since the server looked is not taken."""

    def client(env: Environment) -> None:
        some.extend(extents(env, 1, 1))
        slow.wait(env, 1)
        for each in some:
            env.sys.drop(each.handle)
        idle(env)

    some: list[Extent] = []
    slow = Slow(monkeypatch)
    with servers() as system:
        started(system, client)
        task = started(system, carver(slow, 1, some), "other")
        found = press(system, "client", 0, 1)
        system.run(task)

        assert isinstance(task.result, list)
        *made, lost = task.result
        assert ([type(each) for each in made], lost) == ([int, int], [])
        assert (found, frames_of(system, "client")) == (Pressed(0, 2, 0), 0)


def test_a_number_of_memory_that_was_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """While memory is taken that another program carved and gave away, nobody carves what could be hit instead."""

    def client(env: Environment) -> None:
        sender, message = env.thread.wait()
        handles = [item.handle for item in message.items if isinstance(item, GrantItem)]
        env.thread.reply(sender, Message())
        slow.wait(env, 1)
        for each in handles:
            env.sys.drop(each)
        idle(env)

    def giver(env: Environment) -> None:
        memory = Memory.connect(env)
        memory.promise(2)
        ram = memory.ram()
        for _ in range(2):
            carved = env.sys.carve(ram.handle, 1)
            some.append(Extent(carved.extent, 1, carved.first, int(ALL_RIGHTS)))
        items = tuple(GrantItem(each.handle, each.rights) for each in some)
        env.thread.call(env.lookup("client"), Message(items=items))
        idle(env)

    some: list[Extent] = []
    slow = Slow(monkeypatch)
    with servers() as system:
        started(system, client)
        started(system, giver, "giver")
        had = frames_of(system, "client")
        task = started(system, carver(slow, 1, some), "other")
        found = press(system, "client", 0, 1)
        system.run(task)

        assert had == 2
        assert task.result == ["OVER_LIMIT", "OVER_LIMIT", []]
        assert found.frames == 0


def test_what_was_passed_on_is_taken() -> None:
    """Memory that a program carved and gave to another counts to that one, and is taken from it."""

    def client(env: Environment) -> list[int]:
        sender, _ = env.thread.wait()
        env.thread.reply(sender, Message())
        env.thread.sleep(5)
        return [len(pressure.repossessed(env))]

    def giver(env: Environment) -> None:
        memory = Memory.connect(env)
        memory.promise(3)
        carved = env.sys.carve(memory.ram().handle, 2)
        env.thread.call(env.lookup("client"), Message(items=(GrantItem(carved.extent, int(ALL_RIGHTS)),)))
        idle(env)

    with servers() as system:
        task = system.spawn(client, "client")
        started(system, giver, "giver")

        assert press(system, "client", 1) == Pressed(0, 0, 2)
        system.run(task)
        assert task.result == [1]

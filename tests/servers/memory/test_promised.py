"""Grants of the memory server that nobody took: they count against their receiver, and come back."""

import msgspec

from kernel.abi.budget import OFFER_LIFE_NS, Item
from kernel.abi.limits import MAX_OFFERS
from libexo.environment import Environment
from libexo.errors import IpcError, RemoteError
from libexo.testing import System
from servers.memory.api import Memory
from tests.servers.rig import ask, servers


def allocate_and_leave_it(env: Environment, pages: int = 1) -> str:
    """Ask for memory, and accept none of what comes; say whether any came."""
    stub = Memory.connect(env)
    operation = next(each for each in stub.operations.values() if each.name == "allocate")
    arguments = (pages, -1)
    request = stub._remote.request(operation, arguments, msgspec.msgpack.encode(arguments))  # type: ignore[attr-defined]
    try:
        env.thread.call(env.lookup("memory"), request, accepts=0)
    except IpcError:
        return "granted"
    return "refused"


def held(system: System) -> int:
    """Return how many capabilities the memory server has, but for offers."""
    [memory] = [e for e in system.kernel.environments if e.name == "memory" and e.alive]
    return memory.budget.used[Item.HANDLES]


def test_what_nobody_takes_comes_back() -> None:
    """Programs that take none of their grants fill no table permanently, and cost nobody memory."""
    with servers() as system:
        before = held(system), system.kernel.frames.free
        hogs = [
            system.spawn(lambda env: [allocate_and_leave_it(env) for _ in range(9)] and None, f"hog-{n}")
            for n in range(4)
        ]
        system.run(*hogs)
        system.pass_time(2)
        ask(system, lambda env: Memory.connect(env).statistics().free)
        pools = held(system) - before[0]

        assert system.kernel.frames.free == before[1]
        assert pools <= len(hogs) + 1


def test_what_is_promised_counts() -> None:
    """A program that takes nothing gets no promise beyond its quota either; once the offers fell it may again."""

    def greedy(env: Environment) -> tuple[list[str], str]:
        heard = [allocate_and_leave_it(env, 16) for _ in range(9)]
        env.thread.sleep(OFFER_LIFE_NS / 1e9 + 1)
        return heard, allocate_and_leave_it(env, 16)

    with servers() as system:
        assert ask(system, greedy) == (["granted"] * 8 + ["refused"], "granted")


def test_what_is_taken_counts_once() -> None:
    """A program that takes its grants has its whole quota, and no more."""

    def client(env: Environment) -> tuple[int, str]:
        memory, got = Memory.connect(env), 0
        try:
            while True:
                memory.allocate(16)
                got += 16
        except RemoteError as error:
            return got, error.kind

    with servers() as system:
        assert ask(system, client) == (128, "QuotaExceeded")


def test_an_innocent_beside_a_crowd() -> None:
    """While others leave their grants, a program still gets its memory."""

    def hog(env: Environment) -> None:
        while True:
            allocate_and_leave_it(env)
            env.thread.sleep(0.001)

    def innocent(env: Environment) -> int:
        env.thread.sleep(0.2)
        return sum(Memory.connect(env).allocate(1).pages for _ in range(5))

    with servers() as system:
        hogs = [system.spawn(hog, f"hog-{n}") for n in range(3)]
        found = ask(system, innocent)
        for each in hogs:
            each.kill()

        assert found == 5
        assert MAX_OFFERS * len(hogs) < system.kernel.frames.total

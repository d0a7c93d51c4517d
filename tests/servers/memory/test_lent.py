"""Memory that sigma0 keeps: its owners and its time, when owners end, when it dies itself, when RAM is full."""

from collections.abc import Callable
from random import Random

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.rights import Rights
from libexo import l4
from libexo.environment import Environment
from libexo.estate import Estate
from libexo.ipc.message import FpageItem, GrantItem, Message
from libexo.l4.space.space import space_of
from libexo.testing import System
from servers.memory.api import Memory
from servers.memory.policy import Quotas
from tests.servers.memory.stage import NIL, PAGE, ask, fpage, item, operate, rpc, used
from tests.servers.rig import alive, kill, servers


def test_page_by_page() -> None:
    """Single pages come up to the quota; when their owner has ended, the next one gets as many."""

    def client(env: Environment) -> int:
        pages = [l4.Sigma0_GetAny(0, 12, l4.CompleteAddressSpace) for _ in range(130)]
        return len([page for page in pages if not l4.IsNilFpage(page)])

    with servers() as system:
        assert ask(system, client) == 128
        system.pass_time(1)
        assert ask(system, client, "again") == 128


def test_what_was_mapped_on_is_its_heirs() -> None:
    """Granted on, an extent stays when its first owner ends; when its last holder does, its frames are free."""

    def owner(env: Environment) -> None:
        answer = rpc(env, fpage(8))
        (found,) = answer.items
        assert isinstance(found, FpageItem)
        handle = found.extents[0][2]
        env.thread.call(env.lookup("heir", 1), Message(items=(GrantItem(handle, int(Rights.READ)),)))

    def heir(env: Environment) -> None:
        sender, _ = env.thread.wait()
        env.thread.reply(sender, Message())
        env.thread.sleep(2)

    with servers() as system:
        free = system.kernel.frames.free
        tasks = system.spawn(owner, "owner"), system.spawn(heir, "heir")
        system.run(tasks[0])
        system.pass_time(1)
        assert system.kernel.frames.free == free - 1

        system.run(tasks[1])
        system.pass_time(1)
        assert system.kernel.frames.free == free


@pytest.mark.parametrize("seed", range(5))
def test_killed_and_back(seed: int) -> None:
    """Restarted, sigma0 knows whose everything is: the owner gets the same again, others do not."""

    def owner(env: Environment) -> bytes:
        l4.Sigma0_GetPage(0, fpage(8))
        space_of(env).store(8 * PAGE, b"kept")
        ready.append(True)
        env.thread.sleep(3)
        l4.Sigma0_GetPage_RcvWindow(0, fpage(8), fpage(512))
        return space_of(env).load(512 * PAGE, 4)

    def other(env: Environment) -> bool:
        return item(rpc(env, fpage(8))) == NIL

    ready: list[bool] = []
    with servers(seed=seed) as system:
        task = system.spawn(owner, "owner")
        system.run(until=lambda: bool(ready))
        kill(system, "memory")
        assert "memory" in alive(system)
        assert ask(system, other, "other") is True
        free = system.kernel.frames.free
        system.run(task)
        assert task.result == b"kept"

        system.pass_time(1)
        assert system.kernel.frames.free == free + 1


def test_the_estate_is_not_others_to_write() -> None:
    """A program that writes a forged estate into its memory changes no quota, however often the server dies."""

    def forger(env: Environment) -> None:
        l4.Sigma0_GetPage(0, fpage(8, 4))
        (view,) = space_of(env).view(8 * PAGE, 4 * PAGE, l4.Writable)
        Estate(view).store(b"\x81\xcf" + env.thread.id.to_bytes(8) + b"\xcd\x00\xff")
        l4.Flush(fpage(8, 4) + l4.FullyAccessible)
        env.thread.sleep(30)

    def found(env: Environment) -> set[tuple[str, int, int]]:
        users = Memory.connect(env).statistics().users
        return {(usage.name, usage.frames, usage.quota) for usage in users if usage.name != "process"}

    with servers() as system:
        system.spawn(forger, "forger")
        system.pass_time(0.1)
        kill(system, "memory")

        assert ask(system, found) == {("memory", 1, 128)}  # what was flushed was nobody's for the new server


def test_grabmem() -> None:
    """From the largest power of two down to a page, a program gets all but the reserve, then nobody anything."""

    def grab(env: Environment) -> int:
        env.thread.sleep(1)
        total = 0
        for log2 in range(63, 11, -1):
            while not l4.IsNilFpage(page := l4.Sigma0_GetAny(0, log2, l4.CompleteAddressSpace)):
                total += l4.Size(page)
        holds.append(True)
        env.thread.sleep(2)
        return total

    def late(env: Environment) -> list[bool]:
        return [item(rpc(env, l4.FpageLog2((1 << 64) - 1, log2))) == NIL for log2 in range(12, 20)]

    def lift(env: Environment) -> None:
        Memory.connect(env).set_quota(thread_id(160), 256)

    holds: list[bool] = []
    reserve = Quotas(256, {}).reserve
    with servers() as system:
        free = system.kernel.frames.free
        task = system.spawn(grab, "grab")
        assert task.thread == thread_id(160)
        operate(system, lift)
        system.run(until=lambda: bool(holds))
        assert system.kernel.frames.free == reserve
        assert ask(system, late, "late") == [True] * 8

        system.run(task)
        assert task.result == (free - reserve) * PAGE
        system.pass_time(1)
        assert system.kernel.frames.free == free


@pytest.mark.parametrize("seed", range(10))
def test_random_requests(seed: int) -> None:
    """Whatever is asked for in which order, no frame is ever two programs', and in the end all are free.

    Nobody is pressed for others here, so that who once had a frame has it still.
    """

    def client(number: int) -> Callable[[Environment], object]:
        def program(env: Environment) -> set[int]:
            random = Random(f"{seed} {number}")
            frames: set[int] = set()
            for _ in range(40):
                log2 = random.randrange(12, 17)
                base = random.choice([random.randrange(256) * PAGE, (1 << 64) - 1])
                given = l4.Sigma0_GetPage(0, l4.FpageLog2(base, log2))
                for region in space_of(env):
                    frames |= set(range(region.base // PAGE, (region.base + region.size) // PAGE))
                if random.random() < 0.3:
                    l4.Flush(given + l4.FullyAccessible)
                env.thread.sleep(0.001)
            env.thread.sleep(1)
            return frames

        return program

    with servers(seed=seed, memory=("low=0",)) as system:
        free = system.kernel.frames.free
        tasks = [system.spawn(client(number), f"client-{number}") for number in range(3)]
        system.run(*tasks)
        given = [frame for task in tasks for frame in task.result]  # type: ignore[attr-defined]

        assert len(given) == len(set(given)) > 100
        system.pass_time(1)
        assert system.kernel.frames.free == free


def test_a_successor_of_many() -> None:
    """However many extents a predecessor kept, each is its owner's still, and no frame is lost or used twice."""

    def owner(env: Environment) -> tuple[int, int]:
        pages = [l4.Sigma0_GetAny(0, 12, l4.CompleteAddressSpace) for _ in range(100)]
        ready.append(True)
        env.thread.sleep(3)
        again = [l4.Sigma0_GetPage(0, page) for page in pages]
        return sum(new == old for new, old in zip(again, pages, strict=True)), used(env)

    ready: list[bool] = []
    with servers() as system:
        task = system.spawn(owner, "owner")
        system.run(until=lambda: bool(ready))
        kill(system, "memory")
        system.run(task)

        assert task.result == (100, 100)


def happen(system: System, count: int) -> None:
    """Let so many things happen."""
    end = len(system.trace) + count
    system.run(until=lambda: len(system.trace) >= end)


@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_time(seed: int) -> None:
    """Killed in the middle of whatever it did, sigma0 comes back; in the end all but its estate is free."""

    def client(env: Environment) -> int:
        random, got = Random(f"client {seed}"), 0
        for _ in range(60):
            page = l4.Sigma0_GetAny(0, random.randrange(12, 15), l4.CompleteAddressSpace)
            got += not l4.IsNilFpage(page)
            if random.random() < 0.5 and not l4.IsNilFpage(page):
                l4.Flush(page + l4.FullyAccessible)
            env.thread.sleep(0.03)
        return got

    def frames(env: Environment) -> set[tuple[str, int]]:
        users = Memory.connect(env).statistics().users
        return {(usage.name, usage.frames) for usage in users if usage.name != "process"}

    with servers(seed=seed) as system:
        task, random = system.spawn(client, "client"), Random(seed)
        for _ in range(3):
            happen(system, random.randrange(20, 400))
            kill(system, "memory")
        system.run(task)
        assert isinstance(task.result, int)
        assert task.result > 0

        system.pass_time(1)
        assert ask(system, frames, "auditor") == {("memory", 1)}

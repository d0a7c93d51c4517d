"""libexo.pager: programs that page for others, on the simulated machine."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from examples.pager import READ, read, squares
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Rights
from kernel.abi.traps import PageState
from libexo import ipc, vm
from libexo.environment import Environment
from libexo.errors import TrapRefused
from libexo.extent import Extent, Ram
from libexo.ipc.message import MapItem
from libexo.pager import Fault, PagedObject
from libexo.testing import System, Task, simulated

SUPPLIED, WRITTEN, GUARDED, IDLE = PageState
BOTH = Rights.READ | Rights.WRITE


@pytest.fixture
def system() -> Iterator[System]:
    with simulated(seed=7) as made:
        yield made


def paging(
    system: System, pager: Callable[[Environment, Ram, int], Any], user: Callable[[Environment], Any]
) -> tuple[Task, Task]:
    """Run *pager* with RAM and the thread of a *user*, which may have paged memory, until both have ended."""
    using = system.spawn(user, "user", paged=True)
    task = system.spawn(
        lambda env: pager(env, Ram(task.handles[0], 0, 0, int(Rights(31))), using.thread), holds=("ram",)
    )
    system.run()
    return task, using


def lend(env: Environment, store: PagedObject, user: int, rights: int = BOTH) -> ipc.Message:
    """Send *user* the object, and return what it answers; its faults are answered meanwhile."""
    return env.thread.call(user, ipc.Message(items=(MapItem(store.extent.handle, rights),)))


def mapped(env: Environment) -> tuple[ipc.Message, memoryview]:
    """Wait for an object, and map it."""
    _, request = env.thread.wait()
    return request, vm.map(env, request.items[0])  # type: ignore[arg-type]


def test_the_example(system: System) -> None:
    """A reader finds in each page what its pager works out, though only two are there at a time."""
    found: list[bytes] = []

    def pager(env: Environment, ram: Ram, user: int) -> None:
        found.extend(map(bytes, lend(env, squares(env, ram), user).items))  # type: ignore[arg-type]

    def user(env: Environment) -> None:
        sender, request = env.thread.wait()
        (item,) = request.items
        assert isinstance(item, MapItem)
        read(env, Extent(item.handle, 400, 0), sender)

    paging(system, pager, user)

    assert found == [str(page**2).encode() for page in READ]


def test_a_pager_that_swaps(system: System) -> None:
    """Twelve pages written through three frames come back as they were: guarded, saved, evicted, supplied again."""
    saved: dict[int, bytes] = {}
    there: list[int] = []
    frames, pages = 3, 12

    def swap(store: PagedObject, fault: Fault) -> None:
        if len(there) == frames:
            (state,) = store.guard(oldest := there.pop(0))
            if state & WRITTEN:
                saved[oldest] = store.load(oldest)
            assert store.evict(oldest) == 1
        store.supply(fault.page, saved.get(fault.page, bytes(FRAME_SIZE)))
        there.append(fault.page)

    def pager(env: Environment, ram: Ram, user: int) -> list[PageState]:
        store = PagedObject(env, ram, pages, frames, swap)
        lend(env, store, user)
        return store.states(0, pages)

    def user(env: Environment) -> list[int]:
        request, view = mapped(env)
        for page in range(pages):
            vm.touch(env, view, page * FRAME_SIZE, 8, write=True)
            view[page * FRAME_SIZE] = 100 + page
        found = []
        for page in range(pages):
            vm.touch(env, view, page * FRAME_SIZE, 1)
            found.append(view[page * FRAME_SIZE])
        env.thread.reply(request, ipc.Message())
        return found

    paged, using = paging(system, pager, user)

    assert using.result == [100 + page for page in range(pages)]
    assert paged.result == [0] * 9 + [SUPPLIED] * 3
    assert sorted(saved) == list(range(pages))


def test_what_is_given_up(system: System) -> None:
    """An object that was closed is a bus error to who maps it; its frames are free. Twice is harmless."""

    def pager(env: Environment, ram: Ram, user: int) -> None:
        store = PagedObject(env, ram, 4, 2, lambda store, fault: store.supply(fault.page, b"x"))
        store.supply(0, b"x")
        lend(env, store, user)
        store.close()
        store.close()
        env.thread.call(user, ipc.Message())

    def user(env: Environment) -> None:
        request, view = mapped(env)
        vm.touch(env, view, 0, 1)
        env.thread.reply(request, ipc.Message())
        _, request = env.thread.wait()
        with pytest.raises(ValueError, match=r"released|mapped of 0|poisoned"):
            vm.touch(env, view, 0, 1)
        env.thread.reply(request, ipc.Message())

    free = system.kernel.frames.free
    paging(system, pager, user)

    assert system.kernel.frames.free == free


def test_two_objects_of_one_pager(system: System) -> None:
    """Each is answered by its own function, and a program that was not started paged has no window on either."""

    def pager(env: Environment, ram: Ram, user: int) -> tuple[list[Fault], list[Fault]]:
        told: tuple[list[Fault], list[Fault]] = ([], [])
        stores = []
        for at in range(2):

            def fill(store: PagedObject, fault: Fault, at: int = at) -> None:
                told[at].append(fault)
                store.supply(fault.page, bytes([at]))

            stores.append(PagedObject(env, ram, 4, 4, fill))
        for store in stores:
            lend(env, store, user)
        return told

    def user(env: Environment) -> list[int]:
        found = []
        for page in (1, 2):
            request, view = mapped(env)
            vm.touch(env, view, page * FRAME_SIZE, 1, write=page == 2)
            found.append(view[page * FRAME_SIZE])
            env.thread.reply(request, ipc.Message())
        return found

    paged, using = paging(system, pager, user)

    assert using.result == [0, 1]
    assert paged.result == ([Fault(1, False, using.thread)], [Fault(2, True, using.thread)])


def test_a_program_that_is_not_paged(system: System) -> None:
    """It is told how to be, when it maps what somebody pages; its pager is asked for nothing."""

    def pager(env: Environment, ram: Ram) -> list[Fault]:
        told: list[Fault] = []
        store = PagedObject(env, ram, 4, 4, lambda _, fault: told.append(fault))
        lend(env, store, plain.thread)
        return told

    def user(env: Environment) -> None:
        _, request = env.thread.wait()
        with pytest.raises(TrapRefused, match="run --paged") as refused:
            vm.map(env, request.items[0])  # type: ignore[arg-type]
        env.thread.reply(request, ipc.Message())
        assert refused.value.refusal is Refusal.NOT_PAGED

    plain = system.spawn(user, "user")
    paged = system.spawn(lambda env: pager(env, Ram(paged.handles[0], 0, 0, 31)), holds=("ram",))
    system.run()

    assert paged.result == []


def test_who_got_it_is_no_pager(system: System) -> None:
    """What is passed on carries no right to supply, to evict or to protect, nor to take it back from others."""
    refused: list[int] = []

    def pager(env: Environment, ram: Ram, user: int) -> None:
        store = PagedObject(env, ram, 4, 2, lambda paged, fault: paged.supply(fault.page, b"x"))
        assert not store.extent.rights & Rights.CONTROL
        lend(env, store, user, store.extent.rights)

    def user(env: Environment) -> None:
        request, view = mapped(env)
        vm.touch(env, view, 0, 1)
        handle = request.items[0].handle  # type: ignore[union-attr]
        for call in (env.sys.supply, env.sys.evict, env.sys.protect):
            with pytest.raises(TrapRefused) as found:
                call(handle, 0)
            refused.append(found.value.refusal)
        env.thread.reply(request, ipc.Message())

    paging(system, pager, user)
    assert refused == [Refusal.MISSING_RIGHT] * 3


def test_pages_age(system: System) -> None:
    """Of two pages that a user sees, the one it touches again is not idle, though its pager looked at both."""
    seen: list[list[PageState]] = []

    def pager(env: Environment, ram: Ram, user: int) -> None:
        store = PagedObject(env, ram, 4, 2, lambda paged, fault: paged.supply(fault.page, b"x"))
        lend(env, store, user)
        store.load(0, 2)
        store.age(0, 2)
        env.thread.call(user, ipc.Message())
        seen.append(store.age(0, 2))
        seen.append(store.states(0, 2))

    def user(env: Environment) -> None:
        request, view = mapped(env)
        vm.touch(env, view, 0, 2 * FRAME_SIZE)
        env.thread.reply(request, ipc.Message())
        _, request = env.thread.wait()
        vm.touch(env, view, 0, 1)
        env.thread.reply(request, ipc.Message())

    paging(system, pager, user)
    assert seen == [[SUPPLIED, SUPPLIED | IDLE], [SUPPLIED | IDLE] * 2]

"""The pager when it is killed, when the store fails, and when memory is taken from it: no byte is lost or shown."""

import errno
import random
from collections.abc import Callable, Iterator

import pytest

from hwmodel.failures import Failure, FailureKind, Failures, HostFailure
from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.errors import Fault
from kernel.abi.traps import PageState
from kernel.environment import Environment as KernelEnvironment
from libexo.environment import Environment
from libexo.errors import ExoError, IpcError
from libexo.pager import PagedObject
from libexo.testing import System
from servers.memory.api import _RAM, Pager
from servers.memory.policies import POLICIES
from tests.servers import rig
from tests.servers.memory.pagers.swapping import HangingStore, Paper, content, swapping, use, used

PAGES, FRAMES = 20, 8
NUMBER = 3
"""Of the pager's environment, which is booted last."""


def made(env: Environment, **named: object) -> Paper:
    """Have swapped memory made, once more if the pager was killed meanwhile."""
    for _ in range(3):
        try:
            return Paper(env, PAGES, FRAMES, **named)
        except (IpcError, ExoError):
            env.lookup("pager", 30)
    raise AssertionError("there is no pager")


def steady(seed: int, policy: str) -> tuple[Callable[[Environment], None], list[str]]:
    """Return a program that writes, reads and overwrites pages, and the list into which it says that it is done."""
    done: list[str] = []

    def user(env: Environment) -> None:
        paper, draw, expected = made(env, policy=policy, around=2), random.Random(seed), [0] * PAGES
        for turn in range(1, 60):
            page = draw.randrange(PAGES)
            if draw.random() < 0.6:
                paper.write(page, turn)
                expected[page] = turn
            else:
                assert paper.read(page) == content(expected[page])
        assert [paper.read(page) for page in range(PAGES)] == [content(number) for number in expected]
        done.append("done")

    return user, done


def pager_of(system: System) -> KernelEnvironment:
    [found] = [e for e in system.kernel.environments if e.name == "pager" and e.alive]
    return found


def steps(seed: int) -> Iterator[int]:
    """Every step of the pager, in a run that nobody disturbs."""
    user, done = steady(seed, "clock")
    with swapping(seed) as system:
        body = pager_of(system).body
        assert isinstance(body, SimulatedBody)
        used(system, user)
        assert done
        return iter(range(1, body.handovers))


def killed_at(seed: int, at: int, policy: str) -> None:
    """Kill the pager at its step *at*: the program goes on with all it wrote, and all is free after."""
    user, done = steady(seed, policy)
    failures = Failures([Failure(FailureKind.KILL, NUMBER, at)])
    with swapping(seed, failures=failures) as system:
        task = use(system, user)
        system.run(task)
        assert done, at
        if not failures.injected:  # this policy has fewer steps
            return
        system.pass_time(1)
        rig.kill(system, "pager")
        used(system, lambda env: Pager.connect(env, timeout=30).statistics(), "asking")
        system.pass_time(1)
        frames, living = system.kernel.frames, [e for e in system.kernel.environments if e.alive]
        assert pager_of(system).frames == 49
        assert frames.free + sum(e.frames for e in living) == frames.total


@pytest.mark.slow
def test_killed_at_any_step(seed: int) -> None:
    """Whenever the pager is killed, its successor goes on: every page is what was written last, and all is free."""
    every = list(steps(seed))
    for index, at in enumerate(every[seed % 12 :: max(1, len(every) // 25)]):
        killed_at(seed, at, list(POLICIES)[index % len(POLICIES)])


@pytest.mark.parametrize("policy", POLICIES)
def test_killed_with_a_page_guarded(policy: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pager had guarded and not written when it was killed is written by its successor, before it goes."""
    guard, killed = PagedObject.guard, list[int]()

    def kill(paged: PagedObject, page: int, count: int = 1) -> list[PageState]:
        states = guard(paged, page, count)
        if len(killed) < 3:
            killed.append(page)
            pager_of(system).body.kill()
        return states

    user, done = steady(seed, policy)
    monkeypatch.setattr(PagedObject, "guard", kill)
    with swapping(seed) as system:
        used(system, user)
        assert done
        assert len(killed) == 3


@pytest.mark.soak
def test_killed_at_every_step(seed: int) -> None:
    """The same at every step, under a policy of each kind in turn."""
    for at in steps(seed):
        killed_at(seed, at, list(POLICIES)[at % len(POLICIES)])


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("name", ["pread", "pwrite"])
def test_the_store_fails_for_a_while(name: str, number: int, seed: int) -> None:
    """A read or a write that fails, and does not when it is tried again, costs time and no byte."""
    user, done = steady(seed, "clock")
    failures = Failures(calls=[HostFailure(at, number, name) for at in (1, 2, 7)])
    with swapping(seed, failures=failures) as system:
        task = use(system, user)
        system.run(task)
        assert done == ["done"]
        assert len(failures.failed_calls) == 3


def test_the_store_fails_for_good(seed: int) -> None:
    """What can be read no more is a bus error to who touches it, whose record names the pager; others go on."""

    def user(env: Environment) -> None:
        paper = Paper(env, PAGES, FRAMES, policy="fifo", around=1)
        for page in range(PAGES):
            paper.write(page, page + 1)
        for at in range(1, 40):
            system.machine.failures.fail_call(HostFailure(reads() + at, errno.EIO, "pread"))
        assert paper.read(PAGES - 1) == content(PAGES)
        with pytest.raises(ValueError, match="poisoned"):
            paper.read(0)
        found.append(paper.read(PAGES - 2) == content(PAGES - 1))

    def reads() -> int:
        return system.machine.calls._of_name["pread"]

    found: list[bool] = []
    with swapping(seed) as system:
        used(system, user)
        assert found == [True]


def test_the_store_takes_no_more(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """While nothing can be written no page is lost: those that are there stay, and who needs room fails by name."""

    def user(env: Environment) -> None:
        paper = Paper(env, PAGES, FRAMES, policy="fifo", around=1)
        for page in range(FRAMES):
            paper.write(page, page + 1)
        for at in range(1, 3000):
            system.machine.failures.fail_call(HostFailure(at, errno.ENOSPC, "pwrite"))
        assert [paper.read(page) for page in range(FRAMES)] == [content(page + 1) for page in range(FRAMES)]
        paper.read(FRAMES)

    with swapping(seed) as system:
        task = use(system, user)
        system.run(task, errors=False)
        assert task.environment.fault == Fault.NO_PAGE
        assert "pager (" in task.environment.detail
        lines = capsys.readouterr().err.splitlines()
        assert lines.count("the store fails to write 1 pages from 0: No space left on device") > 0
        assert sum("the store fails" in line for line in lines) <= 10 * 12
        assert "more of this second is left out" in lines


def test_memory_taken_from_the_pager(seed: int) -> None:
    """Who takes back the RAM of its memory loses that memory, and nobody else's; its slots are free."""

    def other(env: Environment) -> None:
        paper = made(env)
        for page in range(PAGES):
            paper.write(page, page + 7)
        ready.append(True)
        env.host.wait((), env.host.now() + 2_000_000_000)
        assert [paper.read(page) for page in range(PAGES)] == [content(page + 7) for page in range(PAGES)]

    def user(env: Environment) -> list[int]:
        paper = made(env)
        for page in range(PAGES):
            paper.write(page, page)
        env.sys.revoke(_RAM[env].handle)
        with pytest.raises(ValueError, match=r"released|poisoned|mapped of 0"):
            paper.write(1, 1)
        env.host.wait((), env.host.now() + 1_000_000_000)
        return [usage.thread for usage in paper.pager.statistics().objects]

    ready: list[bool] = []
    with swapping(seed) as system:
        second = use(system, other, "other")
        system.run(until=lambda: bool(ready))
        task = use(system, user)
        system.run(task, second)
        assert task.result == [second.thread]


def test_a_disk_that_hangs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing comes from the store, only who needs it waits: others fault, ask and are answered."""
    store = HangingStore(monkeypatch)

    def waits(env: Environment) -> None:
        paper = Paper(env, PAGES, FRAMES, policy="fifo", around=1)
        for page in range(PAGES):
            paper.write(page, page + 1)
        store.hang()
        assert paper.read(0) == content(1)

    def goes_on(env: Environment) -> int:
        paper = Paper(env, PAGES, FRAMES, around=1)
        for page in range(FRAMES):
            paper.write(page, page + 1)
        assert [paper.read(page) for page in range(FRAMES)] == [content(page + 1) for page in range(FRAMES)]
        return len(paper.pager.statistics().objects)

    with swapping(seed) as system:
        waiting = use(system, waits, "waiting")
        system.run(until=store.holds)
        assert used(system, goes_on, "other") == 2
        assert not waiting.ended
        store.go_on()
        system.run(waiting)
        assert waiting.result is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["UFFDIO_CONTINUE", "UFFDIO_WRITEPROTECT", "fallocate"])
def test_the_host_refuses_the_kernel(name: str, seed: int) -> None:
    """Where the host has no room to show, guard or evict a page, it is tried again, and every byte stays."""
    for at in range(1, 24, 2):
        user, done = steady(seed, list(POLICIES)[at % len(POLICIES)])
        failures = Failures(calls=[HostFailure(each, errno.ENOMEM, name) for each in (at, at + 1, at + 5)])
        with swapping(seed, failures=failures) as system:
            used(system, user)
            assert done == ["done"]
            assert len(failures.failed_calls) == 3

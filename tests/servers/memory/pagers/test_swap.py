"""The pager on the simulated machine: more pages than frames, and what was written comes back."""

import random
from itertools import cycle, pairwise

import pytest

from kernel.abi.kip import Head
from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.testing import Task
from servers.memory.api import Pager
from servers.memory.pagers import uses
from servers.memory.pagers.server import MOST_OF_FAMILY
from servers.memory.pagers.steps import Request
from servers.memory.pagers.swapped import Swapped
from servers.memory.policies import POLICIES, Handover
from tests.servers.memory.pagers.swapping import (
    FRAMES,
    PAGES,
    HangingStore,
    Paper,
    content,
    swapping,
    use,
    used,
)

ALL = pytest.mark.parametrize("policy", POLICIES)


@ALL
@pytest.mark.parametrize("around", [1, 4])
def test_twice_the_frames(policy: str, around: int, seed: int) -> None:
    """Thirty-two pages in sixteen frames are, byte for byte, what was written last, under every policy."""
    draw = random.Random(seed)

    def user(env: Environment) -> None:
        paper = Paper(env, policy=policy, around=around)
        expected = [0] * PAGES
        for turn in range(1, 200):
            page = draw.randrange(PAGES)
            if draw.random() < 0.5:
                paper.write(page, turn)
                expected[page] = turn
            else:
                assert paper.read(page) == content(expected[page])
        for page, number in enumerate(expected):
            assert paper.read(page) == content(number)
        [usage] = paper.pager.statistics().objects
        assert usage.policy == policy
        assert usage.resident <= FRAMES
        assert usage.zeroed + usage.read == usage.resident + usage.evicted
        assert 0 < usage.written <= usage.evicted

    with swapping(seed) as system:
        free = system.kernel.frames.free
        used(system, user)
        system.pass_time(1)
        assert system.kernel.frames.free == free
        assert system.kernel.kip.head(Head.FREE_FRAMES) == free


def test_replaced_while_it_runs(seed: int) -> None:
    """The policy is another one after each few touches, and every page stays what was written."""
    draw = random.Random(seed)

    def user(env: Environment) -> list[str]:
        paper = Paper(env, policy="fifo", around=2)
        seen = []
        for turn in range(1, 150):
            if turn % 7 == 0:
                paper.pager.set_policy(paper.extent.first, draw.choice(list(POLICIES)))
                seen.append(paper.pager.statistics().objects[0].policy)
            page = turn * 5 % PAGES
            if turn > PAGES:
                assert paper.read(page) == content(turn - PAGES)
            paper.write(page, turn)
        return seen

    with swapping(seed) as system:
        assert len(set(used(system, user))) > 2  # type: ignore[call-overload]


def test_others_while_a_policy_is_replaced(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps of a change of policy, faults of others are answered; the last of many changes stays."""
    step, events = Handover.step, list[str]()

    def stepped(handover: Handover, most: int) -> bool:
        events.append("step")
        return step(handover, most // 64)

    monkeypatch.setattr(Handover, "step", stepped)

    def changes(env: Environment) -> str:
        paper = Paper(env, 128, 100, policy="fifo", around=4)
        for page in range(100):
            paper.write(page, page)
        for policy in ("lru", "2q", "clock"):
            paper.pager.set_policy(paper.extent.first, policy)
        paper.write(120, 120)
        while events.count("step") < 25:
            env.host.wait((), env.host.now() + 1_000_000)
        done.append(True)
        assert [paper.read(page) for page in range(100)] == [content(page) for page in range(100)]
        first = paper.extent.first
        return next(each.policy for each in paper.pager.statistics().objects if each.first == first)

    def faults(env: Environment) -> None:
        paper = Paper(env, 64, 8, around=1)
        for page in cycle(range(64)):
            vm.touch(env, paper.view, page * FRAME_SIZE, 1)
            events.append("fault")
            if done:
                return

    done: list[bool] = []
    with swapping(seed) as system:
        other = use(system, faults, "other")
        task = use(system, changes)
        system.run(task, other)
        assert task.result == "clock"
    steps = [at for at, event in enumerate(events) if event == "step"]
    assert "fault" in events[steps[0] : steps[-1]]


def test_others_while_pages_are_looked_at(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each run of pages that is looked at for a sample, others have their turn: a sample takes eight."""
    events = list[str]()
    look, pause = Swapped._look, Swapped._pause

    def looked(swapped: Swapped, run: range, there: list[int]) -> None:
        events.append("look")
        look(swapped, run, there)

    def paused(swapped: Swapped, seconds: float) -> Request:
        events.append("pause")
        return pause(swapped, seconds)

    monkeypatch.setattr(uses, "MAX_RUN", 8)
    monkeypatch.setattr(Swapped, "_look", looked)
    monkeypatch.setattr(Swapped, "_pause", paused)

    def user(env: Environment) -> None:
        paper = Paper(env, 64, 32, policy="lru", around=1)
        for page in [*range(64), *range(64)]:
            paper.write(page, page)
        assert [paper.read(page) for page in range(64)] == [content(page) for page in range(64)]

    with swapping(seed) as system:
        used(system, user)
    assert events.count("look") > 20
    assert ("look", "look") not in pairwise(events)


def test_what_must_be_there_at_once(seed: int) -> None:
    """As many pages as there are frames are there at once, whoever else touches others meanwhile: no livelock."""

    def user(env: Environment) -> None:
        paper = Paper(env, policy="random")
        for start in range(0, PAGES, FRAMES):
            vm.touch(env, paper.view, start * FRAME_SIZE, FRAMES * FRAME_SIZE, write=True)

    with swapping(seed) as system:
        used(system, user)


@ALL
def test_a_page_too_few(policy: str) -> None:
    """A program that goes round one page more than it has frames waits a millisecond a fault, and no longer."""

    def user(env: Environment) -> tuple[int, int]:
        paper = Paper(env, 9, 8, policy=policy, around=1)
        began = env.host.now()
        for turn in range(400):
            vm.touch(env, paper.view, turn % 9 * FRAME_SIZE, 8)
        return env.host.now() - began, paper.pager.statistics().objects[0].faults

    with swapping() as system:
        found = used(system, user)
        assert isinstance(found, tuple)

    assert 40 < found[1] <= 400
    assert found[0] / found[1] < 1_000_000


def test_refusals() -> None:
    """Too few frames, an unknown policy, more than the store has, another's memory: each says what to do."""

    def other(env: Environment) -> None:
        pager = Pager.connect(env)
        [usage] = pager.statistics().objects
        why = f"NotYours: no memory of the caller's begins with frame {usage.first}"
        with pytest.raises(RemoteError, match=why):
            pager.release(usage.first)
        with pytest.raises(RemoteError, match=why):
            pager.set_policy(usage.first, "fifo")

    def user(env: Environment) -> None:
        paper = Paper(env)
        for pages, frames, policy, why in (
            (32, 7, "fifo", "MemoryRefused: 7 frames for 32 pages: have at least 8"),
            (32, 16, "lifo", "UnknownPolicy: 'lifo': there are fifo, lru, clock, 2q, random"),
            (
                128,
                16,
                "fifo",
                "QuotaExceeded: 32 of 128 pages of the swap file are the caller's family's, 128 more",
            ),
            (100, 16, "fifo", "QuotaExceeded: 32 of 128 pages"),
            (400, 300, "fifo", "QuotaExceeded: .* frames in use"),
        ):
            with pytest.raises(RemoteError, match=why):
                paper.pager.paged(pages, frames, policy=policy)
        task.append(use(system, other, "other"))
        while not task[0].ended:
            env.host.wait((), env.host.now() + 1_000_000)
        assert paper.read(3) == bytes(FRAME_SIZE)
        paper.pager.release(paper.extent.first)
        assert paper.pager.statistics().objects == []

    task: list[Task] = []
    with swapping() as system:
        used(system, user)
        assert task[0].error is None


def test_as_many_as_a_family_may_have() -> None:
    """A family has 64 objects at most, whatever their size; the next one is refused, and others are not."""

    def user(env: Environment) -> None:
        pager = Pager.connect(env)
        made = [pager.paged(1, 1).first for _ in range(MOST_OF_FAMILY)]
        with pytest.raises(
            RemoteError, match=r"QuotaExceeded: 64 of 64 swapped objects are the caller's family's"
        ):
            pager.paged(1, 1)
        pager.release(made[7])
        assert pager.paged(1, 1).first in made

    with swapping() as system:
        used(system, user)
        used(system, lambda env: Pager.connect(env).paged(1, 1), "other")


def test_no_swap() -> None:
    """Without a swap file memory that fits its frames is paged, and more is refused by name."""

    def user(env: Environment) -> None:
        paper = Paper(env, 12, 12)
        for page in range(12):
            paper.write(page, page)
        assert [paper.read(page) for page in range(12)] == [content(page) for page in range(12)]
        with pytest.raises(
            RemoteError, match=r"NoSwap: 13 pages in 12 frames, and no swap file: name a directory"
        ):
            Paper(env, 13, 12)

    with swapping(swap="") as system:
        used(system, user)


def test_nobody_finds_what_another_wrote(seed: int) -> None:
    """Slots and frames of memory that was given up are zeros to whom they are given next."""

    def user(env: Environment) -> int:
        paper = Paper(env)
        for page in range(PAGES):
            paper.write(page, 0xBADBADBAD)
        paper.pager.release(paper.extent.first)
        return paper.extent.first

    def other(env: Environment) -> int:
        paper = Paper(env)
        for page in [*range(PAGES), *range(PAGES)]:
            assert paper.read(page) == bytes(FRAME_SIZE)
        return paper.extent.first

    with swapping(seed) as system:
        assert used(system, user) == used(system, other, "other")


def test_given_up_in_the_middle(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots are free when nothing is written to them any more, however late that is."""
    store = HangingStore(monkeypatch)

    def waits(env: Environment) -> None:
        paper = Paper(env, around=1)
        for page in range(FRAMES):
            paper.write(page, page + 1)
        store.hang()
        paper.read(FRAMES)

    def look(env: Environment) -> tuple[int, int]:
        env.host.wait((), env.host.now() + 1_000_000_000)
        found = Pager.connect(env).statistics()
        return found.free, len(found.objects)

    with swapping(seed) as system:
        task = use(system, waits, "waiting")
        system.run(until=store.holds)
        task.kill()
        during = used(system, look, "looking")
        store.go_on()
        after = used(system, look, "looking again")

    assert (during, after) == ((256 - PAGES, 1), (256, 0))


def test_frames_of_what_is_given_up_in_the_middle(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory may lie where memory was of which something is still under way: each ends for itself."""
    store = HangingStore(monkeypatch)

    def waits(env: Environment) -> None:
        paper = Paper(env, around=1)
        places.append(paper.extent.first)
        for page in range(FRAMES):
            paper.write(page, page + 1)
        store.hang()
        paper.read(FRAMES)

    def comes(env: Environment) -> tuple[list[int], int]:
        paper = Paper(env, around=1)
        places.append(paper.extent.first)
        store.go_on()
        env.host.wait((), env.host.now() + 1_000_000_000)
        during = [usage.first for usage in paper.pager.statistics().objects]
        paper.write(0, 7)
        assert paper.read(0) == content(7)
        paper.pager.release(paper.extent.first)
        return during, paper.pager.statistics().free

    places: list[int] = []
    with swapping(seed) as system:
        task = use(system, waits, "waiting")
        system.run(until=store.holds)
        task.kill()
        system.pass_time(1)
        assert used(system, comes, "coming") == ([places[0]], 256)
        assert places == [places[0]] * 2

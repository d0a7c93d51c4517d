"""What a program asks the pager of its memory: which pages were written, and to see the first write to each."""

import random

import pytest

from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.environment import Environment
from libexo.errors import RemoteError
from servers.memory.api import Pager
from servers.memory.policies import POLICIES
from tests.servers import rig
from tests.servers.memory.pagers.swapping import FRAMES, PAGES, Paper, content, swapping, use, used


def asked(paper: Paper) -> list[int]:
    return paper.pager.clean(paper.extent.first, 0, PAGES)


@pytest.mark.parametrize("policy", POLICIES)
def test_written_since_it_was_asked(policy: str, seed: int) -> None:
    """Exactly the pages that were written since are told, in memory or not, whatever left and was looked at."""
    draw = random.Random(seed)

    def user(env: Environment) -> None:
        paper = Paper(env, policy=policy, around=2)
        assert asked(paper) == []
        for turn in range(1, 25):
            written = draw.sample(range(PAGES), draw.randrange(PAGES))
            for page in written:
                paper.write(page, turn)
            for page in draw.sample(range(PAGES), 8):
                paper.read(page)
            assert asked(paper) == sorted(written)

    with swapping(seed) as system:
        used(system, user)


def test_asked_of_a_successor(seed: int) -> None:
    """A pager that is killed has a successor that knows what was written, in memory and out of it."""

    def user(env: Environment) -> list[int]:
        paper = Paper(env, policy="fifo", around=1)
        for page in range(PAGES):
            paper.write(page, page)
        asked(paper)
        for page in range(0, PAGES, 2):
            paper.write(page, page)
        ready.append(True)
        env.host.wait((), env.host.now() + 1_000_000_000)
        paper.pager = Pager.connect(env, timeout=30)
        return asked(paper)

    ready: list[bool] = []
    with swapping(seed) as system:
        task = use(system, user)
        system.run(until=lambda: bool(ready))
        rig.kill(system, "pager")
        system.run(task)
        assert task.result == [*range(0, PAGES, 2)]


def test_the_first_write_is_seen(seed: int) -> None:
    """The first write to a protected page waits for the pager and is counted; later ones and others are not."""

    def user(env: Environment) -> list[int]:
        paper = Paper(env, 8, 8, around=1)
        first, counts = paper.extent.first, []
        for page in range(8):
            paper.write(page, page)

        def again(*pages: int) -> None:
            before = paper.pager.statistics().objects[0].stopped
            for page in pages:
                paper.write(page, page + 50)
                assert paper.read(page) == content(page + 50)
            counts.append(paper.pager.statistics().objects[0].stopped - before)

        paper.pager.protect(first, 2, 4)
        again(0, 1, 6, 7)
        again(2, 3, 2)
        paper.pager.unprotect(first, 0, 8)
        again(4, 5)
        return counts

    with swapping(seed) as system:
        assert used(system, user) == [0, 2, 0]


def test_protected_pages_leave_and_come(seed: int) -> None:
    """Protected pages are swapped like others, and absent ones are not made by it: every byte stays."""

    def user(env: Environment) -> None:
        paper = Paper(env, around=4)
        for turn in range(1, 6):
            for page in range(PAGES):
                paper.write(page, turn * 100 + page)
                if page % 5 == 0:
                    paper.pager.protect(paper.extent.first, 0, PAGES)
                if page % 7 == 0:
                    paper.pager.unprotect(paper.extent.first, page // 2, PAGES - page // 2)
            assert [paper.read(page) for page in range(PAGES)] == [
                content(turn * 100 + page) for page in range(PAGES)
            ]
        assert paper.pager.statistics().objects[0].resident <= FRAMES

    with swapping(seed) as system:
        used(system, user)


def test_refusals() -> None:
    """Pages that the memory has not, and another's memory, are refused by name."""

    def user(env: Environment) -> None:
        paper = Paper(env)
        first, pager = paper.extent.first, paper.pager
        for ask in (pager.clean, pager.protect, pager.unprotect):
            with pytest.raises(RemoteError, match=r"NoSuchPage: pages 30\+3 of memory of 32"):
                ask(first, 30, 3)
            with pytest.raises(RemoteError, match="NotYours"):
                ask(first + 1, 0, 1)
        vm.touch(env, paper.view, 0, FRAME_SIZE)

    with swapping() as system:
        used(system, user)

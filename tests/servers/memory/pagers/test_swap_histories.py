"""Histories of swap: programs share memory, policies change, the store fails, the pager is killed, all by a seed.

Each program writes pages of its own and reads all; a page is always whole, and never older than it was seen before.
"""

import errno
import random

import pytest

from hwmodel.failures import Failure, FailureKind, Failures, HostFailure
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Rights
from libexo import ipc, vm
from libexo.environment import Environment
from libexo.errors import ExoError, IpcError
from libexo.ipc.message import MapItem
from servers.memory.policies import POLICIES
from tests.servers.memory.pagers.swapping import Paper, content, swapping, use

PAGES, FRAMES, NUMBER, TURNS = 24, 10, 3, 70
BOTH = int(Rights.READ | Rights.WRITE)


class Reader:
    """What one program knows of shared pages."""

    def __init__(self, env: Environment, view: memoryview, mine: int, seed: str) -> None:
        self.env, self.view, self.mine = env, view, mine
        self.draw = random.Random(f"{seed}/{mine}")
        self.seen = [0] * PAGES
        self.written: set[int] = set()
        """Since the pager was asked for that."""
        self.turn = 0

    def go_on(self, turns: int) -> None:
        """Write and read some pages."""
        for _ in range(turns):
            page = self.draw.randrange(PAGES)
            write = page % 2 == self.mine and self.draw.random() < 0.7
            vm.touch(self.env, self.view, page * FRAME_SIZE, FRAME_SIZE, write=write)
            part = self.view[page * FRAME_SIZE : (page + 1) * FRAME_SIZE]
            number = int.from_bytes(part[:8], "little")
            assert part == content(number)
            assert number == self.seen[page] if page % 2 == self.mine else number >= self.seen[page]
            self.seen[page] = number
            if write:
                self.turn += 1
                part[:] = content(self.turn)
                self.seen[page] = self.turn
                self.written.add(page)


def made(env: Environment, draw: random.Random) -> Paper:
    """Have memory made, again where the pager was killed meanwhile."""
    for _ in range(9):
        try:
            return Paper(env, PAGES, FRAMES, policy=draw.choice(list(POLICIES)), around=draw.choice((1, 4)))
        except (IpcError, ExoError):
            env.lookup("pager", 30)
    raise AssertionError("there is no pager")


def history(seed: str) -> None:
    """Have two programs share memory, while what *seed* says goes wrong."""
    draw = random.Random(seed)
    kills = [Failure(FailureKind.KILL, NUMBER, draw.randrange(20, 900)) for _ in range(4)]
    calls = [
        HostFailure(
            draw.randrange(1, 60), draw.choice((errno.EIO, errno.ENOSPC)), draw.choice(("pread", "pwrite"))
        )
        for _ in range(6)
    ]
    done: list[int] = []

    def first(env: Environment) -> None:
        paper = made(env, draw)
        env.thread.send(second.thread, ipc.Message(items=(MapItem(paper.extent.handle, BOTH),)))
        reader = Reader(env, paper.view, 0, seed)
        for _ in range(TURNS // 10):
            reader.go_on(10)
            try:
                paper.pager.set_policy(paper.extent.first, draw.choice(list(POLICIES)))
                paper.pager.protect(paper.extent.first, 0, draw.randrange(1, PAGES))
                assert reader.written <= set(paper.pager.clean(paper.extent.first, 0, PAGES))
            except (IpcError, ExoError):
                env.lookup("pager", 30)
            reader.written.clear()
        done.append(0)
        while len(done) < 2:
            env.host.wait((), env.host.now() + 10_000_000)

    def other(env: Environment) -> None:
        _, message = env.thread.wait()
        Reader(env, vm.map(env, message.items[0]), 1, seed).go_on(TURNS)  # type: ignore[arg-type]
        done.append(1)

    with swapping(draw.randrange(1 << 30), failures=Failures(kills, calls)) as system:
        second = use(system, other, "second")
        use(system, first, "first")
        system.run(until=lambda: all(task.ended for task in system.tasks), seconds=300)
        assert sorted(done) == [0, 1]
        system.pass_time(2)
        frames, living = system.kernel.frames, [each for each in system.kernel.environments if each.alive]
        assert frames.free + sum(each.frames for each in living) == frames.total


@pytest.mark.slow
def test_histories(seed: int) -> None:
    """Whatever happens in whichever order, what is read was written, and frames are free at the end."""
    for number in range(8):
        history(f"{seed}/{number}")


@pytest.mark.soak
def test_many_histories(seed: int, soak_seconds: float) -> None:
    """The same for a share of the campaign."""
    for number in range(8, 8 + int(soak_seconds / 4)):
        history(f"{seed}/{number}")

"""Regions whose memory is taken at any time: what is lost, who is told, and that their pager goes on."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from kernel.taking import Taking
from libexo import regions
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.regions import Advice, Region
from libexo.testing import System
from tests.libexo.regions.test_random import PAGES, Script
from tests.libexo.regions.worlds import alone, begin, content, peek, poke
from tests.servers.memory.presses import pressed
from tests.servers.rig import servers

Take = Callable[[Environment, Region], None]


def run(program: Callable[[Environment, Take], object], seed: int = 5) -> object:
    """Run *program*, which may have a region taken as by force; return what it returns, when all have ended."""
    with servers(seed=seed) as system:
        result = begin(system, lambda env: program(env, lambda env, region: take(system, env, region)))
        system.run(until=lambda: bool(result) and alone(system))
        [found] = result
        if isinstance(found, BaseException):
            raise found
        return found


def take(system: System, env: Environment, region: Region) -> None:
    kernel = system.kernel
    root = kernel.frames.extents[region.extent.first].root
    assert root is not None
    kernel.jobs.add(Taking(kernel.exposure, root, None).steps(itself=True, forced=True))
    env.thread.sleep(0.01)


def kind(action: Callable[[], object]) -> str:
    try:
        action()
    except RemoteError as error:
        return error.kind
    return "done"


def test_it_is_told() -> None:
    """Whoever asks for a region that was taken is told so; it may be closed, and others are served on."""

    def program(env: Environment, take: Take) -> list[object]:
        pager = regions.start(env)
        first, second = pager.make(4), pager.make(4)
        poke(first, 1, 1)
        poke(second, 1, 2)
        take(env, first)
        said: list[object] = [kind(each) for each in (first.lost, first.written, first.copy, first.close)]
        third = pager.make(4)
        poke(third, 0, 3)
        return [*said, peek(second, 1), peek(third, 0), pager.statistics().taken]

    assert run(program) == ["RegionTaken", "RegionTaken", "RegionTaken", "done", 2, 3, 1]


def test_what_a_copy_had_not_taken_is_lost() -> None:
    """A copy keeps the pages that it has; those it had yet to take are named, never come, and can be made new."""

    def program(env: Environment, take: Take) -> list[object]:
        pager = regions.start(env)
        region = pager.make(5)
        for page in range(5):
            poke(region, page, page + 1)
        copy = region.copy()
        second = copy.copy()
        found: list[object] = [peek(copy, 3), peek(second, 0)]
        take(env, region)
        found += [copy.lost(), second.lost(), peek(copy, 3), peek(second, 0)]
        third = second.copy()
        found += [third.lost(), peek(third, 0)]
        copy.protect()
        copy.unprotect()
        copy.advise(Advice.WILL_NEED)
        copy.advise(Advice.DONT_NEED, 1, 1)
        return [*found, copy.lost(), peek(copy, 1), pager.statistics().lost]

    assert run(program) == [4, 1, [0, 1, 2, 4], [1, 2, 3, 4], 4, 1, [1, 2, 3, 4], 1, [0, 2, 4], 0, 8]


@pytest.mark.parametrize("closes", ["kept", "closed"])
def test_a_copy_is_taken(closes: str) -> None:
    """Its origin is written on, given up or not, and nothing waits for a copy that is gone."""

    def program(env: Environment, take: Take) -> list[int]:
        pager = regions.start(env)
        region = pager.make(4)
        for page in range(4):
            poke(region, page, page)
        copy, other = region.copy(), region.copy()
        take(env, copy)
        poke(region, 2, 9)
        found = content(region)
        if closes == "closed":
            region.close()
        return [*found, *content(other)]

    assert run(program) == [0, 1, 9, 3, 0, 1, 2, 3]


def test_what_was_given_up_is_taken() -> None:
    """Of a region that was given up, and is kept for a copy, the copy's pages are lost; the pager goes on."""

    def program(env: Environment, take: Take) -> list[object]:
        pager = regions.start(env)
        region = pager.make(4)
        poke(region, 2, 9)
        copy = region.copy()
        pager.ask.close(region.extent.first)
        take(env, region)
        return [copy.lost(), peek(copy, 0), peek(pager.make(1), 0)]

    assert run(program) == [[2], 0, 0]


def test_a_pager_of_ones_own_is_told() -> None:
    """Its class learns which pages of which region were lost."""

    def program(env: Environment, take: Take) -> list[int]:
        pager = regions.start(env, Noting)
        region = pager.make(3)
        poke(region, 1, 7)
        copy = region.copy()
        take(env, region)
        copy.lost()
        return [peek(pager.make(1), 0)]

    assert run(program) == [2]


class Noting(regions.Pager):
    """Counts what it is told; a page that is new holds how often."""

    def __init__(self) -> None:
        self.told: list[tuple[int, list[int]]] = []

    def lost(self, region: int, pages: list[int]) -> None:
        self.told.append((region, pages))

    def fill(self, region: int, page: int) -> bytes:
        assert self.told in ([], [(0, [0, 1, 2]), (0, [1])])
        return bytes([len(self.told)])


def test_pressed() -> None:
    """Asked for frames, a pager gives back what only copies need; then regions are taken, and it goes on."""

    def program(env: Environment) -> list[object]:
        pager = regions.start(env)
        region = pager.make(20)
        poke(region, 2, 9)
        copy = region.copy()
        pager.ask.close(region.extent.first)
        while not told:
            env.thread.sleep(0.1)
        given = [peek(copy, 2), copy.lost()]
        while len(told) < 2:
            env.thread.sleep(0.1)
        return [*given, kind(copy.lost), peek(pager.make(1), 0)]

    told: list[tuple[int, int, int]] = []
    with servers() as system:
        result = begin(system, program)
        system.pass_time(0.5)
        for keeps in (20, 0):
            found = pressed(system, "program", keeps, 0.5)
            told.append((found.frames, found.given, found.taken))
        system.run(until=lambda: bool(result) and alone(system))

        assert (told, result) == ([(20, 20, 0), (0, 0, 20)], [[9, [], "RegionTaken", 0]])


@pytest.mark.parametrize("at", range(6))
def test_any_order(seed: int, at: int) -> None:
    """Whatever is taken between any steps, no page ever holds anything else than it should, and the pager lives."""

    def program(env: Environment, take: Take) -> int:
        luck = random.Random(f"{seed}/{at}")
        script = Careful(env, luck)
        for _ in range(150):
            if luck.random() < 0.08:
                region, model, written = luck.choice(script.all)
                take(env, region)
                script.all.remove((region, model, written))
                if not script.all:
                    script.make()
            with suppress(Lost):
                script.step()
        for region, model, _ in script.all:
            lost = region.lost()
            assert all(page in lost or peek(region, page) == model[page] for page in range(PAGES))
        return script.pager.statistics().taken

    assert isinstance(taken := run(program, seed=seed + at), int)
    assert taken > 3


class Lost(Exception):
    """A step would touch a page that is lost."""


class Careful(Script):
    """The same steps, but for touching what is lost, which ends a program."""

    def touching(self, region: Region, page: int) -> None:
        if page in region.lost():
            raise Lost

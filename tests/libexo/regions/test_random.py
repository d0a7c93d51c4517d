"""Regions, copies of copies, protections and ends in any order, beside a model that copies at once."""

import random

import pytest

from libexo import process, regions
from libexo.environment import Environment
from libexo.regions import Advice, Region
from tests.libexo.regions.worlds import content, one, peek, poke

PAGES, STEPS, MOST = 24, 120, 5


class Script:
    """Random steps on regions, each with the list of bytes that it should hold."""

    def __init__(self, env: Environment, luck: random.Random) -> None:
        self.luck = luck
        self.pager = regions.start(env)
        self.all: list[tuple[Region, list[int], set[int]]] = []
        """Each with its content, and the pages written since they were clean."""
        self.make()

    def make(self) -> None:
        self.all.append((self.pager.make(PAGES), [0] * PAGES, set()))

    def touching(self, region: Region, page: int) -> None:
        """Be told of each touch before it is done."""

    def step(self) -> None:
        region, model, written = self.luck.choice(self.all)
        page = self.luck.randrange(PAGES)
        count = self.luck.randint(1, PAGES - page)
        match self.luck.randrange(14):
            case 0 if len(self.all) < MOST:
                self.make()
            case 1 | 2 if len(self.all) < MOST:
                self.all.append((region.copy(), list(model), set()))
            case 3 if len(self.all) > 1:
                region.close()
                self.all.remove((region, model, written))
            case 4:
                region.advise(Advice.DONT_NEED, page, count)
                model[page : page + count] = [0] * count
                written.difference_update(range(page, page + count))
            case 5:
                region.advise(Advice.WILL_NEED, page, count)
            case 6:
                region.protect(page, count)
            case 7:
                assert region.clean() == sorted(written)
                written.clear()
            case 8 | 9:
                self.touching(region, page)
                assert peek(region, page) == model[page]
            case _:
                self.touching(region, page)
                model[page] = self.luck.randrange(256)
                poke(region, page, model[page])
                written.add(page)


def test_any_order(seed: int) -> None:
    """Each region holds what was written to it, and a copy what its region held, whatever comes between."""

    def program(env: Environment) -> list[list[list[int]]]:
        script = Script(env, random.Random(seed))
        for _ in range(STEPS):
            script.step()
        return [[content(region), model] for region, model, _ in script.all]

    for found, model in one(program, seed=seed):  # type: ignore[attr-defined]
        assert found == model


@pytest.mark.slow
def test_many_orders(seed: int) -> None:
    """The same, for six seeds more."""
    for at in range(1, 7):
        test_any_order(seed + at)


def write(_env: Environment, region: Region, rounds: int) -> None:
    """Write each page in turn, again and again, how often it was done."""
    for times in range(1, rounds + 1):
        for page in range(PAGES):
            poke(region, page, times)


@pytest.mark.parametrize("at", range(4))
def test_a_copy_while_another_program_writes(seed: int, at: int) -> None:
    """Every copy of what another program is writing has all pages up to some write, and none after it."""

    def program(env: Environment) -> list[list[int]]:
        pager = regions.start(env)
        region = pager.make(PAGES)
        child = process.start(env, write, region, 5, paged=True)
        found = []
        for _ in range(9):
            with region.copy() as copy:
                found.append(content(copy))
            peek(region, 0)
        assert child.wait().status == 0
        return [*found, content(region)]

    copies = one(program, seed=seed + at)
    assert isinstance(copies, list)
    for copy in copies:
        assert copy == sorted(copy, reverse=True)
        assert copy[0] - copy[-1] <= 1
    assert copies == sorted(copies)
    assert copies[-1] == [5] * PAGES

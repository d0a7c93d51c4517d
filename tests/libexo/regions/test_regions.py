"""libexo.regions on the simulated machine: memory that a program of one's own pages."""

import gc
import weakref
from typing import ClassVar

import pytest

from kernel.abi.limits import FRAME_SIZE
from libexo import regions
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.regions import Advice, Region
from libexo.regions.server import RegionServer
from tests.libexo.regions.worlds import content, one, peek, poke


def test_a_region_is_zeros() -> None:
    """Each page is zero when it is first touched, and then what was stored."""

    def program(env: Environment) -> list[int]:
        region = regions.start(env).make(pages=4)
        poke(region, 2, 7)
        return content(region)

    assert one(program) == [0, 0, 7, 0]


def test_a_copy_is_of_one_moment() -> None:
    """What is written to either after the copy was made, or copied of it, is not in the other."""

    def program(env: Environment) -> list[list[int]]:
        region = regions.start(env).make(pages=40)
        for page in range(0, 40, 3):
            poke(region, page, 100 + page)
        copy = region.copy()
        poke(region, 3, 1)  # there, and to be copied first
        poke(region, 4, 2)  # zero in both until now
        poke(copy, 6, 3)
        poke(copy, 7, 4)
        again = copy.copy()
        poke(copy, 9, 5)
        poke(region, 9, 6)
        return [content(each) for each in (region, copy, again)]

    first = [100 + page if page % 3 == 0 else 0 for page in range(40)]
    changed = ({3: 1, 4: 2, 9: 6}, {6: 3, 7: 4, 9: 5}, {6: 3, 7: 4})
    assert one(program) == [[each.get(page, first[page]) for page in range(40)] for each in changed]


def test_what_neither_touches_is_not_copied() -> None:
    """A write copies its page; writes in a row copy twice as many each time, 16 at most; no more is copied."""

    def program(env: Environment) -> list[int]:
        pager = regions.start(env)
        region = pager.make(pages=64)
        region.advise(Advice.WILL_NEED)
        copy = region.copy()
        found = [pager.statistics().copied]
        for page in (20, 5, *range(6, 50), 3):
            poke(region, page, 1)
            found.append(pager.statistics().copied)
        return [*sorted(set(found)), sum(content(copy)), pager.statistics().copied]

    assert one(program) == [0, 1, 2, 4, 8, 16, 17, 19, 23, 31, 47, 48, 0, 64]


def test_a_region_outlives_nothing() -> None:
    """A region that was given up while a copy still needs its pages gives them; and they are gone with it."""

    def program(env: Environment) -> tuple[list[int], int]:
        pager = regions.start(env)
        region = pager.make(pages=20)
        for page in range(20):
            poke(region, page, page)
        copy = region.copy()
        region.close()
        return content(copy), pager.statistics().regions

    assert one(program) == (list(range(20)), 1)


def test_what_was_written() -> None:
    """The pages that were stored to since they were clean are told, no others, and each once."""

    def program(env: Environment) -> list[list[int]]:
        region = regions.start(env).make(pages=32)
        region.advise(Advice.WILL_NEED)
        found = [region.clean()]
        poke(region, 3, 1)
        poke(region, 17, 1)
        peek(region, 20)
        found += [region.written(), region.clean(), region.clean()]
        poke(region, 3, 2)
        return [*found, region.written(), region.written(4)]

    assert one(program) == [[], [3, 17], [3, 17], [], [3], []]


def test_writes_that_a_copy_waited_for_are_told_too() -> None:
    """A page that was written before a copy, and one that is written after, are both told; the copy's are none."""

    def program(env: Environment) -> list[list[int]]:
        region = regions.start(env).make(pages=32)
        region.advise(Advice.WILL_NEED)
        region.clean()
        poke(region, 3, 1)
        copy = region.copy()
        poke(region, 30, 1)
        poke(copy, 5, 1)
        return [region.written(), copy.written()]

    assert one(program) == [[3, 30], [5]]


def test_no_longer_needed() -> None:
    """What was given up is zero at its next touch, and a copy has what was there before."""

    def program(env: Environment) -> list[list[int]]:
        region = regions.start(env).make(pages=6)
        for page in range(6):
            poke(region, page, 50 + page)
        copy = region.copy()
        peek(copy, 0)
        region.advise(Advice.DONT_NEED, 1, 3)
        copy.advise(Advice.DONT_NEED, 5)
        return [content(region), content(copy)]

    assert one(program) == [[50, 0, 0, 0, 54, 55], [50, 51, 52, 53, 54, 0]]


class Squares(regions.Pager):
    """A pager of one's own."""

    ahead = 1

    def __init__(self) -> None:
        """Remember what was asked."""
        self.asked = 0

    def fill(self, region: int, page: int) -> bytes:
        """Work the page out, and say what was asked before."""
        return bytes([region, page**2, self.asked])

    def let_write(self, region: int, page: int) -> bool:
        """Let it."""
        self.asked = 10 * self.asked + page
        return True


def test_a_pager_of_ones_own() -> None:
    """A class decides what is in new pages, and is asked once of each that was protected, if it is written."""

    def program(env: Environment) -> list[bytes]:
        pager = regions.start(env, Squares)
        first, second = pager.make(pages=9), pager.make(pages=9)
        first.protect(2, 4)
        first.protect(7)
        first.unprotect(3, 1)
        for page in (0, 2, 2, 3, 8):
            poke(first, page, 0)
        found = [bytes(second.touch(3 * FRAME_SIZE, 3)), bytes(first.touch(5 * FRAME_SIZE, 3))]
        return [*found, bytes(first.copy().touch(6 * FRAME_SIZE, 3))]

    assert one(program) == [b"\1\x09\x1c", b"\0\x19\0", b"\0\x24\x1c"]


def test_strangers_are_refused() -> None:
    """A pager serves who started it, and says what it does not know."""

    def program(env: Environment) -> list[str]:
        pager = regions.start(env)
        region = pager.make(pages=2)
        found = []
        for wrong in (
            lambda: pager.ask.copy(region.extent.first + 1),
            lambda: region.written(1, 2),
            lambda: pager.make(1 << 15),
            lambda: regions.start(env, regions.Pager).ask.close(region.extent.first),
        ):
            with pytest.raises(RemoteError) as refused:
                wrong()
            found.append(refused.value.kind)
        return found

    assert one(program) == ["NoSuchRegion", "NoSuchRegion", "NoRoom", "NoSuchRegion"]


def test_all_of_it_in_pieces() -> None:
    """A region is gone through in pieces that are there, the last one shorter."""

    def program(env: Environment) -> list[int]:
        region: Region = regions.start(env).make(pages=5)
        poke(region, 4, 9)
        pieces = region.pieces(2)
        return [len(next(pieces)), len(next(pieces)), next(pieces)[0]]

    assert one(program) == [2 * FRAME_SIZE, 2 * FRAME_SIZE, 9]


def test_what_was_given_up_goes() -> None:
    """A region that was given up is not kept by its pager, though its faults lead to it."""

    class Watching(RegionServer):
        gone: ClassVar[list[bool]] = []

        def close(self, region: int) -> None:
            known = weakref.ref(self._regions[region].segment.store)
            super().close(region)
            self.gone.append(known() is None)

    def program(env: Environment) -> list[bool]:
        server = Watching(env, env.thread.id, regions.Pager())
        first = [server._new(0, 4, env.thread.id).extent.first for _ in range(2)]
        server._regions[first[0]].segment.need(0, 4)
        server._caller = lambda: env.thread.id  # type: ignore[method-assign]
        gc.disable()
        for each in first:
            server.close(each)
        gc.enable()
        return server.gone

    assert one(program) == [True, True]

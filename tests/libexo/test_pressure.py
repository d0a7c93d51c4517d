"""Being asked for frames, and the page in which a program says what goes first: on puppets, without servers."""

from array import array
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import ALL_RIGHTS
from libexo import aio, pressure
from libexo.errors import IpcTimeout
from libexo.extent import Extent, Ram
from libexo.heap import Heap
from libexo.pressure import MAGIC, MOST, NOWHERE, Named, Rules, RuleSet, Run, decode
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.libexo import moves, virtual_loop


class Shelf:
    """A memory server as far as rules need one."""

    def __init__(self, puppet: Puppet, ram: int) -> None:
        self.puppet = puppet
        self.ram = ram
        self.shown: list[tuple[int, int]] = []

    def allocate(self, pages: int) -> Extent:
        carved = self.puppet.sys.carve(self.ram, pages)
        return Extent(carved.extent, pages, carved.first)

    def show(self, extent: Extent) -> None:
        self.shown.append((extent.first, extent.rights))


class Cast(NamedTuple):
    root: Puppet
    a: Puppet
    ram: Ram
    shelf: Shelf


def cast(stage: Theatre, monkeypatch: pytest.MonkeyPatch) -> Cast:
    """Return a lender, and a program with RAM of it."""
    root, a = stage.puppet("root", holds=("ram",)), stage.puppet("a")
    pool = root.sys.derive(root.handles[0], ALL_RIGHTS)
    ram = Ram(passed(root, pool, a, ALL_RIGHTS), 256, 0, int(ALL_RIGHTS))
    shelf = Shelf(a, ram.handle)
    monkeypatch.setattr(a.env.services, "memory", lambda: shelf)
    return Cast(root, a, ram, shelf)


def ask(c: Cast, frames: int) -> int:
    """Ask for frames; return how many the program has after it has heard of it."""
    first = next(iter(c.a.env.kip.extents())).first
    c.root.sys.ask_back(c.root.handles[0], first, frames, 1_500_000)
    moves.pump_gate(c.a.env)
    return c.a.environment.frames


def page_of(rules: Rules) -> RuleSet | None:
    return decode(bytes(rules._words))


def test_caches_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heaps give back what they only keep ready; the handler is called for what is missing, then heaps again."""
    with theatre() as stage:
        c, told = cast(stage, monkeypatch), list[tuple[int, float]]()
        heaps = [Heap(c.a.env, c.ram, 16) for _ in range(2)]
        blocks = [[heap.allocate(10_000) for _ in range(8)] for heap in heaps]

        def give_back(frames: int, seconds: float) -> None:
            told.append((frames, seconds))
            for block in blocks.pop():
                heaps[1].free(block)

        for block in blocks[0][4:]:
            heaps[0].free(block)
        pressure.on_pressure(c.a.env, give_back)

        assert (c.a.environment.frames, ask(c, 10), told) == (64, 48, [])
        assert (ask(c, 20), told) == (16, [(20, 1.5)])


def test_nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a handler, or after it was taken away, a program gives back what its heaps keep, and that is all."""
    with theatre() as stage:
        c = cast(stage, monkeypatch)
        c.a.sys.carve(c.ram.handle, 5)
        pressure.on_pressure(c.a.env, lambda *_: pytest.fail("it was taken away"))
        pressure.on_pressure(c.a.env, None)

        assert ask(c, 3) == 5


def test_in_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that awaits messages is asked while it does."""
    with theatre() as stage:
        c, told = cast(stage, monkeypatch), list[int]()
        first = c.a.sys.carve(c.ram.handle, 5).first
        pressure.on_pressure(c.a.env, lambda frames, _: told.append(frames))

        async def main() -> None:
            c.root.sys.ask_back(c.root.handles[0], first, 3, 1_000_000)
            with pytest.raises(IpcTimeout):
                await aio.Thread(c.a.env).wait(timeout=0.5)

        virtual_loop.run(stage, c.a, main())
        assert told == [3]


def test_rules_are_in_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set is read as it was set; other rules replace all of it; what is to be saved is shown once."""
    with theatre() as stage:
        c = cast(stage, monkeypatch)
        rules = Rules(c.a.env)
        a, b, place = (c.shelf.allocate(pages) for pages in (2, 3, 4))
        rules.set(first=[(a, place), b], spared=[place])
        before = page_of(rules)
        rules.set(first=[b, (a, place)])

        assert before == RuleSet((Named(a.first, 2, place.first), Named(b.first, 3)), (Run(place.first, 4),))
        assert page_of(rules) == RuleSet((Named(b.first, 3, NOWHERE), Named(a.first, 2, place.first)))
        assert c.shelf.shown == [(rules.page.first, 4), (a.first, 4), (place.first, place.rights)]


def test_too_many_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit are kept; one more is refused, and nothing has changed."""
    with theatre() as stage:
        c = cast(stage, monkeypatch)
        rules = Rules(c.a.env)
        extent = c.shelf.allocate(1)
        rules.set(first=[extent] * MOST, spared=[extent] * MOST)
        before = page_of(rules)
        for more in ({"first": [extent] * (MOST + 1)}, {"spared": [extent] * (MOST + 1)}):
            with pytest.raises(ValueError, match="48 of each at most"):
                rules.set(**more)

        assert before == RuleSet((Named(extent.first, 1),) * MOST, (Run(extent.first, 1),) * MOST)
        assert page_of(rules) == before


@pytest.mark.parametrize("size", [0, 8, FRAME_SIZE - 8, 2 * FRAME_SIZE])
def test_no_page(size: int) -> None:
    """Memory of another size, or without the first word, has no rules."""
    assert decode(array("Q", [MAGIC] * (size // 8)).tobytes()) is None
    assert decode(bytes(FRAME_SIZE)) is None


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=511, max_size=511) | st.just([(1 << 64) - 1] * 511))
def test_any_page(words: list[int]) -> None:
    """Whatever a program wrote, it is at most so many numbers."""
    found = decode(array("Q", [MAGIC, *words]).tobytes())

    assert found is not None
    assert max(map(len, found)) <= MOST
    assert all(NOWHERE <= number < 1 << 64 for each in (*found.first, *found.spared) for number in each)

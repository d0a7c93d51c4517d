"""Page tables: three structures, one behaviour."""

import random
from collections.abc import Callable

import pytest

from libexo.vm.tables import Hierarchical, Inverted, Linear, PageTable

PAGES = 1 << 20
"""A window of 4 GiB."""
TABLES: tuple[Callable[[int], PageTable[object]], ...] = (
    Linear,
    Hierarchical,
    lambda pages: Inverted(pages, 2000),
)
NAMES = ("linear", "hierarchical", "inverted")


@pytest.fixture(params=TABLES, ids=NAMES)
def table(request: pytest.FixtureRequest) -> PageTable[object]:
    """A table for the window."""
    made: PageTable[object] = request.param(PAGES)
    return made


def test_beside_a_dict(table: PageTable[object], seed: int) -> None:
    """Random entries and removals, close together and far apart, leave what a dict has, and in order."""
    luck, model = random.Random(seed), dict[int, object]()
    pages = [luck.randrange(PAGES) for _ in range(200)] + [*range(5000, 5300)]
    for _ in range(4000):
        page = luck.choice(pages)
        if luck.random() < 0.4:
            table.remove(page)
            model.pop(page, None)
        else:
            entry = object()
            table.enter(page, entry)
            model[page] = entry
        other = luck.choice(pages)
        assert table.find(other) is model.get(other)

    assert list(table) == sorted(model)
    assert len(table) == len(model)
    assert all(table.find(page) is entry for page, entry in model.items())


def test_outside_the_window(table: PageTable[object]) -> None:
    """A page that is not of the window is no page."""
    for wrong in (-1, PAGES):
        for use in (table.find, table.remove, table.steps, lambda page: table.enter(page, 1)):
            with pytest.raises(IndexError, match=f"of a window of {PAGES}"):
                use(wrong)


def cost(table: PageTable[object], pages: list[int]) -> tuple[int, float]:
    for page in pages:
        table.enter(page, page)
    return table.words, sum(map(table.steps, pages)) / len(pages)


def test_costs() -> None:
    """Words of memory, and steps of a lookup, as docs/pagers.md has them: of 1000 pages together, and scattered."""
    luck = random.Random(1)
    together, scattered = list(range(70_000, 71_000)), luck.sample(range(PAGES), 1000)

    found = {
        name: (cost(make(PAGES), together), cost(make(PAGES), scattered))
        for name, make in zip(NAMES, TABLES, strict=True)
    }

    assert found == {
        "linear": ((1_048_576, 1.0), (1_048_576, 1.0)),
        "hierarchical": ((2_560, 3.0), (419_328, 3.0)),
        "inverted": ((8_048, 2.0), (8_048, 2.255)),
    }


def test_what_is_empty_is_given_up() -> None:
    """A tree has its root alone again when its last entry is gone; a table of slots has them all free."""
    tree, slots = Hierarchical(PAGES), Inverted(PAGES, 3)
    for page in (0, 600_000, PAGES - 1):
        tree.enter(page, 1)
        slots.enter(page, 1)
    with pytest.raises(OverflowError, match="3 slots, all taken"):
        slots.enter(5, 1)
    for page in (600_000, 0, PAGES - 1):
        tree.remove(page)
        slots.remove(page)
    for page in (7, 8, 9):
        slots.enter(page, 1)

    assert (tree.words, len(tree), len(slots)) == (512, 0, 3)

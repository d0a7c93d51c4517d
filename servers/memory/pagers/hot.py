"""Hot sets: which pages a program touched first, so that they are there before it touches them the next time."""

from collections import OrderedDict
from collections.abc import Iterable

MOST = 256
"""Programs whose pages are remembered; the one that was not started for longest is forgotten."""
MOST_RUNS = 1 << 15
"""Runs of pages that are remembered of all programs: some two megabytes."""


class HotSets:
    """The pages, by the name of a program and what it calls its memory."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._known: OrderedDict[tuple[str, str], tuple[range, ...]] = OrderedDict()
        self._runs = 0

    def remember(self, key: tuple[str, str], pages: Iterable[int]) -> None:
        """Remember the *pages* that were touched; none: what was known stays."""
        if found := runs(pages)[:MOST_RUNS]:
            self._runs += len(found) - len(self._known.get(key, ()))
            self._known[key] = tuple(found)
            self._known.move_to_end(key)
            while len(self._known) > MOST or self._runs > MOST_RUNS:
                self._runs -= len(self._known.popitem(last=False)[1])

    def pages(self, key: tuple[str, str], most: int, stop: int) -> list[range]:
        """Return runs of the pages below *stop* that were touched, *most* in all: the memory may be smaller now."""
        found, left = [], most
        for run in self._known.get(key, ()):
            found.append(run[: min(left, max(stop - run.start, 0))])
            left -= len(found[-1])
        return [run for run in found if run]


def runs(pages: Iterable[int]) -> list[range]:
    """Return *pages* as runs, in order."""
    found: list[range] = []
    for page in sorted(pages):
        if found and found[-1].stop == page:
            found[-1] = range(found[-1].start, page + 1)
        else:
            found.append(range(page, page + 1))
    return found

"""Hot sets: which pages a program touched first, so that they are there before it touches them the next time.

They are kept in an estate, so a successor of the pager knows them, too. What it finds there and cannot be a hot set
is not believed, and all of it is forgotten: to be without them costs faults, and nothing else.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Annotated

import msgspec

from kernel.abi.limits import MAX_EXTENT_FRAMES, MAX_NAME
from libexo.estate import Estate

MOST = 256
"""Programs whose pages are remembered."""
MOST_RUNS, MOST_PAGES = 1024, 1 << 14
"""Runs, and pages, that are remembered of one memory: to sort them takes some milliseconds at most."""
_LARGE = 5
"""Bytes that the number of entries before them takes at most."""

Key = tuple[str, str]
"""The name of a program, and what it calls its memory."""
_Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
_Page = Annotated[int, msgspec.Meta(ge=0, le=MAX_EXTENT_FRAMES)]


class _Entry(msgspec.Struct, array_like=True):
    """One hot set, as it is kept."""

    program: _Name
    memory: _Name
    runs: Annotated[list[_Page], msgspec.Meta(max_length=2 * MOST_RUNS)]
    """Of each run how many pages lie between it and the last one, and its length."""

    def ranges(self) -> Iterator[range]:
        """Yield the runs. Raises ValueError where they cannot be pages of any memory."""
        at = 0
        for gap, length in zip(self.runs[::2], self.runs[1::2], strict=True):
            run = range(at + gap, at + gap + length)
            if not run or run.stop > MAX_EXTENT_FRAMES:
                raise ValueError(f"{length} pages from {run.start} on")
            at = run.stop
            yield run


_ENTRIES = msgspec.msgpack.Decoder(list[_Entry])
_ENTRY = msgspec.msgpack.Decoder(_Entry)
_encode = msgspec.msgpack.Encoder().encode


class HotSets:
    """The pages, by the name of a program and what it calls its memory."""

    def __init__(self, estate: Estate, log: Callable[[str], object]) -> None:
        """Go on with what a predecessor left in *estate*; *log* is told if it is none."""
        self._estate = estate
        self._known: dict[Key, bytes] = {}
        """Encoded; the one that was remembered last is the last."""
        try:
            self._load()
        except (msgspec.MsgspecError, ValueError) as error:
            log(f"hot sets of the predecessor are forgotten, for they are none: {error}")
            self._known = {}

    def _load(self) -> None:
        for entry in _ENTRIES.decode(self._estate.load() or _encode([])):
            list(entry.ranges())
            self._known[entry.program, entry.memory] = _encode(entry)

    def remember(self, key: Key, touched: Iterable[int], most: int) -> None:
        """Remember *most* pages: those that were *touched*, then those that were known; none touched: no change."""
        most = min(most, MOST_PAGES)
        first = dict.fromkeys(islice(touched, most))
        if not first:
            return
        before = chain.from_iterable(self._runs(key))
        found = runs(islice(dict.fromkeys(chain(first, before)), most))[:MOST_RUNS]
        self._known.pop(key, None)
        self._known[key] = _encode(_Entry(*key, _flat(found)))
        while len(self._known) > MOST:
            self._forget(lambda _: 1)
        while _LARGE + sum(map(len, self._known.values())) > self._estate.room:
            self._forget(len)
        self._estate.store(b"".join((_head(len(self._known)), *self._known.values())))

    def _forget(self, weigh: Callable[[bytes], int]) -> None:
        """Forget the oldest of the program that has most of them: it displaces its own."""
        taken: dict[str, int] = {}
        for (program, _), encoded in self._known.items():
            taken[program] = taken.get(program, 0) + weigh(encoded)
        most = max(taken.values())
        del self._known[next(key for key in self._known if taken[key[0]] == most)]

    def _runs(self, key: Key) -> list[range]:
        encoded = self._known.get(key)
        return [] if encoded is None else list(_ENTRY.decode(encoded).ranges())

    def pages(self, key: Key, most: int, stop: int) -> list[range]:
        """Return runs of the pages below *stop* that were touched, *most* in all: the memory may be smaller now."""
        found, left = [], most
        for run in self._runs(key):
            found.append(run[: min(left, max(stop - run.start, 0))])
            left -= len(found[-1])
        return [run for run in found if run]


def _head(count: int) -> bytes:
    """Return what msgpack has before an array of *count* elements."""
    return b"\xdd" + count.to_bytes(_LARGE - 1, "big")


def _flat(found: Iterable[range]) -> list[int]:
    """Return *found* as they are kept."""
    flat: list[int] = []
    at = 0
    for run in found:
        flat += run.start - at, len(run)
        at = run.stop
    return flat


def runs(pages: Iterable[int]) -> list[range]:
    """Return *pages* as runs, in order."""
    found: list[range] = []
    start = end = -1
    for page in sorted(pages):
        if page != end:
            found.append(range(start, end))
            start = page
        end = page + 1
    found.append(range(start, end))
    return [run for run in found if run]

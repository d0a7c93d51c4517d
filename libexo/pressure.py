"""Memory that is wanted back: being asked, saying in advance what may go, and learning what went.

    rules = pressure.Rules(env)
    rules.set(first=[cache, (log, place)], spared=[index])      # the contents of log are saved in place
    pressure.on_pressure(env, lambda frames, seconds: drop_some(frames))

When the memory server needs frames that a program has, the kernel tells the program how many, and by when. When
the program next sends, receives or traps, libexo first gives back what heaps only keep ready. Where that is not
enough it calls the program's handler, with the frames that are still wanted, and the seconds there were when the
kernel asked. The handler gives back what it likes, by traps alone, for it runs in the middle of any IPC.

What is missing at the deadline is taken, by the rules: first what the program named, in that order, then the rest
from the highest frame down, last what it spared, which stays as far as it fits into what the program may keep.
The rules are in a page that the program shares with the memory server. To change them costs no call, and they hold
while the program is stopped. Memory that was taken is gone at the next access (SIGBUS). Where a place was named,
its contents are copied there first. `repossessed` and `Memory.taken` say what went.

A program is asked in the same way when memory is short and it has more than its share. Nothing is taken for that
before another program's request waits for it. `level` says how near the end of memory is, before anybody is asked.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from kernel.abi.kip import Head, Page
from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.extent import Extent
from libexo.levels import Level, Marks

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.environment import Environment

MAGIC: Final = 0x5345_4C55_5245_4D45
"""First word of a page of rules: "EMERULES"."""
MOST: Final = 48
"""Ranges of each kind that rules may name."""
NOWHERE: Final = -1
"""Contents are not saved."""
_WORDS = FRAME_SIZE // 8
_CURRENT = 1
"""The word that says which of the two copies holds: it is changed last, so that no reader sees half of one."""
_COPIES = (8, 8 + 2 + 5 * MOST)
_ALL_ONES = (1 << 64) - 1
_LISTED = Page.SLICE_BEGAN - Page.REPOSSESSED_LIST


class Run(NamedTuple):
    """Frames in a row."""

    first: int
    length: int


class Named(NamedTuple):
    """Frames in a row that go first, and the first frame of the extent in which the contents are saved."""

    first: int
    length: int
    place: int = NOWHERE


class RuleSet(NamedTuple):
    """What a program said: what goes first, in this order, and what is spared."""

    first: tuple[Named, ...] = ()
    spared: tuple[Run, ...] = ()


def decode(page: bytes) -> RuleSet | None:
    """Return what a *page* of rules says, in which a program may have written anything; None: it is none."""
    words = memoryview(page).cast("Q")
    if len(words) != _WORDS or words[0] != MAGIC:
        return None
    at = _COPIES[words[_CURRENT] & 1]
    named, spared = (min(words[at + each], MOST) for each in range(2))
    at += 2
    first = tuple(Named(*_numbers(words[at + 3 * each : at + 3 * each + 3])) for each in range(named))
    at += 3 * MOST
    return RuleSet(first, tuple(Run(*words[at + 2 * each : at + 2 * each + 2]) for each in range(spared)))


def _numbers(words: memoryview) -> Iterator[int]:
    return (NOWHERE if word == _ALL_ONES else word for word in words)


class Rules:
    """What the calling program says in advance, in a page of its own. One a program; the last one made holds."""

    def __init__(self, environment: "Attachment") -> None:
        """Take a frame from the memory server, and show it to that. Raises RemoteError."""
        self._memory = environment.services.memory()
        self.page: Extent = self._memory.allocate(1)
        self._words = vm.map(environment, self.page).cast("Q")
        self._words[0] = MAGIC
        self._memory.show(self.page.read_only())
        self._shown: set[int] = {self.page.handle}

    def set(
        self, first: Sequence[Extent | tuple[Extent, Extent]] = (), spared: Iterable[Extent] = ()
    ) -> None:
        """Let *first* go first, in that order, each with the place to save it, if any; and *spared* last.

        An extent that is to be saved, and its place, are shown to the memory server. Raises ValueError for too
        many, RemoteError when the memory server will see no more.
        """
        named = [each if isinstance(each, tuple) else (each, None) for each in first]
        kept = list(spared)
        if len(named) > MOST or len(kept) > MOST:
            raise ValueError(
                f"{len(named)} extents first, {len(kept)} spared: rules name {MOST} of each at most"
            )
        for extent, place in named:
            if place is not None:
                self._show(extent.read_only())
                self._show(place)
        words, other = self._words, (self._words[_CURRENT] & 1) ^ 1
        at = _COPIES[other]
        words[at], words[at + 1] = len(named), len(kept)
        for each, (extent, place) in enumerate(named):
            words[at + 2 + 3 * each] = extent.first
            words[at + 3 + 3 * each] = extent.pages
            words[at + 4 + 3 * each] = place.first if place is not None else _ALL_ONES
        for each, extent in enumerate(kept):
            words[at + 2 + 3 * MOST + 2 * each] = extent.first
            words[at + 3 + 3 * MOST + 2 * each] = extent.pages
        words[_CURRENT] = other

    def _show(self, extent: Extent) -> None:
        if extent.handle not in self._shown:
            self._memory.show(extent)
            self._shown.add(extent.handle)


def on_pressure(environment: "Environment", handler: Callable[[int, float], object] | None) -> None:
    """Call *handler* with the frames wanted and the seconds there are, when caches were not enough."""
    environment.on_pressure = handler


_MARKS: "WeakKeyDictionary[Attachment, Marks]" = WeakKeyDictionary()
"""The marks of each program's memory server, once it has asked for them."""


def level(environment: "Attachment") -> Level:
    """Return how near the end of memory is: a look at the kernel interface page, after the first time.

    A memory server that is started again with other marks is not noticed. Raises RemoteError.
    """
    known = _MARKS.get(environment)
    if known is None:
        told = environment.services.memory().pressure()
        known = _MARKS[environment] = Marks(told.low, told.high, told.reserve)
    return known.level(environment.kip.head(Head.FREE_FRAMES))


def repossessed(environment: "Attachment") -> list[int]:
    """Return the handles that were taken by force, newest last: as many as the environment page lists."""
    page, count = environment.page, environment.page[Page.REPOSSESSED]
    return [page[Page.REPOSSESSED_LIST + at % _LISTED] for at in range(max(0, count - _LISTED), count)]

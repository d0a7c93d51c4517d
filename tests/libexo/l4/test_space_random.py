"""Random histories of three address spaces on the kernel: the table keeps to the model, and no capability is lost.

The model knows, for each space and page, which memory is to be there and with which rights. After every step the
spaces show just that, and each environment holds just the capabilities its table shows: nothing is dropped twice
(the kernel would refuse, and the space would have forgotten wrongly) and nothing stays behind.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libexo import l4
from libexo.l4.errors import Overflow
from tests.libexo.l4.spaces import PAGE, Side, fpage, send, sides

PLACES = 8
"""Pages of each space that histories use: one fpage of the largest size."""
sizes = st.integers(0, 3)
pages = st.integers(0, PLACES - 1)
who = st.integers(0, 2)
rights = st.sampled_from([l4.Readable, l4.ReadWriteOnly, l4.FullyAccessible])

Step = tuple[str, tuple[int | tuple[int, int], ...], dict[str, bool]]
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("carve"), st.tuples(pages, sizes), st.just({})),
    st.tuples(
        st.just("send"),
        st.tuples(who, who, pages, sizes, pages, rights, st.tuples(pages, sizes)),
        st.fixed_dictionaries({"grant": st.booleans()}),
    ),
    st.tuples(
        st.just("unmap"),
        st.tuples(who, pages, sizes, rights),
        st.fixed_dictionaries({"flush": st.booleans()}),
    ),
)


@dataclass(eq=False)
class Share:
    """One space's hold on an extent, and its giver."""

    size: int
    rights: int
    marks: bytes
    parent: "Share | None" = None
    pages: dict[int, int] = field(default_factory=dict)
    """Where its pages show: which of its pages, by place."""

    def below(self, other: "Share") -> bool:
        """Whether it came, at whatever remove, from *other*."""
        return self.parent is not None and (self.parent is other or self.parent.below(other))


class Model:
    """The expected content of each space."""

    def __init__(self, count: int) -> None:
        self.spaces: list[list[Share]] = [[] for _ in range(count)]

    def shown(self, space: int) -> dict[int, tuple[bytes, int]]:
        """By page: the mark of its memory, and the rights."""
        shares = self.spaces[space]
        return {at: (s.marks[n : n + 1], s.rights & 7) for s in shares for at, n in s.pages.items()}

    def cut(self, space: int, first: int, count: int) -> None:
        """Show nothing there; shares that show nothing go, with what came from them."""
        for share in list(self.spaces[space]):
            for at in range(first, first + count):
                share.pages.pop(at, None)
            if not share.pages:
                self.take_back(share)
                self.spaces[space].remove(share)

    def take_back(self, share: Share) -> None:
        for shares in self.spaces:
            shares[:] = [other for other in shares if not other.below(share)]

    def enter(self, space: int, first: int, share: Share) -> None:
        self.show(space, {first + n: n for n in range(share.size)}, share)

    def show(self, space: int, shown: dict[int, int], share: Share) -> None:
        """Show those of its pages, by place."""
        self.cut(space, min(shown), len(shown))
        if share.parent is not None and not any(share.parent in shares for shares in self.spaces):
            return  # it lay where it went, and took what it came from with it
        share.pages = shown
        self.spaces[space].append(share)


class History:
    """The spaces and the model, moved together."""

    def __init__(self, places: list[Side]) -> None:
        self.sides = places
        self.model = Model(len(places))
        self.marks = 0

    def carve(self, first: int, log2: int) -> None:
        size = min(1 << log2, PLACES - first)
        self.sides[0].carve(first * PAGE, size)
        marks = bytes((self.marks + n) % 255 + 1 for n in range(size))
        self.marks += size
        self.model.enter(0, first, Share(size, 7, marks))
        for n in range(size):
            self.sides[0].space.store((first + n) * PAGE, marks[n : n + 1])

    def send(
        self, a: int, b: int, first: int, log2: int, base: int, rwx: int, at: tuple[int, int], *, grant: bool
    ) -> None:
        """Send an fpage, by send base *base*, into a window of *b*."""
        count, window = 1 << log2, 1 << at[1]
        first, to = first // count * count, at[0] // window * window
        if a == b:
            return
        shares = [s for s in self.model.spaces[a] if any(first <= at < first + count for at in s.pages)]
        sent = [s for s in shares if s.rights & rwx]
        whole = all(
            len(s.pages) == s.size and all(first <= at < first + count for at in s.pages) for s in sent
        )
        item = (l4.GrantItem if grant else l4.MapItem)(fpage(first * PAGE, count, rwx), base * PAGE)
        try:
            send(self.sides[a], self.sides[b], item, l4.Fpage(to * PAGE, window * PAGE))
        except Overflow:
            assert not whole
            return
        assert whole
        if count <= window:  # the base says where in the window, otherwise which part
            selected, distance = range(first, first + count), to + base % window // count * count - first
        else:
            start = first + base % count // window * window
            selected, distance = range(start, start + window), to - start
        ordered = sorted(sent, key=lambda s: min(s.pages))
        self._sent(a, b, ordered, selected, distance, rwx, grant=grant)
        if grant:
            self.model.cut(a, first, count)

    def _sent(
        self, a: int, b: int, sent: list[Share], selected: range, distance: int, rwx: int, *, grant: bool
    ) -> None:
        model = self.model
        for share in sent:
            shown = {at + distance: page for at, page in share.pages.items() if at in selected}
            if not shown:
                continue
            new = Share(share.size, share.rights & (rwx | 4), share.marks, share.parent if grant else share)
            if grant:
                for other in [s for shares in model.spaces for s in shares if s.parent is share]:
                    other.parent = new
                model.spaces[a].remove(share)
            model.show(b, shown, new)

    def unmap(self, a: int, first: int, log2: int, rwx: int, *, flush: bool) -> None:
        """With the right to read among the rights, all go."""
        count = 1 << log2
        first = first // count * count
        self.sides[a].space.unmap([fpage(first * PAGE, count, rwx)], flush=flush)
        for share in self.model.spaces[a]:
            if any(first <= at < first + count for at in share.pages):
                self.model.take_back(share)
        if flush:
            self.model.cut(a, first, count)

    def check(self) -> None:
        for number, side in enumerate(self.sides):
            side.space.attend()
            shown = {
                region.base // PAGE + n: (
                    side.reads(region.base + n * PAGE),
                    region.holding.rights & 7,
                )
                for region in side.space
                for n in range(region.size // PAGE)
            }
            assert shown == self.model.shown(number)
            assert side.extents == len(self.model.spaces[number])


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(steps, max_size=14))
def test_any_history(script: list[Step]) -> None:
    """Mapping, granting, over-mapping, unmapping and flushing in any order keep spaces and kernel in step."""
    with sides(3) as places:
        history = History(places)
        for what, arguments, options in script:
            getattr(history, what)(*arguments, **options)
            history.check()

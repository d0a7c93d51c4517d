"""Random histories of three address spaces on the kernel: the table keeps to the model, and no capability is lost.

The model knows, for each space and page, which memory is to be there and with which rights. After every step the
spaces show just that, and each environment holds just the capabilities its table shows: nothing is dropped twice
(the kernel would refuse, and the space would have forgotten wrongly) and nothing stays behind.
"""

from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libexo import l4
from libexo.errors import TrapRefused
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
    part_of: "tuple[Share, int] | None" = None
    """The share of the same space that it was made a part of, and which of its pages is the first."""
    given: bool = False
    """It was sent since it was last taken back."""
    kept: bool = False
    """A part of it was granted away, which would go with it."""

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
        assert len({at for s in shares for at in s.pages}) == sum(len(s.pages) for s in shares)
        return {at: (s.marks[n : n + 1], s.rights & 7) for s in shares for at, n in s.pages.items()}

    def cut(self, space: int, first: int, count: int) -> None:
        """Show nothing there; shares that show nothing go, with what came from them."""
        for share in self.spaces[space]:
            for at in range(first, first + count):
                share.pages.pop(at, None)
        while idle := [s for s in self.spaces[space] if not s.pages and not s.kept and not self.parts(s)]:
            self.take_back(idle[0])
            self.spaces[space].remove(idle[0])

    def parts(self, share: Share) -> list[Share]:
        return [s for shares in self.spaces for s in shares if s.part_of and s.part_of[0] is share]

    def take_back(self, share: Share) -> None:
        share.given = False
        for part in self.parts(share):
            self.merge(part)
        for shares in self.spaces:
            shares[:] = [other for other in shares if not other.below(share)]

    def merge(self, part: Share) -> None:
        for deeper in self.parts(part):
            self.merge(deeper)
        if part.part_of is not None:
            whole, first = part.part_of
            whole.pages |= {at: page + first for at, page in part.pages.items()}
            part.pages, part.part_of = {}, None

    def divide(self, space: int, share: Share, run: dict[int, int]) -> Share:
        """Show a run of its places by a part."""
        first, size = min(run.values()), len(run)
        part = Share(size, share.rights, share.marks[first : first + size], share, part_of=(share, first))
        part.pages = {at: share.pages.pop(at) - first for at in run}
        self.spaces[space].append(part)
        return part

    def shared(self, space: int, share: Share) -> bool:
        others = [shares for number, shares in enumerate(self.spaces) if number != space]
        return share.given or any(s.parent is share for shares in others for s in shares)

    def unmap(self, space: int, share: Share, *, goes: bool) -> None:
        """Take back what *share* is a part of, if others have it, and itself."""
        above = [share]
        while (of := above[0].part_of) is not None:
            above.insert(0, of[0])
        for whole in above[:-1]:
            if self.shared(space, whole):
                self.take_back(whole)
        if self.shared(space, share) or not self.parts(share):
            self.take_back(share)
        idle = not goes and not share.given and not self.parts(share)
        if idle and share.part_of and share.rights == share.part_of[0].rights:
            self.merge(share)
            self.spaces[space].remove(share)

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
        item = (l4.GrantItem if grant else l4.MapItem)(fpage(first * PAGE, count, rwx), base * PAGE)
        for offer in send(self.sides[a], self.sides[b], item, l4.Fpage(to * PAGE, window * PAGE)):
            with suppress(TrapRefused):  # it was accepted
                self.sides[a].sys.drop(offer)
        sent = self._outgoing(a, range(first, first + count), rwx, grant=grant)
        if count <= window:  # the base says where in the window, otherwise which part
            selected, distance = range(first, first + count), to + base % window // count * count - first
        else:
            start = first + base % count // window * window
            selected, distance = range(start, start + window), to - start
        self._sent(a, b, sent, selected, distance, rwx, grant=grant)
        if grant:
            self.model.cut(a, first, count)

    def _outgoing(self, a: int, places: range, rwx: int, *, grant: bool) -> list[Share]:
        """The shares that are sent, in the order of their places; what goes in part becomes a part first."""
        sent: list[Share] = []
        for share, run in self._runs(a, places):
            whole = len(run) == share.size
            if share.rights & rwx:
                sent.append(share if whole else self.model.divide(a, share, run))
                sent[-1].given = True
                whole, share = True, sent[-1]  # noqa: PLW2901 - it is what goes
            if grant and whole and share.part_of is not None:
                share.part_of[0].kept, share.part_of = True, None
        return sent

    def _runs(self, a: int, places: range) -> list[tuple[Share, dict[int, int]]]:
        """What shows there, each run of pages of one share."""
        runs: list[tuple[Share, dict[int, int]]] = []
        shown = {at: (s, page) for s in self.model.spaces[a] for at, page in s.pages.items()}
        for at in sorted(shown.keys() & set(places)):
            share, page = shown[at]
            if runs and runs[-1][0] is share and runs[-1][1].get(at - 1) == page - 1:
                runs[-1][1][at] = page
            else:
                runs.append((share, {at: page}))
        return runs

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
        for share in dict.fromkeys(share for share, _ in self._runs(a, range(first, first + count))):
            self.model.unmap(a, share, goes=flush)
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

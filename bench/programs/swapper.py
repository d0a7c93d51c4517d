"""The measuring side of the memory server's pager: it has memory that swaps, and touches it."""

from collections.abc import Callable, Mapping
from itertools import count as numbers
from itertools import cycle, islice
from time import monotonic_ns

import libexo
from bench.programs.pages import SOME, STRIDE
from bench.programs.toucher import ORDER, all_of, each
from bench.references.userfault import AROUND, PAGE
from bench.worker import Sampler, timed, work
from libexo import vm
from libexo.extent import Extent
from servers.memory.api import Pager

PAGES, FRAMES = 512, 256
"""Of memory that is read from the store, again and again."""
STARTS_PAGES, STARTS_FRAMES = 1536, 512
"""Of memory that is made at each start."""
USUAL, OTHER = range(0, 876, 3), 8
"""What is touched at each start, and how many pages besides that were not touched at the last one."""
_OTHERS = range(1000, STARTS_PAGES)


class Swapper:
    """Memory of the pager's, of a program that touches it."""

    def __init__(self, environment: libexo.Environment) -> None:
        """Ask for none yet."""
        self._environment = environment
        self.pager = Pager.connect(environment)

    def made(self, pages: int, frames: int, around: int = 1, name: str = "") -> tuple[Extent, memoryview]:
        """Return memory, and a view of it. What comes first goes first: the pager takes no samples."""
        extent = self.pager.paged(pages, frames, policy="fifo", around=around, name=name)
        return extent, vm.map(self._environment, extent)

    def read(self, around: int) -> Sampler:
        """Return a sampler of how long a page takes to come from the store, *around* for one fault."""
        _, view = self.made(PAGES, FRAMES, around)
        view[::PAGE] = b"\1" * PAGES
        runs = cycle(range(0, PAGES, around))

        def sample(count: int) -> list[int]:
            return [read(first) for first in islice(runs, count)]

        def read(first: int) -> int:
            start = monotonic_ns()
            for page in range(first, first + around):
                view[page * PAGE]
            return (monotonic_ns() - start) // around

        return sample

    def starts(self, name: Callable[[int], str]) -> Sampler:
        """Return a sampler of how many pages a start waits for, of memory of that *name*."""
        starts = numbers()

        def sample(count: int) -> list[int]:
            return [self._start(next(starts), name) for _ in range(count)]

        return sample

    def _start(self, number: int, name: Callable[[int], str]) -> int:
        extent, view = self.made(STARTS_PAGES, STARTS_FRAMES, name=name(number))
        others = (_OTHERS[at % len(_OTHERS)] for at in range(number * OTHER, (number + 1) * OTHER))
        for page in (*USUAL, *others):
            view[page * PAGE] = 1
        [faults] = [each.faults for each in self.pager.statistics().objects if each.first == extent.first]
        vm.unmap(self._environment, view)
        self.pager.release(extent.first)
        return faults

    def appel(self) -> Mapping[str, Callable[[], Sampler]]:
        """Return the makers of samplers of Appel and Li's measures, as a program can ask for them."""
        extent, view = self.made(SOME, SOME)
        view[::PAGE] = b"\1" * SOME
        first, pager = extent.first, self.pager

        def protect(count: int, number: int) -> None:
            pager.protect(first, number * STRIDE % SOME if count == 1 else 0, count)

        def let_go(count: int, number: int) -> None:
            pager.unprotect(first, number * STRIDE % SOME if count == 1 else 0, count)

        def all_guarded() -> None:
            protect(SOME, 0)

        return {
            "dirty": lambda: all_of(view, int, lambda: pager.clean(first, 0, SOME)),
            "prot1": lambda: _each_undone(lambda at: protect(1, at), lambda at: let_go(1, at)),
            "prot100": lambda: timed(all_guarded, lambda: let_go(SOME, 0)),
            "unprot100": lambda: _each_undone(lambda at: let_go(SOME, at), lambda _: all_guarded(), all_guarded),
            "trap": lambda: each(view, all_guarded),
            "appel1": lambda: _swapped(view, all_guarded, lambda page: pager.protect(first, page)),
            "appel2": lambda: all_of(view, all_guarded, int),
        }  # fmt: skip


def _each_undone(
    action: Callable[[int], object], undo: Callable[[int], object], first: Callable[[], object] = int
) -> Sampler:
    """Return a sampler of *action* by its number, each undone before the next; *first* is called at first."""

    def sample(count: int) -> list[int]:
        first()
        samples = []
        for number in range(count):
            start = monotonic_ns()
            action(number)
            samples.append(monotonic_ns() - start)
            undo(number)
        return samples

    return sample


def _swapped(view: memoryview, guard: Callable[[], object], protect: Callable[[int], object]) -> Sampler:
    """Return a sampler of a write to a page that is guarded, and of protecting the one that was written last."""

    def sample(count: int) -> list[int]:
        guard()
        samples = []
        for number in range(count):
            at, last = ORDER[number % SOME], ORDER[(number - 1) % SOME] // PAGE
            start = monotonic_ns()
            view[at] = 1
            protect(last)
            samples.append(monotonic_ns() - start)
        return samples

    return sample


def main() -> None:
    """Measure what is asked for until stdin ends."""
    swapper = Swapper(libexo.attach())
    work(
        {
            "fault": lambda: swapper.read(1),
            "around": lambda: swapper.read(AROUND),
            "cold": lambda: swapper.starts("cold {}".format),
            "warm": lambda: swapper.starts(lambda _: "warm"),
            **swapper.appel(),
        }
    )


if __name__ == "__main__":
    main()

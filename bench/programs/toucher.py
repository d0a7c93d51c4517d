"""The measuring side of page faults: it touches what another program pages."""

import os
from collections.abc import Callable
from functools import partial
from time import monotonic_ns

import libexo
from bench.programs.pages import SOME, STRIDE, Pages
from bench.references.userfault import AROUND, PAGE, touches
from bench.worker import Sampler, timed, work
from libexo import vm

ORDER = [at * STRIDE % SOME * PAGE for at in range(SOME)]
"""Where the pages of Appel and Li's measures are, in the order they are written."""


def each(view: memoryview, guard: Callable[[], object]) -> Sampler:
    """Return a sampler of a write to a page that is guarded."""

    def sample(count: int) -> list[int]:
        samples = []
        for number in range(count):
            at = ORDER[number % SOME]
            if not number % SOME:
                guard()
            start = monotonic_ns()
            view[at] = 1
            samples.append(monotonic_ns() - start)
        return samples

    return sample


def all_of(view: memoryview, before: Callable[[], object], after: Callable[[], object]) -> Sampler:
    """Return a sampler of a page's part of what is done *before*, of writes to all, and of what is done *after*."""

    def sample(count: int) -> list[int]:
        samples = []
        for _ in range(count):
            start = monotonic_ns()
            before()
            for at in ORDER:
                view[at] = 1
            after()
            samples.append((monotonic_ns() - start) // SOME)
        return samples

    return sample


def main() -> None:
    """Measure what is asked for until stdin ends."""
    environment = libexo.attach()
    environment.lookup(os.environ["BENCH_PAGES"], timeout=10)
    pages = Pages.connect(environment, os.environ["BENCH_PAGES"])
    view = vm.map(environment, pages.open())

    def written(sampler: Sampler) -> Sampler:
        """Have all pages there, and written, first."""
        pages.fill()
        for at in ORDER:
            view[at] = 1
        return sampler

    def asked(what: str) -> Sampler:
        """Have the pager measure itself."""
        return written(lambda count: pages.timed(what, count))

    work(
        {
            "fault": lambda: touches(view, lambda: pages.clear(1)),
            "around": lambda: touches(view, lambda: pages.clear(AROUND), AROUND),
            "null": lambda: timed(lambda: environment.sys.batch(())),
            "dirty": lambda: written(all_of(view, int, pages.clean)),
            "trap": lambda: written(each(view, lambda: pages.guard(False))),
            "appel1": lambda: written(each(view, lambda: pages.guard(True))),
            "appel2": lambda: written(all_of(view, lambda: pages.guard(False), int)),
            **{what: partial(asked, what) for what in ("prot1", "prot100", "unprot100")},
        }
    )


if __name__ == "__main__":
    main()

"""The measuring side of page faults: it touches what another program pages."""

import os

import libexo
from bench.programs.pages import Pages
from bench.references.userfault import AROUND, touches
from bench.worker import timed, work
from libexo import vm


def main() -> None:
    """Measure what is asked for until stdin ends."""
    environment = libexo.attach()
    environment.lookup(os.environ["BENCH_PAGES"], timeout=10)
    pages = Pages.connect(environment, os.environ["BENCH_PAGES"])
    view = vm.map(environment, pages.open())
    work(
        {
            "fault": lambda: touches(view, lambda: pages.clear(1)),
            "around": lambda: touches(view, lambda: pages.clear(AROUND), AROUND),
            "null": lambda: timed(lambda: environment.sys.batch(())),
        }
    )


if __name__ == "__main__":
    main()

"""What copies of regions take: `exo run --paged -- bench/programs/copies.py`.

In microseconds, the median and the fastest round.

Each step is done page by page over a region that is there; *scattered* touches one page of 16, so that none comes
with its neighbours. Beside it, the same pages copied at once by the processor, to a place that is there.
"""

from collections.abc import Callable
from statistics import median
from time import monotonic_ns

import libexo
from kernel.abi.limits import FRAME_SIZE
from libexo import process, regions
from libexo.environment import Environment
from libexo.regions import Advice, Region

PAGES, ROUNDS, APART = 1024, 9, 16
SIZES = (16, 8192)
times: dict[str, list[float]] = {}


def took(what: str, action: Callable[[], object], pages: int = 1) -> None:
    """Note how long *action* takes, for each of *pages*."""
    start = monotonic_ns()
    action()
    times.setdefault(what, []).append((monotonic_ns() - start) / 1000 / pages)


def write(region: Region, step: int) -> None:
    """Store into each page, or each of *step*."""
    for at in range(0, len(region.view), step * FRAME_SIZE):
        region.view[at] = 1


def read(region: Region, step: int) -> None:
    """Load from them."""
    for at in range(0, len(region.view), step * FRAME_SIZE):
        region.view[at]


def nothing(_env: Environment, *_regions: Region) -> None:
    """End at once."""


def touch(region: Region, how: str, step: int) -> None:
    """Write a region of which there is a copy, and load from a copy."""
    with region.copy():
        took(f"first write where a copy waits, {how}", lambda: write(region, step), PAGES // step)
    with region.copy() as copy:
        took(f"first load from a copy, {how}", lambda: read(copy, step), PAGES // step)


def copied(region: Region) -> None:
    """Copy it some times, and touch nothing."""
    region.advise(Advice.WILL_NEED)
    for _ in range(ROUNDS):
        copies: list[Region] = []
        took(f"a copy of {region.pages} pages, when it is made", lambda: copies.append(region.copy()))  # noqa: B023
        copies[0].close()
    region.close()


def once(env: Environment, region: Region, place: bytearray) -> None:
    """Do each step."""
    touch(region, "in a row", 1)
    touch(region, "scattered", APART)
    region.clean()
    took("first write since it was clean", lambda: write(region, 1), PAGES)
    took("asking which pages were written, a page", region.clean, PAGES)
    took("a program that begins at a function and ends", lambda: process.start(env, nothing).wait())
    took("the same, with a copy of the region: a fork", lambda: process.fork(env, nothing, region).wait())
    took("a page copied by the processor", lambda: place.__setitem__(slice(None), region.view), PAGES)


if __name__ == "__main__":
    env = libexo.attach()
    pager = regions.start(env)
    for pages in SIZES:
        copied(pager.make(pages))
    region = pager.make(PAGES)
    region.advise(Advice.WILL_NEED)
    write(region, 1)
    place = bytearray(len(region.view))
    for _ in range(ROUNDS):
        once(env, region, place)
    for what, found in times.items():
        print(f"{median(found):10.1f} {min(found):10.1f}  {what}")

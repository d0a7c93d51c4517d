"""Swap: a table of twice the frames it has. What is not in them is in the swap file, page by page.

    exo up -d --config examples/swap.toml
    exo run --paged examples/swap.py

The policy that decides which page goes is chosen by name, and replaced in the middle of the work.
"""

import libexo
from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.environment import Environment
from servers.memory.api import Pager

PAGES, FRAMES = 1024, 512
WORDS = FRAME_SIZE // 8


def fill(env: Environment) -> bool:
    """Write a table, then read all of it in another order; say whether it is what was written."""
    pager = Pager.connect(env)
    extent = pager.paged(PAGES, FRAMES, policy="fifo", name="table")
    view = vm.map(env, extent)
    for page in range(PAGES):
        vm.touch(
            env, view, page * FRAME_SIZE, 8, write=True
        )  # for the simulated machine; the next line does it
        view.cast("Q")[page * WORDS] = page**2
    pager.set_policy(extent.first, "2q")
    right = 0
    for at in range(PAGES):
        page = at * 5 % PAGES
        vm.touch(env, view, page * FRAME_SIZE, 8)
        right += view.cast("Q")[page * WORDS] == page**2
    usage = next(one for one in pager.statistics().objects if one.first == extent.first)
    print(f"{usage.pages} pages in {usage.frames} frames, under {usage.policy}: {right} are what was written")
    return usage.evicted >= PAGES - FRAMES and usage.read >= PAGES - FRAMES


if __name__ == "__main__":
    print("others went to the swap file and came back:", "yes" if fill(libexo.attach()) else "no")

"""Write barrier: a garbage collector that looks only at pages that were written since it last looked.

    exo run --paged examples/barrier.py

Old objects fill 64 pages, and each may refer to a young one. Which young ones are in use is asked again and again,
and the host's MMU notes each page that was written meanwhile. So no store needs an instruction beside it.
"""

import random

import libexo
from libexo import regions

PAGES, WORDS = 64, 512


def references(old: memoryview, page: int) -> set[int]:
    """Return the young objects that those in *page* refer to."""
    return set(old[page * WORDS : (page + 1) * WORDS]) - {0}


if __name__ == "__main__":
    env = libexo.attach()
    region = regions.start(env).make(PAGES)
    old = region.view.cast("Q")
    remembered = {page: references(old, page) for page in range(PAGES)}
    region.clean()

    luck = random.Random(7)
    for _ in range(3):
        for _ in range(4):
            old[luck.randrange(len(old))] = luck.randrange(1, 30)
        written = region.clean()
        remembered.update((page, references(old, page)) for page in written)
        used = set().union(*remembered.values())
        print(f"pages {written} were written; young objects in use: {sorted(used)}")
        assert used == set(old) - {0}

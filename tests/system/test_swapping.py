"""A pager that swaps, on real processes: what programs store at the same time comes back, however often it left."""

import os

import pytest

from tests.system.booted import System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

PAGES, FRAMES, STORES = 48, 12, 1500
SWAP = f"""
from collections import deque
from libexo import pager
PAGES, FRAMES, STORES, FRAME = {PAGES}, {FRAMES}, {STORES}, 4096

class Swap(Interface, label=0x64, name="swap"):
    @operation(1)
    def open(self) -> Extent: ...
    @operation(2)
    def moved(self) -> tuple[int, int]: ...
"""
PAGER = (
    PRELUDE
    + SWAP
    + """
there, saved, evicted = deque(), {}, 0

def fill(store, fault):
    global evicted
    while len(there) >= FRAMES:
        page = there.popleft()
        (state,) = store.guard(page)
        if state & pager.PageState.WRITTEN:
            saved[page] = store.load(page)
        assert store.evict(page) == 1
        evicted += 1
    store.supply(fault.page, saved.get(fault.page, bytes(FRAME)))
    there.append(fault.page)

class Server(Swap):
    def __init__(self):
        memory = Memory.connect(env)
        memory.promise(FRAMES)
        self.paged = pager.PagedObject(env, memory.ram(), PAGES, FRAMES, fill, patience=30)
    def open(self): return self.paged.extent
    def moved(self): return evicted, len(saved)

server = Server()
print("serves", flush=True)
serve(server, name="swap")
"""
)
"""Keeps what was written, and gives it back; whoever comes first leaves first."""
COUNTER = (
    PRELUDE
    + SWAP
    + """
import random
swap, mine = Swap.connect(env), int(sys.argv[1])
words = vm.map(env, swap.open()).cast("Q")
drawn, counts, wrong = random.Random(mine), [0] * PAGES, 0
for _ in range(STORES):
    page = drawn.randrange(PAGES)
    at = page * FRAME // 8 + mine
    wrong += words[at] != counts[page]
    counts[page] += 1
    words[at] = counts[page]
wrong += sum(words[page * FRAME // 8 + mine] != counts[page] for page in range(PAGES))
print(wrong, swap.moved()[0] > STORES // 2)
"""
)
"""Counts in a word of its own in each page, and looks each time whether it finds what it counted."""


@pytest.mark.slow
def test_no_store_is_lost(booted: System) -> None:
    """Two programs count in the same pages, of which a quarter is there at a time: each finds its own counts."""
    with booted.start(PAGER, name="swap", share=0) as pager:
        pager.line()
        counters = [booted.start(COUNTER, number, paged=True) for number in range(2)]
        for counter in counters:
            finished = counter.finish()
            assert (finished.out, finished.err) == ("0 True\n", "")

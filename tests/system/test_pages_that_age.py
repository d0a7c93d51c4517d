"""Which pages a program used, as its pager sees it: real page tables, and a host that takes pages from view."""

import os

import pytest

from exo.paging import given
from tests.system.booted import System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

PAGES, TRIES = 8, 5000
STORE = f"""
from libexo import pager
PAGES, TRIES, FRAME = {PAGES}, {TRIES}, 4096

class Store(Interface, label=0x63, name="store"):
    @operation(1)
    def open(self) -> Extent: ...
    @operation(2)
    def age(self) -> list[int]: ...
    @operation(3)
    def states(self) -> list[int]: ...
    @operation(4)
    def faults(self) -> int: ...
"""
PAGER = (
    PRELUDE
    + STORE
    + """
told = []
def fill(store, fault):
    told.append(fault.page)
    store.supply(fault.page, b"page %d" % fault.page)

class Server(Store):
    def __init__(self):
        memory = Memory.connect(env)
        memory.promise(PAGES)
        self.paged = pager.PagedObject(env, memory.ram(), PAGES, PAGES, fill, patience=10)
    def open(self): return self.paged.extent
    def age(self): return [int(state) for state in self.paged.age(0, PAGES)]
    def states(self): return [int(state) for state in self.paged.states(0, PAGES)]
    def faults(self): return len(told)

server = Server()
print("serves", flush=True)
serve(server, name="store")
"""
)
USER = (
    PRELUDE
    + STORE
    + """
store = Store.connect(env)
view = vm.map(env, store.open())
for page in range(PAGES):
    view[page * FRAME]
view[5 * FRAME + 100] = 65
for _ in range(TRIES):  # a page that waits in a list of another core is spared
    store.age()
    if all(state & pager.PageState.IDLE for state in store.states()):
        break
print(store.states())
for page in (2, 3):
    view[page * FRAME]
view[3 * FRAME + 100] = 66
print(store.states())
print([bytes(view[page * FRAME:page * FRAME + 6]) for page in (2, 7)], view[5 * FRAME + 100])
print(store.states(), store.faults())
"""
)


@pytest.mark.skipif(
    not next(one.there for one in given() if one.name == "paging out"), reason="the host pages nothing out"
)
def test_what_is_touched_is_not_idle(booted: System) -> None:
    """Loads and stores to pages that aged are seen, the pager is asked about none, and their content is there."""
    with booted.start(PAGER, name="store") as pager:
        pager.line()
        finished = booted.run(USER, paged=True)

        assert (finished.out.splitlines(), finished.err) == (
            [
                "[9, 9, 9, 9, 9, 11, 9, 9]",
                "[9, 9, 1, 3, 9, 11, 9, 9]",
                "[b'page 2', b'page 7'] 65",
                "[9, 9, 1, 3, 9, 3, 9, 1] 8",
            ],
            "",
        )

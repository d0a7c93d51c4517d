"""Reserved addresses of a real process, as the host shows them."""

import os
from pathlib import Path

from libexo.host.memory import put
from libexo.host.reserved import RealReserved

PAGE = 4096
PAGES = 8


def rights(address: int) -> str:
    """Return what may be done at each page from *address*, as the host has it."""
    found = ""
    for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines():
        span, may, *_ = line.split()
        first, last = (int(end, 16) for end in span.split("-"))
        for page in range(max(first, address), min(last, address + PAGES * PAGE), PAGE):
            assert page == address + len(found) * PAGE
            found += {"---": "-", "r--": "r", "rw-": "w"}[may[:3]]
    return found


def memory(byte: int, pages: int) -> int:
    number = os.memfd_create("memory", os.MFD_CLOEXEC)
    os.pwrite(number, bytes([byte]) * pages * PAGE, 0)
    return number


def put_at(reserved: RealReserved, page: int, pages: int, byte: int) -> None:
    put(reserved.address + page * PAGE, memory(byte, pages), pages * PAGE, writable=True)


def test_nothing_but_what_is_put_there() -> None:
    """What is put there can be used, around it nothing; what goes leaves nothing again."""
    reserved = RealReserved(PAGES * PAGE)
    before = rights(reserved.address)
    put_at(reserved, 2, 3, 5)
    while_there = rights(reserved.address)
    view = reserved.view(2 * PAGE, 3 * PAGE, [])
    found = (view[0], view[-1], len(view))
    reserved.give_back(reserved.address + 2 * PAGE, 3 * PAGE)

    assert (before, while_there, rights(reserved.address)) == ("--------", "--www---", "--------")
    assert found == (5, 5, 3 * PAGE)


def test_protected_also_where_memory_moves() -> None:
    """Pages that were protected are so when new memory is put there; not when something else is, after that."""
    reserved = RealReserved(PAGES * PAGE)
    put_at(reserved, 1, 4, 5)
    view = reserved.view(PAGE, 4 * PAGE, [])
    reserved.protect(view, PAGE, 2 * PAGE, writable=False)
    reserved.protect(view, 2 * PAGE, PAGE, writable=True)
    put_at(reserved, 1, 4, 6)
    moved = rights(reserved.address), view[0]
    reserved.give_back(reserved.address + PAGE, 4 * PAGE)
    put_at(reserved, 1, 4, 7)

    assert moved == ("-wrww---", 6)
    assert rights(reserved.address) == "-wwww---"


def test_a_view_keeps_the_addresses() -> None:
    """They go when neither their owner nor a view of them is left."""
    reserved = RealReserved(PAGES * PAGE)
    address = reserved.address
    put_at(reserved, 0, PAGES, 5)
    view = reserved.view(0, PAGES * PAGE, [])
    del reserved
    kept = rights(address)
    del view

    assert (kept, rights(address)) == ("w" * PAGES, "")

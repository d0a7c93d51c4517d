"""Shared memory of two programs that share none: a page is with one of them at a time.

    exo run --paged examples/dsm.py

Each program has an object of its own, as it would on a machine of its own, and we are the pager of both. A page
that one touches is fetched from the other: guarded, so that nothing is written any more, loaded, and evicted.
"""

import libexo
from libexo import ipc, process, vm
from libexo.environment import Environment
from libexo.extent import Extent
from libexo.pager import Fault, PagedObject
from servers.memory.api import Memory

holders: dict[int, PagedObject] = {}  # where each page is


def fetch(store: PagedObject, fault: Fault) -> None:
    """Have a page in *store*, and nowhere else."""
    content, holder = b"\0", holders.get(fault.page)
    if holder is not None:
        holder.guard(fault.page)
        content = holder.load(fault.page)
        holder.evict(fault.page)
    print(f"page {fault.page} comes from {'the other' if holder else 'nowhere'}")
    store.supply(fault.page, content)
    holders[fault.page] = store


def write(env: Environment, extent: Extent, name: str, times: int) -> None:
    """Write our name behind what is there, whenever it is our turn, and say what is there then."""
    view = vm.map(env, extent)
    for _ in range(times):
        starter, _ = env.thread.wait()
        text = bytes(view[:64]).rstrip(b"\0") + name.encode()
        view[: len(text)] = text
        env.thread.send(starter, ipc.Message(items=(text,)))


if __name__ == "__main__":
    env, programs = libexo.attach(), []
    (memory := Memory.connect(env)).promise(2)
    for name, turns in (("A", 3), ("B", 1)):
        store = PagedObject(env, memory.ram(), pages=1, frames=1, on_fault=fetch)
        programs.append(process.start(env, write, store.extent, name, turns, paged=True))
    for turn in (0, 0, 1, 0):
        env.thread.send(programs[turn].thread, ipc.Message())
        print(env.thread.receive(programs[turn].thread)[1].items[0])

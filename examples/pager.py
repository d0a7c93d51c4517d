"""Pager: memory whose pages another program works out when they are touched, and of which two exist at a time.

    exo run --paged examples/pager.py

The program makes an object of 400 pages with two frames, and starts a reader. Each page that it touches is a fault
of the host's MMU, a message to us, and a page that is there. Only a program that is `--paged` may map such memory.
"""

from collections import deque

import libexo
from kernel.abi.limits import FRAME_SIZE
from libexo import ipc, process, vm
from libexo.environment import Environment
from libexo.extent import Extent, Ram
from libexo.pager import Fault, PagedObject
from servers.memory.api import Memory

READ = (3, 30, 300, 30, 3)


def squares(env: Environment, ram: Ram) -> PagedObject:
    """Return memory in which page N holds N squared."""
    there: deque[int] = deque()

    def work_out(memory: PagedObject, fault: Fault) -> None:
        if len(there) == memory.frames:
            memory.evict(there.popleft())  # nobody writes to it, and it can be worked out again
        memory.supply(fault.page, str(fault.page**2).encode())
        there.append(fault.page)
        print(f"page {fault.page} was touched; there are {list(there)}")

    return PagedObject(env, ram, pages=400, frames=2, on_fault=work_out)


def read(env: Environment, extent: Extent, starter: int) -> None:
    """Send what is in some pages."""
    view, found = vm.map(env, extent), []
    for page in READ:
        vm.touch(env, view, page * FRAME_SIZE, 1)  # for the simulated machine; here, the next line does it
        found.append(bytes(view[page * FRAME_SIZE :][:8]).rstrip(b"\0"))
    env.thread.send(starter, ipc.Message(items=tuple(found)))


if __name__ == "__main__":
    env, memory = libexo.attach(), Memory.connect(libexo.attach())
    memory.promise(2)
    process.start(env, read, squares(env, memory.ram()).extent.read_only(), env.thread.id, paged=True)
    print("the reader read", *map(bytes.decode, env.thread.wait()[1].items))  # type: ignore[arg-type]

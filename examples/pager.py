"""Pager: memory whose pages another program works out when they are touched, and of which two exist at a time.

    exo run --paged examples/pager.py

The program makes an object of 400 pages with two frames, and starts this file a second time, as a reader. Each page
that touches is a fault of the host's MMU, a message to us, and a page that is there. Only who was started `--paged`
may map such memory, and start others who may.
"""

import sys
from collections import deque
from pathlib import Path

import libexo
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.program import ProgramKind
from libexo import ipc, vm
from libexo.environment import Environment
from libexo.extent import Ram
from libexo.pager import Fault, PagedObject
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec

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


def read(env: Environment) -> None:
    """Map what is sent, and answer what is in it."""
    _, request = env.thread.wait()
    view, found = vm.map(env, request.items[0]), []  # type: ignore[arg-type]  # nobody sends anything else
    for page in READ:
        vm.touch(env, view, page * FRAME_SIZE, 1)  # for the simulated machine; here, the next line does it
        found.append(bytes(view[page * FRAME_SIZE :][:8]).rstrip(b"\0"))
    env.thread.reply(request, ipc.Message(items=tuple(found)))


if __name__ == "__main__":
    env = libexo.attach()
    if "reader" in sys.argv:
        read(env)
    else:
        memory, argv = Memory.connect(env), (str(Path(__file__).absolute()), "reader")
        memory.promise(2)
        paged = squares(env, memory.ram())
        reader = Processes.connect(env).spawn(
            ProgramSpec(ProgramKind.PYTHON, argv, name="reader", paged=True)
        )
        answer = env.thread.call(reader, ipc.Message(items=(memory.share(paged.extent),)), timeout=5)
        print("the reader read", *(item.decode() for item in answer.items if isinstance(item, bytes)))

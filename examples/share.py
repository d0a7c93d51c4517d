"""Share: another program may read a page of ours, and the host's MMU ensures that it does no more.

    exo run examples/share.py

The program starts this file a second time, as the reader, and gives it a read-only capability to one page.
Asked once, the reader answers with the content. Asked again, it writes, by an address, past all that Python checks.
"""

import ctypes
import signal
import sys
from contextlib import suppress
from pathlib import Path

import libexo
from kernel.abi.program import ProgramKind
from libexo import ipc, vm
from libexo.environment import Environment
from libexo.errors import NoPartner
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec

SECRET = b"nobody changes this"


def write(env: Environment) -> None:
    """Fill a page, share it, and see how the reader ends."""
    memory, processes = Memory.connect(env), Processes.connect(env)
    extent = memory.allocate(pages=1)
    page = vm.map(env, extent)
    page[: len(SECRET)] = SECRET

    me = str(Path(__file__).absolute())
    reader = processes.spawn(ProgramSpec(ProgramKind.PYTHON, (me, "reader"), name="reader"))
    answer = env.thread.call(reader, ipc.Message(items=(memory.share(extent),)), timeout=5)
    print(f"the reader read {answer.items[0]!r}")

    with suppress(NoPartner):  # it will not live to answer
        env.thread.call(reader, ipc.Message(), timeout=5)
    ended = processes.wait(reader)
    print(f"the reader wrote, and was ended by {signal.Signals(-ended.status).name}")
    print(f"the page says {bytes(page[: len(SECRET)])!r}")


def read(env: Environment) -> None:
    """Map the shared page, answer with its content, and when asked again, write."""
    _, request = env.thread.wait()
    page = vm.map(env, request.items[0])  # type: ignore[arg-type]  # the writer sends nothing else
    env.thread.reply_wait(request, ipc.Message(items=(bytes(page[: len(SECRET)]),)))
    ctypes.memset(ctypes.addressof(page.obj), 0, 1)  # type: ignore[arg-type]  # a mapped page is a ctypes array


if __name__ == "__main__":
    (read if "reader" in sys.argv else write)(libexo.attach())

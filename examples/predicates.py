"""Predicates: sleep until words in shared memory have values, which another program stores without any trap.

    exo run examples/predicates.py

The program starts this file a second time, as the cook, who stores which dishes are ready.
"""

import sys
from pathlib import Path

import libexo
from kernel.abi.program import ProgramKind
from libexo import ipc, vm
from libexo.environment import Environment
from libexo.predicates import after, wait, word
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec


def serve(env: Environment) -> None:
    """Sleep until soup and bread are ready, or until that takes too long."""
    memory, me = Memory.connect(env), str(Path(__file__).absolute())
    table = vm.map(env, extent := memory.allocate(pages=1))
    cook = Processes.connect(env).spawn(ProgramSpec(ProgramKind.PYTHON, (me, "cook"), name="cook"))
    env.thread.send(cook, ipc.Message(items=(memory.share(extent, writable=True),)))
    clause = wait(env, (word(table, 0) == 1) & (word(table, 1) == 1) | after(60))
    print(("soup and bread are ready", "nobody cooks")[clause])


def cook(env: Environment) -> None:
    """Store, and no more."""
    table = vm.map(env, env.thread.wait()[1].items[0]).cast("Q")  # type: ignore[arg-type]  # it is an extent
    for dish in range(2):
        env.thread.sleep(0.01)
        table[dish] = 1


if __name__ == "__main__":
    (cook if "cook" in sys.argv else serve)(libexo.attach())

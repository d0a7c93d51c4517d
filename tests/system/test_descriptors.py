"""A kernel that has no descriptor left: what is refused, what goes on, and what comes back."""

import os

import pytest

from exo.system import Trouble
from kernel.abi.kip import Head
from tests.system.booted import boot, wait_until
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

LIMIT = 700
FEWER = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh")
"""Starts a command with fewer descriptors than one program may have extents."""
HOARDER = """
memory = Memory.connect(env)
ram = memory.ram().handle
memory.promise(1000)
held = []
def hoard():
    while True:
        held.append(env.sys.carve(ram, 1).extent)
try:
    hoard()
except TrapRefused as refused:
    print(len(held), refused.refusal.name, "ulimit -n" in str(refused), flush=True)
sys.stdin.readline()
print(memory.statistics().free, outcome(lambda: memory.allocate(1)), outcome(hoard), flush=True)
sys.stdin.readline()
env.sys.drop(held.pop())
print(outcome(lambda: held.append(env.sys.carve(ram, 1).extent)), outcome(hoard), flush=True)
sys.stdin.readline()
"""


def test_the_last_descriptor() -> None:
    """Carving and starting are refused with the reason; servers answer; what is given up can be had again."""
    with boot(prefix=FEWER) as system:
        system.settle()
        system.rebase()
        free = system.kip.head(Head.FREE_FRAMES)
        with system.start(PRELUDE + HOARDER, name="hoarder") as hoarder:
            count, refusal, reason = hoarder.line().split()
            assert (refusal, reason) == ("HOST_FULL", "True")
            assert LIMIT // 2 < int(count) < LIMIT
            assert system.kip.head(Head.FREE_FRAMES) == free - int(count)

            with pytest.raises(Trouble, match=r"EnvironmentCreate: .*limit of descriptors.*ulimit -n"):
                system.run("print('runs')")
            hoarder.tell("go")
            assert hoarder.line().split() == [str(free - int(count)), "OutOfMemory", "HOST_FULL"]
            hoarder.tell("go")
            assert hoarder.line() == "done HOST_FULL"
            hoarder.tell("end")
            assert hoarder.finish().status == 0

        assert system.run("print('runs')").out == "runs\n"
        system.settle()
        assert wait_until(system.balances), (system.baseline, system.books())
        assert all(system.server(name).pid for name in ("memory", "process", "scheduler"))

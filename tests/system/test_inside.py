"""A program divides a real processor among its children, and sees its slices; by the host's account."""

import pytest

from tests.system.booted import System
from tests.system.test_preemption import ATTEMPTS, LOOP, best, measure, pid_of

pytestmark = [pytest.mark.system, pytest.mark.beside]

HEAD = """
import libexo
from libexo.inside import Inside
from servers.process.api import Processes, ProgramSpec
from servers.scheduler.policies import Stride
env = libexo.attach()
processes, inside = Processes.connect(env), Inside(env, Stride())
loop = ("/bin/sh", "-c", "while :; do :; done")
for weight in (3, 1):
    inside.set(processes.spawn(ProgramSpec(3, loop, f"child-{weight}", share=1)), weight)
print("runs", flush=True)
inside.run()
"""
SLICES = """
import libexo
from libexo import slices
env = libexo.attach()
longest = over = 0
seen, told = set(), []
slices.on_begin(env, lambda began, ends: told.append(began))
while len(seen) < 20:
    begun = slices.begun(env)
    seen.add(begun)
    left = slices.left(env)
    with slices.critical(env):
        still = slices.left(env)
    if slices.begun(env) == begun:
        longest = max(longest, left)
        assert still <= left
env.kip.names()
try:
    env.thread.wait(0.01)
except libexo.errors.IpcTimeout:
    pass
print(longest <= 11_000_000, len(told) > 0, env.page[2], flush=True)
"""


def test_children_by_weight(own: System) -> None:
    """Two children divide by stride, 3:1, the half that their family has beside another program."""
    with own.start(HEAD, name="head") as head, own.start(LOOP, name="victim") as victim:
        assert (head.line(), victim.line()) == ("runs", "runs")
        pids = [pid_of(own, victim), *(own.server(f"child-{weight}").pid for weight in (3, 1))]
        runs = (measure(own, pids, 2.0) for _ in range(ATTEMPTS))
        measured = best(runs, lambda m: abs(m.shares[0] - 50) < 1 and abs(m.shares[1] - 37.5) < 1)

        assert measured.shares == pytest.approx([50, 37.5, 12.5], abs=3), str(measured)


def test_slices_of_ones_own(own: System) -> None:
    """Beside another program, a program sees slices of 10 ms begin and shrink, and is told of them."""
    with own.start(LOOP, name="victim") as victim, own.start(SLICES, name="sees") as sees:
        assert victim.line() == "runs"
        assert sees.line() == "True True 0"

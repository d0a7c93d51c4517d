"""Children divide their parent's part of a real processor."""

import pytest

from tests.system.booted import System
from tests.system.test_preemption import ATTEMPTS, LOOP, best, measure, pid_of

pytestmark = [pytest.mark.system, pytest.mark.beside]

PARENT = """
import libexo
from servers.process.api import Processes, ProgramSpec
processes = Processes.connect(libexo.attach())
loop = ("/bin/sh", "-c", "while :; do :; done")
children = [processes.spawn(ProgramSpec(3, loop, f"child-{n}", share=1000)) for n in range(3)]
print("runs", flush=True)
while True: pass
"""


def test_children_take_nothing_from_others(own: System) -> None:
    """A loop with three children that loop, each with the largest share, has with them half of the processor."""
    with own.start(PARENT, name="parent") as parent, own.start(LOOP, name="victim") as victim:
        assert (parent.line(), victim.line()) == ("runs", "runs")
        names = ("victim", "parent", "child-0", "child-1", "child-2")
        pids = [pid_of(own, victim), *(own.server(name).pid for name in names[1:])]
        runs = (measure(own, pids, 2.0) for _ in range(ATTEMPTS))
        measured = best(runs, lambda m: abs(m.shares[0] - 50) < 2)

        assert abs(measured.shares[0] - 50) < 5, str(measured)

"""X.2's Schedule with real processes: levels, and a total quantum, by the host's own clocks."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.booted import ROOT, System, boot, wait_until
from tests.system.test_preemption import LOOP, cpu_ns, pid_of

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

QUANTUM_NS = 600_000_000
COMMANDER = f"""
import libexo
from libexo import l4
env = libexo.attach()
high, low, _ = (env.lookup(name, 60) for name in ("high", "low", "go"))
assert l4.Set_Timeslice(high, l4.TimePeriod(10_000), l4.TimePeriod({QUANTUM_NS // 1000})), l4.ErrorCode()
assert l4.Set_Priority(low, 50), l4.ErrorCode()
env.thread.wait()
"""
TOPOLOGY = """
[server.commander]
module = "{path}"
thread = 110
importance = 9
calls = ["scheduler"]
restart = "never"
"""


@pytest.fixture
def commanded() -> Iterator[System]:
    """A system with a server that sets a quantum and a priority when a third program says so by being there."""
    with tempfile.TemporaryDirectory(prefix="exo-") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "commander.py"
        path.write_text(COMMANDER)
        with boot((ROOT / "system.toml").read_text() + TOPOLOGY.format(path=path)) as system:
            yield system
            assert "Traceback" not in system.log.read_text()


def planned(system: System) -> list[str]:
    """Which of the two loops has slices."""
    names = {row.number: row.name for row in system.kip.environments() if row.name in ("high", "low")}
    return [names[number] for number, _ in system.kip.plans()[0].slices if number in names]


def test_a_higher_level_until_its_quantum_is_used_up(commanded: System) -> None:
    """A loop of a higher priority starves another until it has used its total quantum; then it is stopped."""
    with ExitStack() as stack:
        high, low = (stack.enter_context(commanded.start(LOOP, name=name)) for name in ("high", "low"))
        assert (high.line(), low.line()) == ("runs", "runs")
        first, second = pid_of(commanded, high), pid_of(commanded, low)
        stack.enter_context(commanded.start("input()", name="go"))
        assert wait_until(lambda: planned(commanded) == ["high"])
        before = cpu_ns(first), cpu_ns(second)
        assert wait_until(lambda: planned(commanded) == ["low"])
        between = cpu_ns(first), cpu_ns(second)
        assert wait_until(lambda: cpu_ns(second) - between[1] > 300_000_000)
        after = cpu_ns(first)

        assert between[1] - before[1] < 10_000_000  # until the test looks again
        assert QUANTUM_NS * 0.8 < between[0] - before[0] < QUANTUM_NS + 10_000_000
        assert after - between[0] < 10_000_000

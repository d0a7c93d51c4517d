"""Programs that compute, and commands about them by their X.2 scheduler."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from kernel.abi.topology import MachineConfig, Topology
from libexo import l4
from libexo.environment import Environment
from libexo.testing import System, Task, burn, simulated
from tests.servers import rig

FOREVER = 10**15
MS = 1_000_000
TWO = Topology(MachineConfig(memory="1 MiB", cpus=(0, 1)), server=rig.TOPOLOGY.server)

T = TypeVar("T")


@contextmanager
def two_processors() -> Iterator[System]:
    """The servers on a machine with two processors."""
    with simulated(TWO) as system:
        system.pass_time(0.1)
        yield system


def compute(_: Environment) -> None:
    """Compute for ever."""
    burn(FOREVER)


def work_and_sleep(work_ms: float, sleep_ms: float) -> Callable[[Environment], None]:
    """Compute and sleep in turn."""

    def live(env: Environment) -> None:
        while True:
            burn(int(work_ms * MS))
            env.thread.sleep(sleep_ms / 1000)

    return live


def start(system: System, **programs: Callable[[Environment], object]) -> dict[str, Task]:
    """Start programs under the first processor, by name."""
    tasks = {name: system.spawn(function, name, cpu=0) for name, function in programs.items()}
    system.pass_time(0.05)
    return tasks


def command(system: System, tasks: dict[str, Task], orders: Callable[[], T]) -> T:
    """Run *orders* in an environment that is made the X.2 scheduler of *tasks* first."""

    def root(env: Environment) -> T:
        for task in tasks.values():
            assert l4.ThreadControl(task.thread, task.thread, env.thread.id, l4.nilthread)
        return orders()

    task = system.spawn(root, f"root-{len(system.tasks)}", holds=["factory"])
    system.run(task)
    return cast("T", task.result)


def used(tasks: dict[str, Task]) -> dict[str, float]:
    """CPU time of each, in milliseconds."""
    return {name: task.body.consumed() / MS for name, task in tasks.items()}


def uses(system: System, tasks: dict[str, Task], milliseconds: float) -> dict[str, float]:
    """CPU time of each in the next milliseconds."""
    before = used(tasks)
    system.pass_time(milliseconds / 1000)
    return {name: after - before[name] for name, after in used(tasks).items()}

"""A system with a pager and a swap file, and a program that uses swapped memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from hwmodel.failures import Failures
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.topology import MachineConfig, ServerConfig
from libexo import vm
from libexo.environment import Environment
from libexo.host.simulated import SimulatedBacking
from libexo.testing import System, Task, simulated
from servers.memory.api import Pager
from tests.servers import rig

PAGES, FRAMES = 32, 16
PAGER = ServerConfig("servers.memory.pagers", 100, 2, holds=("swap",), calls=("memory",))


@contextmanager
def swapping(
    seed: int = 0, *, swap: str = "/swap", size: str = "1 MiB", failures: Failures | None = None
) -> Iterator[System]:
    """Boot a system with a pager; let its servers come up."""
    machine = MachineConfig(memory="2 MiB", swap=swap, swap_size=size)
    topology = msgspec.structs.replace(
        rig.TOPOLOGY, machine=machine, server={**rig.TOPOLOGY.server, "pager": PAGER}
    )
    with simulated(topology, seed=seed, failures=failures) as system:
        system.pass_time(0.1)
        yield system


class Paper:
    """Swapped memory, as its program uses it: a number a page."""

    def __init__(self, env: Environment, pages: int = PAGES, frames: int = FRAMES, **named: object) -> None:
        self.env = env
        self.pager = Pager.connect(env, timeout=30)
        self.extent = self.pager.paged(pages, frames, **named)  # type: ignore[arg-type]
        self.view = vm.map(env, self.extent)

    def write(self, page: int, number: int) -> None:
        """Fill a page with what follows from *number*."""
        vm.touch(self.env, self.view, page * FRAME_SIZE, FRAME_SIZE, write=True)
        self.view[page * FRAME_SIZE : (page + 1) * FRAME_SIZE] = content(number)

    def read(self, page: int) -> bytes:
        vm.touch(self.env, self.view, page * FRAME_SIZE, FRAME_SIZE)
        return bytes(self.view[page * FRAME_SIZE : (page + 1) * FRAME_SIZE])


def content(number: int) -> bytes:
    """Return a page of which every eighth byte says which it is."""
    return number.to_bytes(8, "little") * (FRAME_SIZE // 8)


def use(system: System, program: Callable[[Environment], object], name: str = "user") -> Task:
    """Start a program that may have swapped memory."""
    return system.spawn(program, name, paged=True)


def used(system: System, program: Callable[[Environment], object], name: str = "user") -> object:
    """Run one to its end; return what it returns."""
    task = use(system, program, name)
    system.run(task)
    return task.result


class HangingStore:
    """The store of all pagers, which answers nothing from `hang` on until it goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hangs = False
        self._held: list[SimulatedBacking] = []
        settle = SimulatedBacking.settle

        def settled(backing: SimulatedBacking) -> None:
            if self._hangs:
                backing._waker.clear()
                self._held.append(backing)
            else:
                settle(backing)

        monkeypatch.setattr(SimulatedBacking, "settle", settled)

    def hang(self) -> None:
        self._hangs = True

    def holds(self) -> bool:
        """Say whether an answer of it waits."""
        return any(backing._finished for backing in self._held)

    def go_on(self) -> None:
        """Give the answers that wait, and all others."""
        self._hangs = False
        self._held[0]._waker.wake()

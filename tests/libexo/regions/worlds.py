"""A program with regions on the simulated machine, with the servers it needs."""

from collections.abc import Callable, Sequence

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.program import ProgramKind
from libexo import attach
from libexo.environment import Environment
from libexo.regions import Region
from libexo.testing import System
from servers.process.api import Processes, ProgramSpec
from tests.servers.rig import command, servers

SEED = 5


def run(*programs: Callable[[Environment], object], seed: int = SEED) -> list[object]:
    """Run *programs*, which may have paged memory, to their ends on one system; return what they return.

    Then all that they started has ended, and every frame is free.
    """
    with servers(seed=seed) as system:
        _all(system, [lambda env: env.number])  # what the servers keep for programs is there then
        free = system.kernel.frames.free
        results = _all(system, programs)
        assert system.kernel.frames.free == free
    return results


def one(program: Callable[[Environment], object], *, seed: int = SEED) -> object:
    """Run one."""
    (result,) = run(program, seed=seed)
    return result


def _all(system: System, programs: Sequence[Callable[[Environment], object]]) -> list[object]:
    results = [begin(system, program, f"program-{at}") for at, program in enumerate(programs)]
    system.run(until=lambda: all(results) and alone(system))
    for (result,) in results:
        if isinstance(result, BaseException):
            for text in system.machine.log:
                result.add_note(text)
            raise result
    return [result for (result,) in results]


def begin(system: System, program: Callable[[Environment], object], name: str = "program") -> list[object]:
    """Have an operator start *program*; return where its result will be, or what it raised."""
    results: list[object] = []

    def main() -> None:
        try:
            results.append(program(attach()))
        except Exception as error:  # noqa: BLE001 - the test raises it again
            results.append(error)

    system.machine.programs[name] = main
    spec = ProgramSpec(int(ProgramKind.PYTHON), (name,), name, paged=True)
    command(system, lambda env: Processes.connect(env).spawn(spec))
    return results


def alone(system: System) -> bool:
    """Say whether nobody lives but the three servers."""
    return sum(e.alive for e in system.kernel.environments) == 3


def poke(region: Region, page: int, byte: int) -> None:
    """Store at the beginning of a page."""
    region.touch(page * FRAME_SIZE, 1, write=True)[0] = byte


def peek(region: Region, page: int) -> int:
    """Load from there."""
    return region.touch(page * FRAME_SIZE, 1)[0]


def content(region: Region) -> list[int]:
    """Load from every page."""
    return [peek(region, page) for page in range(region.pages)]

"""Deaths at every moment: of a program with regions, of its pager, of its forked child."""

import pytest

from hwmodel.failures import Failure, FailureKind, Failures
from hwmodel.simulated.mmu import is_bus_error
from libexo import process, regions
from libexo.environment import Environment
from libexo.errors import IpcError, NoPartner, NotFound, RemoteError, TrapRefused
from libexo.regions import Region
from libexo.testing import simulated
from servers.memory.server import LOOK_AGAIN
from tests.libexo.regions.worlds import alone, begin, content, poke
from tests.servers.rig import TOPOLOGY

PAGES = 4


def child(_env: Environment, region: Region) -> None:
    """Use the copy."""
    for page in range(PAGES):
        poke(region, page, 9)


def parent(env: Environment) -> object:
    """Make a region, copy it, and fork; return what the copy holds, or how that became impossible."""
    try:
        region = regions.start(env).make(PAGES)
        for page in range(PAGES):
            poke(region, page, page)
        copy = region.copy()
        forked = process.fork(env, child, region)
        for page in range(PAGES):
            poke(region, page, 7)
        found = content(copy)
        forked.wait()
    except (
        IpcError,
        NotFound,
        RemoteError,
        TrapRefused,
    ) as error:  # IpcError: it died with its answer on the way
        return type(error)
    except ValueError as error:
        if not is_bus_error(error):
            raise
        return ValueError
    return found


ROLES = ("program", "pager", "child")


def play(failures: Failures, seed: int = 0) -> tuple[object, dict[str, int]]:
    """Run the program; return what became of it (None: the kernel ended it), and the number of each role.

    Nobody is left after that but the servers, and all that was carved is free again.
    """
    numbers: dict[str, int] = {}
    with simulated(TOPOLOGY, seed=seed, failures=failures) as system:
        system.pass_time(0.1)
        begin(system, lambda env: env.number, "before")  # what the servers keep for programs is there then
        system.run(until=lambda: alone(system))
        free = system.kernel.frames.free
        results = begin(system, parent)

        def is_over() -> bool:
            living = [(e.name.partition("-")[0], e.number) for e in system.kernel.environments if e.alive]
            numbers.update((role, number) for role, number in living if role in ROLES)
            return bool(numbers) and alone(system)

        system.run(until=is_over, errors=False, seconds=60)
        system.pass_time(3 * LOOK_AGAIN)  # the memory server finds out who has ended
        assert (alone(system), system.kernel.frames.free) == (True, free)
    return results[0] if results else None, numbers


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_left(role: str, seed: int) -> None:
    """Whoever dies, whenever: the program hears of it, ends, or has its copy as it should be; all is free after.

    Each run takes a third of all moments.
    """
    found, numbers = play(Failures())
    outcomes = []
    for at in range(1 + seed % 3, 400, 3):
        failures = Failures([Failure(FailureKind.KILL, numbers[role], at)])
        outcomes.append(play(failures, seed=at)[0])
        if not failures.injected:
            break

    assert found == [0, 1, 2, 3]
    assert outcomes.pop() == found
    may: dict[str, set[object]] = {
        "program": {None},
        "pager": {NoPartner, IpcError, TrapRefused, ValueError, None},
        "child": {NoPartner},
    }
    assert {outcome for outcome in outcomes if not isinstance(outcome, list)} <= may[role]
    assert all(outcome == found for outcome in outcomes if isinstance(outcome, list))

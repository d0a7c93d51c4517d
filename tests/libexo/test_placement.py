"""Placement on the simulated machine, which has one core: there is nothing to choose, and that is said."""

import pytest

from libexo import placement
from libexo.environment import Environment
from libexo.errors import ExoError
from libexo.testing import simulated


def test_one_core_is_no_choice() -> None:
    """Where the caller may run on one core only, nothing is called, measured or changed."""
    calls: list[int] = []

    def program(env: Environment) -> tuple[str, int, dict[int, float]]:
        with placement.best(env, lambda: calls.append(1), server=env.thread.id) as placed:
            return str(placed), placed.core, dict(placed.medians)

    with simulated() as system:
        task = system.spawn(program)
        system.run()
        assert task.result == (
            "left where it was: the host lets it run on core 0 only",
            placement.HERE,
            {},
        )
    assert calls == []


def test_under_a_plan_the_kernel_decides() -> None:
    """A program under the plan of a processor is left there."""
    with simulated() as system:
        task = system.spawn(lambda env: str(placement.best(env, lambda: None)), cpu=0)
        system.run()
        assert task.result == "left where it was: under the plan of processor 0, where the kernel keeps it"


def test_no_rounds() -> None:
    """To measure nothing is an error of the caller's."""

    def program(env: Environment) -> None:
        with pytest.raises(ValueError, match="0 rounds"):
            placement.best(env, lambda: None, rounds=0)

    with simulated() as system:
        system.spawn(program)
        system.run()


def test_another_core_of_the_simulated_machine() -> None:
    """The simulated host refuses a core it does not have."""

    def program(env: Environment) -> None:
        env.host.keep_on(env.host.cores())
        with pytest.raises(ExoError, match="core 0"):
            env.host.keep_on(frozenset((1,)))

    with simulated() as system:
        system.spawn(program)
        system.run()


def test_the_best_is_chosen() -> None:
    """Of what was measured the smallest is chosen, and shown."""

    def program(env: Environment) -> list[tuple[int, str]]:
        found = []
        for medians in ({placement.HERE: 2000.0, 0: 1500.0}, {placement.HERE: 1500.0, 0: 1600.0}):
            placed = placement.Placement(env.host, env.host.cores(), medians, "")
            found.append((placed.core, str(placed)))
            placed.close()
            assert placed.core == placement.HERE
        return found

    with simulated() as system:
        task = system.spawn(program)
        system.run()
        assert task.result == [
            (0, "2.0 us where it was, 1.5 us on core 0: kept on core 0"),
            (placement.HERE, "1.5 us where it was, 1.6 us on core 0: left where it was"),
        ]

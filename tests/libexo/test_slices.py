"""The slices of a program, as it sees them itself: on the simulated machine."""

import pytest

from kernel.abi.kip import Page
from libexo import slices
from libexo.environment import Environment
from libexo.errors import IpcTimeout
from libexo.testing import System, Task, burn
from tests.servers.rig import servers

FOREVER = 10**15
MS = 1_000_000


def beside_a_loop(system: System, *programs: object) -> list[Task]:
    """Start *programs*, and one that computes, under one processor."""
    tasks = [system.spawn(each, f"program-{at}", cpu=0) for at, each in enumerate(programs)]  # type: ignore[arg-type]
    return [*tasks, system.spawn(lambda _: burn(FOREVER), "loop", cpu=0)]


def test_what_is_left_of_a_slice() -> None:
    """A program sees its slice begin and grow shorter, by what it computes, and then the next one."""

    def program(env: Environment) -> list[float]:
        burn(50 * MS)
        at = slices.begun(env)
        while slices.begun(env) == at:
            burn(MS // 10)
        seen, began = [], slices.began(env)
        for _ in range(3):
            seen.append((slices.left(env) or 0) / MS)
            burn(3 * MS)
        return [*seen, (env.host.now() - began) / MS]

    with servers() as system:
        task, _ = beside_a_loop(system, program)
        system.run(task)

        assert task.result == pytest.approx([10, 7, 4, 9], abs=0.3)


def test_under_no_plan() -> None:
    """Who is under no plan has no slice that could end."""
    with servers() as system:
        task = system.spawn(slices.left, "program")
        system.run(task)
        assert task.result is None


def test_a_short_critical_section_gives_up_at_its_end() -> None:
    """A slice whose end falls into a critical section ends with it; longer ones end by the kernel's bound."""

    def program(section: int) -> object:
        def runs(env: Environment) -> list[float]:
            over = []
            for _ in range(40):
                at = slices.begun(env)
                while slices.begun(env) == at:
                    burn(MS // 20)
                burn((slices.left(env) or 0) - 150_000)
                with slices.critical(env), slices.critical(env):
                    burn(section)
                    over.append(max(env.host.consumed() - env.page[Page.SLICE_ENDS], 0) / MS)
            return [max(over), env.page[Page.CRITICAL], env.page[Page.OVERDUE]]

        return runs

    with servers() as system:
        short, _ = beside_a_loop(system, program(MS // 2))
        system.run(short)
        assert short.result == pytest.approx([0.35, 0, 0], abs=0.05)

    with servers() as system:
        long, loop = beside_a_loop(system, program(5 * MS))
        system.run(long)
        assert long.body.consumed() == pytest.approx(loop.body.consumed(), rel=0.05)


def looks(env: Environment) -> None:
    """Look for messages; there is none but the kernel's."""
    with pytest.raises(IpcTimeout):
        env.thread.wait(0.001)


def test_told_of_slices() -> None:
    """Who asked is told that slices began, once for all since it last looked; who stops asking is not."""

    def program(env: Environment) -> list[int]:
        told: list[tuple[int, int]] = []
        slices.on_begin(env, lambda *words: told.append(words))
        burn(100 * MS)
        looks(env)
        first = len(told)
        burn(30 * MS)
        looks(env)
        second = len(told)
        slices.on_begin(env, None)
        burn(100 * MS)
        looks(env)
        return [first, second, len(told), env.page[Page.SLICE_ASKED]]

    with servers() as system:
        task, _ = beside_a_loop(system, program)
        system.run(task)
        assert task.result == [1, 2, 2, 0]

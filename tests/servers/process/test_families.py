"""Shared parts of the processor, and the right to start programs beside the plans."""

from collections.abc import Callable

import pytest

from kernel.abi.kip import Counter
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.testing import System, burn
from servers.process.api import Processes, ProgramSpec
from tests.servers.rig import command, kill, offer, servers

FOREVER = 10**15


def compute(_: Environment) -> None:
    burn(FOREVER)


def parent_of(*specs: ProgramSpec) -> Callable[[Environment], None]:
    """A program that starts others and computes."""

    def parent(env: Environment) -> None:
        for spec in specs:
            Processes.connect(env).spawn(spec)
        burn(FOREVER)

    return parent


def start(system: System, spec: ProgramSpec) -> None:
    """Start a program for an operator."""
    command(system, lambda env: Processes.connect(env).spawn(spec))


def used(system: System, seconds: float = 4) -> dict[str, float]:
    """CPU time of each program in the next seconds."""
    living = [e for e in system.kernel.environments if e.alive and e.cpu >= 0]
    before = [e.body.consumed() for e in living]
    system.pass_time(seconds)
    found = zip(living, before, strict=True)
    return {e.name: (e.body.consumed() - was) / 1e9 / seconds for e, was in found}


def test_children_divide_their_parents_share() -> None:
    """A program with five children, whatever shares it asks for, has with them what one other has."""
    with servers() as system:
        children = [offer(system, compute, f"child-{n}") for n in range(5)]
        for child in children:
            child.share = 1000
        start(system, offer(system, parent_of(*children), "parent"))
        start(system, offer(system, compute, "victim"))
        system.pass_time(0.5)
        found = used(system)

        assert found.pop("victim") == pytest.approx(0.5, abs=0.02)
        assert len(found) == 6


def test_grandchildren_too() -> None:
    """Descendants are of one family; the share of the first is all they have, divided by the shares of each."""
    with servers() as system:
        grandchild = offer(system, compute, "grandchild")
        child = offer(system, parent_of(grandchild), "child")
        first = offer(system, parent_of(child), "first")
        first.share = 3
        start(system, first)
        start(system, offer(system, compute, "victim"))
        system.pass_time(0.5)

        assert used(system) == pytest.approx(
            {"first": 0.45, "child": 0.15, "grandchild": 0.15, "victim": 0.25}, abs=0.02
        )


@pytest.mark.parametrize("name", ["process", "scheduler"])
def test_families_survive(name: str) -> None:
    """Either server is killed: families still hold, for the living and for their later children."""
    with servers() as system:
        again = offer(system, compute, "again")
        late = offer(system, compute, "late")

        def parent(env: Environment) -> None:
            Processes.connect(env).spawn(again)
            env.thread.sleep(3)
            Processes.connect(env).spawn(late)
            burn(FOREVER)

        start(system, offer(system, parent, "parent"))
        start(system, offer(system, compute, "victim"))
        system.pass_time(0.5)
        kill(system, name)
        system.pass_time(3)

        assert used(system)["victim"] == pytest.approx(0.5, abs=0.02)


def test_share_zero_is_an_operators() -> None:
    """A program may start nothing outside the plans; a server, and an operator, may."""

    def program(env: Environment) -> str:
        with pytest.raises(RemoteError) as caught:
            Processes.connect(env).spawn(outside)
        return f"{caught.value.kind}: {caught.value}"

    with servers() as system:
        outside = offer(system, compute, "outside")
        outside.share = 0
        answers: list[str] = []
        start(system, offer(system, lambda env: answers.append(program(env)), "asker"))
        system.pass_time(0.5)
        assert answers[0].startswith("SpawnRefused")
        assert "share 0" in answers[0]

        start(system, outside)
        assert [e.cpu for e in system.kernel.environments if e.name == "outside"] == [-1]


def test_to_be_paged_is_an_operators() -> None:
    """A program may start nobody who is paged, unless it is so itself; an operator may."""

    def program(env: Environment) -> str:
        try:
            Processes.connect(env).spawn(paged)
        except RemoteError as error:
            return f"{error.kind}: {error}"
        return "started"

    with servers() as system:
        paged = offer(system, compute, "paged")
        paged.paged = True
        answers: list[str] = []
        plain, able = (
            offer(system, lambda env: answers.append(program(env)), name) for name in ("plain", "able")
        )
        able.paged = True
        start(system, plain)
        system.pass_time(0.5)
        assert answers[0].startswith("SpawnRefused")
        assert "--paged" in answers[0]

        start(system, able)
        system.pass_time(0.5)
        assert answers[1:] == ["started"]
        found = {e.name: e.body.space is not None for e in system.kernel.environments if e.alive}
        assert found == {"memory": False, "process": False, "scheduler": False, "paged": True}


def test_restarts_of_a_family_are_paced() -> None:
    """Forty children of a dead parent that end at once are restarted a few a second, all together."""

    def ends(_: Environment) -> None:
        raise SystemExit(1)

    with servers() as system:
        children = [offer(system, ends, f"child-{n}") for n in range(40)]
        for child in children:
            child.restart, child.budget = "always", {"restarts": 0, "children": 0}

        def parent(env: Environment) -> None:
            for child in children:
                Processes.connect(env).spawn(child)

        spec = offer(system, parent, "parent")
        spec.budget = {"restarts": 40, "children": 48}
        start(system, spec)
        system.pass_time(20)
        before = system.kernel.kip.counter(Counter.RESTARTS)
        system.pass_time(20)

        assert 60 < system.kernel.kip.counter(Counter.RESTARTS) - before <= 102

"""A program that schedules its own descendants: on the simulated machine, with the policies of the system."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import pytest

from libexo.environment import Environment
from libexo.errors import BadArgument, ExoError, RemoteError
from libexo.inside import Inside
from libexo.sched import Member, Plan, Policy
from libexo.testing import System, burn
from servers.process.api import Processes, ProgramSpec
from servers.scheduler.api import Choice, Scheduler
from servers.scheduler.policies import Fair, Lottery, Priority, RoundRobin, Stride
from tests.servers.rig import command, kill, offer, servers

FOREVER = 10**15
MS = 1_000_000
Program = Callable[[Environment], object]


def loop(_: Environment) -> None:
    """Compute for ever."""
    burn(FOREVER)


@contextmanager
def family(
    head: Callable[[Environment, list[int]], object], *, others: int = 1, **children: Program
) -> Iterator[System]:
    """A family whose first starts its children and then does as *head*, with their threads; and loops beside it."""
    with servers() as system:
        specs = [offer(system, child, name) for name, child in children.items()]

        def first(env: Environment) -> None:
            head(env, [Processes.connect(env).spawn(spec) for spec in specs])

        def start(env: Environment) -> None:
            for each in [
                offer(system, first, "first"),
                *(offer(system, loop, f"other-{at}") for at in range(others)),
            ]:
                Processes.connect(env).spawn(each)

        command(system, start)
        system.pass_time(0.5)
        yield system


def uses(system: System, seconds: float, *names: str) -> list[float]:
    """The parts of the processor that programs use in the next seconds."""
    bodies = {each.name: each.body for each in system.kernel.environments if each.alive}
    before = [bodies[name].consumed() for name in names]
    system.pass_time(seconds)
    return [(bodies[name].consumed() - was) / 1e9 / seconds for name, was in zip(names, before, strict=True)]


def divides(policy: Callable[[], Policy], *weights: int) -> Callable[[Environment, list[int]], None]:
    """A head that divides by a policy."""

    def head(env: Environment, children: list[int]) -> None:
        inside = Inside(env, policy())
        for child, weight in zip(children, weights, strict=True):
            inside.set(child, weight, priority=weight)
        inside.run()

    return head


@pytest.mark.parametrize(
    ("policy", "parts"),
    [
        (RoundRobin, [0.6, 0.3, 0.1]),
        (Stride, [0.6, 0.3, 0.1]),
        (Fair, [0.6, 0.3, 0.1]),
        (lambda: Lottery(quantum=MS, seed=1), [0.6, 0.3, 0.1]),
        (Priority, [1, 0, 0]),
    ],
)
def test_the_systems_policies_inside_a_family(policy: Callable[[], Policy], parts: list[float]) -> None:
    """The classes of the system divide a family's part as they divide a processor, and the other has its half."""
    with family(divides(policy, 6, 3, 1), a=loop, b=loop, c=loop) as system:
        found = uses(system, 4, "a", "b", "c", "other-0")

        assert found[:3] == pytest.approx([part * sum(found[:3]) for part in parts], abs=0.015)
        assert found[3] == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("outer", ["round-robin", "stride", "fair", "lottery"])
def test_in_any_policy(outer: str) -> None:
    """It holds under each policy of the system."""
    with family(divides(Stride, 3, 1), a=loop, b=loop) as system:
        command(system, lambda env: Scheduler.connect(env).use(Choice(outer)))
        a, b, other = uses(system, 4, "a", "b", "other-0")

        assert a / (a + b) == pytest.approx(0.75, abs=0.01)
        assert other == pytest.approx(0.5, abs=0.06 if outer == "lottery" else 0.005)


def test_whatever_a_head_says() -> None:
    """However often a head divides anew, and however finely, others lose nothing; what it slept away they have."""

    def restless(env: Environment, children: list[int]) -> None:
        scheduler = Scheduler.connect(env)
        while True:
            for at in range(len(children)):
                scheduler.divide([(child, 500 + 300 * at) for child in children * 20])
                env.thread.sleep(0.003)
            scheduler.divide([(children[0], 7_000_000), (children[1], 500)])
            env.thread.sleep(0.004)

    with family(restless, others=2, a=loop, b=loop, c=loop) as system:
        found = uses(system, 3, "other-0", "other-1")

        assert min(found) > 0.33
        assert max(found) < 0.345


def test_a_head_that_never_sleeps() -> None:
    """A head that computes has a quarter of its family's part, so that it can divide again; others lose nothing."""

    def head(env: Environment, children: list[int]) -> None:
        Scheduler.connect(env).divide([(children[0], 5_000)])
        burn(FOREVER)

    with family(head, a=loop, b=loop) as system:
        assert uses(system, 3, "first", "a", "b", "other-0") == pytest.approx(
            [0.125, 0.375, 0, 0.5], abs=0.005
        )


def test_the_head_dies() -> None:
    """When the head has ended, its family divides by shares again."""
    with family(divides(Priority, 2, 1), a=loop, b=loop) as system:
        before = uses(system, 1, "a", "b")
        kill(system, "first")

        assert before == pytest.approx([0.5, 0], abs=0.01)
        assert uses(system, 2, "a", "b", "other-0") == pytest.approx([0.25, 0.25, 0.5], abs=0.01)


def test_the_scheduler_dies() -> None:
    """The next scheduler server is told again."""
    with family(divides(Stride, 4, 1), a=loop, b=loop) as system:
        kill(system, "scheduler")

        assert uses(system, 2, "a", "b", "other-0") == pytest.approx([0.4, 0.1, 0.5], abs=0.01)


def test_children_that_sleep() -> None:
    """A policy hears of sleep and waking: the urgent one has the processor when it wakes, another one meanwhile."""

    def urgent(env: Environment) -> None:
        while True:
            burn(20 * MS)
            env.thread.sleep(0.1)

    with family(divides(Priority, 2, 1), others=0, a=urgent, b=loop) as system:
        a, b = uses(system, 3, "a", "b")

        assert a == pytest.approx(20 / 125, abs=0.015)
        assert a + b > 0.97


def test_a_family_that_comes_and_goes() -> None:
    """It ends with the last descendant, and plans those that come later."""

    def brief(_: Environment) -> None:
        burn(200 * MS)

    seen: list[int] = []

    class Watching(RoundRobin):
        def plan(self, members: Sequence[Member], now: int) -> Plan:
            seen.append(len(members))
            return super().plan(members, now)

    def head(env: Environment, _: list[int]) -> None:
        Inside(env, Watching()).run()
        seen.append(0)

    def parent(env: Environment) -> None:
        env.thread.sleep(0.6)
        Processes.connect(env).spawn(later[0])
        burn(100 * MS)

    later: list[ProgramSpec] = []
    with family(head, a=brief, b=parent) as system:
        later.append(offer(system, brief, "later"))
        system.pass_time(2)
        assert [count for count, _ in groupby(seen)] == [2, 1, 2, 1, 0]


@pytest.mark.parametrize(
    ("slices", "kind", "why"),
    [
        (lambda c: [(c, 499)], "BadDivision", "499 us"),
        (lambda c: [(c, 10_000_001)], "BadDivision", "10000001 us"),
        (lambda c: [(c + 1, 1_000)], "BadDivision", "no program of this family"),
        (lambda c: [(c, 1_000)] * 257, "BadArgument", "slices"),
    ],
)
def test_what_is_refused(slices: Callable[[int], list[tuple[int, int]]], kind: str, why: str) -> None:
    """What is no division is refused by name, with the row that is wrong, and changes nothing."""
    refused: list[tuple[str, str]] = []

    def head(env: Environment, children: list[int]) -> None:
        try:
            Scheduler.connect(env).divide(slices(children[0]))
        except (RemoteError, BadArgument) as error:
            refused.append((getattr(error, "kind", "BadArgument"), str(error)))
        env.thread.sleep(FOREVER / 1e9)

    with family(head, a=loop) as system:
        [(found, text)] = refused
        assert found == kind
        assert why in text
        assert uses(system, 1, "a", "other-0") == pytest.approx([0.5, 0.5], abs=0.01)


def test_others_do_not_divide() -> None:
    """A child does not divide its family's part, nor does one that is under no plan."""
    refused: list[str] = []

    def child(env: Environment) -> None:
        for does in (lambda: Scheduler.connect(env).divide([]), lambda: Scheduler.connect(env).changed(0, 0)):
            with pytest.raises(RemoteError) as caught:
                does()
            refused.append(caught.value.kind)
        with pytest.raises(ExoError, match="the first program of a family"):
            Inside(env, RoundRobin())

    with family(lambda env, _: env.thread.sleep(100), a=child) as system:
        assert refused == ["NotAllowed"] * 2
        assert uses(system, 1, "other-0") == pytest.approx([1], abs=0.01)


def test_a_policy_that_raises() -> None:
    """What a policy raises is its program's to hear; the family divides by its shares again."""

    class Broken:
        def plan(self, members: Sequence[Member], now: int) -> Plan:
            raise LookupError(f"{len(members)} members at {now > 0}")

    heard: list[str] = []

    def head(env: Environment, _: list[int]) -> None:
        with pytest.raises(LookupError) as caught:
            Inside(env, Broken()).run()
        heard.append(str(caught.value))
        env.thread.sleep(100)

    with family(head, a=loop, b=loop) as system:
        assert uses(system, 1, "a", "b") == pytest.approx([0.25, 0.25], abs=0.01)
        assert heard == ["2 members at True"]

"""Trials: the kernel's processor and the scheduler server in virtual time, and what they show of a policy."""

from collections.abc import Callable, Sequence

import pytest

from kernel.processor import Processor
from libexo.sched import Member, Plan, Policy
from libexo.workload import MS, USUAL, Described
from servers.scheduler.policies import POLICIES, Edf, RateMonotonic
from servers.scheduler.trial.bench import Leaping, Trial
from servers.scheduler.trial.machine import Happening, Ran
from tests.servers.scheduler.ideal import UNIT, Ideal, listed, periodic

GRAIN = UNIT // 10
"""Less than that is what the kernel sees late, where a unit is a second."""
SEEDED = {"lottery": {"seed": 1}}


def made(name: str) -> Policy:
    """Return a policy that draws the same each time."""
    return POLICIES[name](**SEEDED.get(name, {}))


def happened(policy: Policy, programs: Sequence[Described], seed: int, seconds: float) -> list[Happening]:
    """Return all that happens in a trial."""
    found: list[Happening] = []
    Trial(policy, programs, seed, found.append).run(int(seconds * 1e9))
    return found


def merged(ran: Sequence[Ran]) -> list[tuple[int, int, str]]:
    """Return spans in units; short ones are left out, and those of one program in a row are one."""
    found: list[Ran] = []
    for each in (each for each in ran if each.end - each.begin >= GRAIN):
        if found and found[-1].name == each.name and each.begin - found[-1].end < GRAIN:
            found[-1] = found[-1]._replace(end=each.end)
        else:
            found.append(each)
    return [(round(each.begin / UNIT), round(each.end / UNIT), each.name) for each in found]


@pytest.mark.parametrize("name", POLICIES)
def test_looks_that_are_left_out_find_nothing(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that happens is the same, to the nanosecond, when the kernel looks every 2 ms, as it does."""
    leaping = happened(made(name), USUAL, seed, 5)
    monkeypatch.setattr(Leaping, "_next_look", Processor._next_look)

    assert leaping == happened(made(name), USUAL, seed, 5)
    assert len(leaping) > 1000


def test_the_same_seed(seed: int) -> None:
    """The same seed gives the same, another one something else."""
    one, same, other = (happened(made("stride"), USUAL, each, 5) for each in (seed, seed, seed + 1))

    assert one == same
    assert one != other


@pytest.mark.parametrize(
    ("policy", "programs"),
    [
        (RateMonotonic, [periodic("a", 4, 1), periodic("b", 5, 2), periodic("c", 7, 2)]),
        (RateMonotonic, [periodic("a", 5, 3), periodic("b", 7, 4)]),
        (Edf, [listed("h", {0: 4, 7: 4, 14: 4}, deadline=7), listed("s", {3: 4, 13: 3}, runtime=3, period=8)]),
    ],
    ids=["rate monotonic", "overload", "Abeni and Buttazzo"],
)  # fmt: skip
def test_the_kernel_does_what_was_planned(
    policy: Callable[[], Policy], programs: Sequence[Described]
) -> None:
    """Who has the core when is as on an ideal processor, but for what the kernel sees late."""
    ran: list[Ran] = []
    Trial(policy(), programs, ran=ran.append).run(28 * UNIT)

    assert merged(ran) == merged(Ideal(policy(), programs).run(28).ran)


def test_what_is_told() -> None:
    """A policy is told weights and parameters; one that raises is reported, with what is in force instead."""

    class Odd:
        name = "odd"

        def plan(self, members: Sequence[Member], now: int) -> Plan:
            raise ValueError(f"{[(each.weight, dict(each.parameters)) for each in members]} {now}")

    trial = Trial(Odd(), [Described("a", "loop"), Described("b", "loop", {"priority": 7}, weight=3)])
    trial.run(1000 * MS)

    assert (
        "ValueError: [(1, {}), (3, {'priority': 7})] 1000000; round-robin is in force instead"
        in trial.refused
    )
    assert trial.used["b"] / trial.used["a"] == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (Described("a", "dances"), "a: a program is one of loop, sleeps, bursts, periodic, listed, not 'dances'"),
        (Described("a", "sleeps", {"run": 5}), "a: sleeps programs have a sleep, as in sleep=20ms"),
        (Described("a", "periodic", {"period": 5}), "a: periodic programs have a runtime, as in runtime=5ms"),
        (Described("a", "listed", {"jobs": "1,2"}), "a: jobs are release:length in ms, as in 0:4 13:2, not '1,2'"),
    ],
)  # fmt: skip
def test_programs_that_are_none(program: Described, why: str) -> None:
    """A program of no kind, or without its times, is refused by name."""
    with pytest.raises(ValueError, match=why):
        Trial(made("stride"), [program])


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"priority"}))
def test_nobody_starves(name: str, seed: int) -> None:
    """Beside others that compute and that wake all the time, each has something in every two seconds.

    Fixed priorities are there to let others starve; a member that reserves, or has a period, is there twice.
    """
    programs = [
        Described("timed", "periodic", {"period": 40 * MS, "runtime": 12 * MS, "work": 8 * MS}),
        *(Described(f"loop-{at}", "loop") for at in range(3)),
        *(Described(f"awake-{at}", "bursts", {"run": 2 * MS, "sleep": 10 * MS}) for at in range(3)),
    ]
    trial = Trial(made(name), programs, seed)
    for _ in range(5):
        before = trial.used
        trial.run(2000 * MS)
        assert all(trial.used[each] > before[each] for each in before), trial.used


@pytest.mark.parametrize("wakes", [None, (1, 37), (3, 47), (2, 13)])
def test_stride_at_the_worst_moment(wakes: tuple[int, int] | None) -> None:
    """No loop is a quantum from its part at any ms, whenever another program wakes: what is left counts."""
    parts, quantum = (3, 2, 1), 10 * MS
    programs = [Described(f"loop{part}", "loop", {}, part) for part in parts]
    if wakes is not None:
        programs.append(Described("wakes", "sleeps", {"run": wakes[0] * MS, "sleep": wakes[1] * MS}))
    trial = Trial(POLICIES["stride"](), programs)
    trial.run(500 * MS)
    loops = trial.core.bodies[: len(parts)]
    begun = [each.consumed() for each in loops]
    off: list[tuple[float, ...]] = []
    for _ in range(3000):
        trial.run(MS)
        had = [each.consumed() - before for each, before in zip(loops, begun, strict=True)]
        off.append(tuple(each - sum(had) * part / 6 for each, part in zip(had, parts, strict=True)))

    swings = [(max(each) - min(each)) / 2 / quantum for each in zip(*off, strict=True)]
    assert max(swings) < (0.55 if wakes is None else 0.8)

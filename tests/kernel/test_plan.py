"""Plans: whose slice is next in the walk, as members fall asleep, wake, and get other slices."""

from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from kernel.plan import Plan

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.member import Member

LENGTH = 10_000


def members(asleep: dict[str, bool]) -> "dict[Environment, Member]":
    """Return members by environment, which are their names here."""
    found = {name: SimpleNamespace(asleep=sleeps) for name, sleeps in asleep.items()}
    return cast("dict[Environment, Member]", found)


def plan(names: str, awake: str, begun: int = 0) -> Plan:
    """Return a plan with a slice for each letter of *names*, of whom those in *awake* are."""
    made = Plan()
    slices = [(cast("Environment", name), LENGTH) for name in names]
    made.replace(slices, begun, members({name: name not in awake for name in names}))
    return made


def walked(of: Plan, steps: int) -> str:
    """Return whose slices the next ones are."""
    found = [of.next() for _ in range(steps)]
    return "".join(str(each[0][0]) for each in found if each is not None)


def test_round_and_round() -> None:
    """Each slice of one that is awake comes in its order, as often as it is there, from where the plan begins."""
    assert walked(plan("abcab", "abc"), 7) == "abcabab"
    assert walked(plan("abcab", "ac"), 4) == "acaa"
    assert walked(plan("abc", "abc", begun=2), 3) == "cab"
    assert walked(plan("abc", "abc", begun=3), 3) == "abc"


def test_all_asleep() -> None:
    """With no slice of one that is awake there is no next one, and the place in the round stays."""
    asleep, empty = plan("abc", "", begun=1), Plan()

    assert asleep.next() is empty.next() is None
    assert asleep.begun == 1


def test_fewer_slices_than_begun() -> None:
    """A plan that has become shorter than the place in its round begins again."""
    assert walked(plan("ab", "ab", begun=7), 2) == "ab"


def test_as_the_slices_one_by_one(seed: int) -> None:
    """Whoever sleeps and wakes, next is the slice that a search one by one finds, with as many skipped."""
    random = Random(seed)
    for _ in range(50):
        asleep = {name: random.random() < 0.5 for name in "abcdefgh"}
        slices = [
            (cast("Environment", random.choice("abcdefgh")), at + 1) for at in range(random.randint(1, 256))
        ]
        at = random.randint(0, len(slices))
        made = Plan()
        made.replace(slices, at, members(asleep))
        for _ in range(100):
            name = random.choice("abcdefgh")
            asleep[name] = not asleep[name]
            made.mark(cast("Environment", name), awake=not asleep[name])
            order = [(at + step) % len(slices) for step in range(len(slices))]
            skipped = next(
                (step for step, place in enumerate(order) if not asleep[str(slices[place][0])]), None
            )
            if skipped is None:
                assert made.next() is None
                continue
            assert made.next() == (slices[order[skipped]], skipped)
            at = order[skipped] + 1

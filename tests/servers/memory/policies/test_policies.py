"""The replacement policies: which page each lets go, on traces where every reference is seen."""

from collections.abc import Callable
from itertools import islice, zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.memory.policies import POLICIES, Handover, Policy
from servers.memory.policies.clock import MOST_PASSED
from tests.servers.memory.policies.traces import belady, misses, sampled_misses, traces

ALL = pytest.mark.parametrize("kind", POLICIES.values(), ids=list(POLICIES))


def filled(kind: type[Policy], frames: int = 4, pages: str = "") -> Policy:
    """Have a policy with the pages 0 to *frames*, then use *pages*."""
    policy = kind(frames)
    for page in range(frames):
        policy.inserted(page)
    for used in pages:
        policy.referenced(int(used))
    return policy


def gone(policy: Policy, count: int) -> list[int]:
    """Take *count* pages, one for each new one."""
    taken = []
    for new in range(100, 100 + count):
        victim = next(policy.victims())
        policy.removed(victim)
        policy.inserted(new)
        taken.append(victim)
    return taken


@pytest.mark.parametrize(
    ("name", "order"), [("fifo", [0, 1, 2, 3, 100]), ("lru", [1, 3, 0, 2, 100]), ("clock", [1, 3, 0, 100, 2])]
)
def test_the_order_of_going(name: str, order: list[int]) -> None:
    """Of four pages of which 0 and 2 are used, FIFO takes the oldest; LRU and CLOCK first those not used."""
    assert gone(filled(POLICIES[name], 4, "02"), 5) == order


def test_clock_gives_one_chance() -> None:
    """When all were used, CLOCK goes round once and takes the first: it stays no longer than the others."""
    policy = filled(POLICIES["clock"], 4, "0123")

    assert gone(policy, 1) == [0]
    policy.referenced(2)
    assert gone(policy, 3) == [1, 3, 100]


def test_two_queues_keep_what_comes_back() -> None:
    """A page that falls out of the first queue and comes back outlives a scan; one used twice at once does not."""
    policy = filled(POLICIES["2q"], 8, "3333")
    assert gone(policy, 2) == [0, 1]
    victim = next(policy.victims())
    policy.removed(victim)
    policy.inserted(0)

    scan = gone(policy, 20)
    assert victim == 2
    assert 0 not in scan
    assert scan[:5] == [3, 4, 5, 6, 7]


@ALL
def test_a_page_that_must_stay(kind: type[Policy]) -> None:
    """Victims come until each page was named: who may not take the first takes another, and all are known."""
    policy = filled(kind, 5, "13")

    assert set(policy.victims()) == {0, 1, 2, 3, 4}
    second = next(islice(policy.victims(), 1, None))
    policy.removed(second)
    assert set(policy.victims()) == {0, 1, 2, 3, 4} - {second}


@ALL
@pytest.mark.parametrize("frames", [1, 2, 3, 10, 33])
def test_no_policy_beats_belady(kind: type[Policy], frames: int, seed: int) -> None:
    """Each misses at least as often as the policy that knows the future, and at most at every reference."""
    for name, trace in traces(seed).items():
        found = misses(kind(frames), trace)

        assert belady(trace, frames) <= found <= len(trace), name


def test_what_is_worth_its_price(seed: int) -> None:
    """LRU and 2Q save misses where pages are used often; in a loop a bit too large LRU saves none."""
    made = traces(seed)
    often = {name: misses(kind(20), made["often"]) for name, kind in POLICIES.items()}
    loop = {name: misses(kind(39), made["loop"]) for name, kind in POLICIES.items()}

    assert max(often["lru"], often["2q"]) < often["fifo"]
    assert loop["lru"] == loop["fifo"] == len(made["loop"])
    assert max(loop["2q"], loop["random"]) < len(made["loop"]) / 2


def test_the_excess_of_sampled_lru(seed: int, report: Callable[[str], None]) -> None:
    """Where uses are seen once in a while, LRU misses more than where all are: never less than Belady."""
    for name, trace in traces(seed).items():
        exact, best = misses(POLICIES["lru"](20), trace), belady(trace, 20)
        found = {each: sampled_misses(POLICIES["lru"](20), trace, each) for each in (10, 20, 80)}
        report(f"LRU of 20 frames, {name}: exact {exact}, Belady {best}, sampled every 10, 20, 80: {found}")

        assert all(best <= each <= len(trace) for each in found.values())


PAIRS = [(before, after) for before in POLICIES for after in POLICIES]


@given(st.sampled_from(PAIRS), st.lists(st.integers(0, 12)), st.integers(1, 6), st.lists(st.integers(1, 3)))
@settings(deadline=None, max_examples=400)
def test_replaced_while_it_runs(
    pair: tuple[str, str], trace: list[int], frames: int, steps: list[int]
) -> None:
    """A successor takes over the same pages, some at a time, while they come, go and are used: none is lost."""
    policy: Policy = POLICIES[pair[0]](frames)
    half = len(trace) // 2
    misses(policy, trace[:half])
    there = set(policy.victims())
    policy = handover = Handover(policy, POLICIES[pair[1]](frames))
    done = False

    for page, most in zip_longest(trace[half:], steps):
        if page in there:
            policy.referenced(page)
        elif page is not None:
            while len(there) >= frames:
                victim = next(policy.victims())
                policy.removed(victim)
                there.remove(victim)
            policy.inserted(page)
            there.add(page)
        if most is not None and not done:
            done = handover.step(most)
            policy = handover.after if done else handover
        assert set(policy.victims()) == there
        assert all((page in policy) == (page in there) for page in range(13))


@pytest.mark.parametrize(("before", "after"), [pair for pair in PAIRS if pair[0] != "random"])
def test_the_order_that_is_handed_over(before: str, after: str) -> None:
    """However many pages each step takes, it is as if all were taken at once; what CLOCK was to spare it spares."""

    def successor(most: int) -> list[int]:
        handover = Handover(filled(POLICIES[before], 12, "257"), POLICIES[after](16))
        handover.inserted(50)
        while not handover.step(most):
            pass
        return gone(handover.after, 13)

    assert successor(1) == successor(5) == successor(100)
    if after in ("fifo", "lru"):
        assert successor(5)[:3] == ([0, 1, 3] if before == "lru" else [0, 1, 2])
    if (before, after) == ("clock", "clock"):
        assert successor(5)[:3] == [0, 1, 3]


class Counted(dict[str, int]):
    """How often a policy is told of pages."""

    def watch(self, policy: Policy) -> Policy:
        def told(page: int) -> None:
            self["told"] = self.get("told", 0) + 1
            inserted(page)

        inserted, policy.inserted = policy.inserted, told  # type: ignore[method-assign]
        return policy


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_one_step_takes(before: str, after: str) -> None:
    """A step takes over as many pages as it is told, of 20,000 as of 200, used or not; so few steps are enough."""
    for pages in (200, 20_000):
        policy = filled(POLICIES[before], pages)
        for page in range(pages):
            policy.referenced(page)
        counted = Counted()
        handover = Handover(policy, counted.watch(POLICIES[after](pages)))

        steps = 1
        while not handover.step(100):
            assert counted["told"] == 100 * steps
            steps += 1
        assert (steps, counted["told"]) == (pages // 100, pages)


def test_a_hand_that_passes_many() -> None:
    """When all pages were used, CLOCK's hand passes as many of them as it may for one victim, and no more."""
    pages = 5 * MOST_PASSED
    policy = filled(POLICIES["clock"], pages)
    for page in range(pages):
        policy.referenced(page)

    assert gone(policy, 1) == [MOST_PASSED]
    assert set(policy.victims()) == {*range(pages), 100} - {MOST_PASSED}

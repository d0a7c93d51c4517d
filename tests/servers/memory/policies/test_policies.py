"""The replacement policies: which page each lets go, on traces where every reference is seen."""

from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.memory.policies import POLICIES, Policy, successor
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


@given(
    st.sampled_from(sorted(POLICIES)),
    st.sampled_from(sorted(POLICIES)),
    st.lists(st.integers(0, 12)),
    st.integers(1, 6),
)
@settings(deadline=None, max_examples=200)
def test_replaced_while_it_runs(name: str, heir: str, trace: list[int], frames: int) -> None:
    """A successor has the same pages, and goes on; its count of pages never exceeds the frames."""
    policy: Policy = POLICIES[name](frames)
    half = len(trace) // 2
    misses(policy, trace[:half])
    before = set(policy.victims())
    policy = successor(heir, policy, frames)

    assert set(policy.victims()) == before
    for page in trace[half:]:
        if page in before:
            policy.referenced(page)
        else:
            while len(before) >= frames:
                victim = next(policy.victims())
                policy.removed(victim)
                before.remove(victim)
            policy.inserted(page)
            before.add(page)
        assert set(policy.victims()) == before

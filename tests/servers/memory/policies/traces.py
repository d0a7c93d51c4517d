"""Traces of references, what a policy makes of them, and what the best possible one would."""

import random
from collections import defaultdict, deque
from collections.abc import Sequence

from servers.memory.policies import Policy


def _bring(policy: Policy, there: set[int], page: int) -> None:
    """Have *page* be there; if all frames are taken, in the place of another."""
    if len(there) == policy.frames:
        victim = next(policy.victims())
        policy.removed(victim)
        there.remove(victim)
    policy.inserted(page)
    there.add(page)


def misses(policy: Policy, trace: Sequence[int]) -> int:
    """How many of *trace* miss, where every reference is seen."""
    there: set[int] = set()
    count = 0
    for page in trace:
        if page in there:
            policy.referenced(page)
            continue
        count += 1
        _bring(policy, there, page)
    return count


def sampled_misses(policy: Policy, trace: Sequence[int], period: int) -> int:
    """The same, where which pages were used is looked at once in *period* references."""
    there: set[int] = set()
    used: set[int] = set()
    count = 0
    for at, page in enumerate(trace):
        if at % period == 0:
            for each in sorted(used & there):
                policy.referenced(each)
            used.clear()
        used.add(page)
        if page in there:
            continue
        count += 1
        _bring(policy, there, page)
    return count


def belady(trace: Sequence[int], frames: int) -> int:
    """How many must miss: the page that is used again last goes (Belady 1966)."""
    uses: dict[int, deque[int]] = defaultdict(deque)
    for at, page in enumerate(trace):
        uses[page].append(at)
    there: set[int] = set()
    count = 0
    for page in trace:
        uses[page].popleft()
        if page in there:
            continue
        count += 1
        if len(there) == frames:
            there.remove(max(there, key=lambda each: uses[each][0] if uses[each] else len(trace)))
        there.add(page)
    return count


def traces(seed: int) -> dict[str, list[int]]:
    """Traces of programs, as far as they matter here: a few pages used often, scans, loops, moving sets."""
    draw = random.Random(seed)
    often = [min(int(draw.paretovariate(0.7)), 200) for _ in range(3000)]
    moving = [at // 60 + draw.randrange(24) for at in range(3000)]
    scanned = [page for at in range(0, 1500, 5) for page in (*often[at : at + 5], 1000 + at, 1001 + at)]
    return {
        "often": often,
        "uniform": [draw.randrange(100) for _ in range(3000)],
        "loop": list(range(40)) * 60,
        "moving": moving,
        "scanned": scanned,
    }

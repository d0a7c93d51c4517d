"""How often pages are fetched: the pager on the simulated machine, beside what its policies miss by themselves."""

import errno
from collections.abc import Callable, Sequence

import pytest

from hwmodel.errors import exhausted
from hwmodel.simulated.paging import SimulatedSpace
from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.environment import Environment
from libexo.testing import burn
from servers.memory.api import SwappedUsage
from servers.memory.pagers import server, swapped
from servers.memory.policies import POLICIES, Policy
from tests.servers.memory.pagers.swapping import Paper, swapping, used
from tests.servers.memory.policies.traces import belady, misses, traces

FRAMES, PAGES, LENGTH = 8, 64, 250
LONG = 1_000_000
"""Nanoseconds between two references: nothing that came is too young to go."""


class Watched:
    """A policy that is told of each reference to a page that is there, as a machine's hardware would."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._there: set[int] = set()
        self._inserted, self._removed = policy.inserted, policy.removed
        policy.inserted, policy.removed = self.inserted, self.removed  # type: ignore[method-assign]

    def inserted(self, page: int) -> None:
        self._there.add(page)
        self._inserted(page)

    def removed(self, page: int) -> None:
        self._there.remove(page)
        self._removed(page)

    def seen(self, page: int) -> None:
        if page in self._there:
            self.policy.referenced(page)


def swap(
    trace: Sequence[int], policy: str, *, seen: Callable[[int], object] | None, write: bool
) -> SwappedUsage:
    """Have a program touch pages as *trace* says; *seen* is told of each before."""

    def user(env: Environment) -> SwappedUsage:
        paper = Paper(env, PAGES, FRAMES, policy=policy, around=1)
        for page in trace:
            if seen is not None:
                seen(page)
            vm.touch(env, paper.view, page * FRAME_SIZE, 8, write=write)
            burn(LONG)
        return paper.pager.statistics().objects[0]

    with swapping() as system:
        usage = used(system, user)
        assert isinstance(usage, SwappedUsage)
        return usage


def shortened(seed: int) -> dict[str, list[int]]:
    """Traces of a few hundred references, to as many pages as there are."""
    return {name: [page % PAGES for page in trace[:LENGTH]] for name, trace in traces(seed).items()}


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host page nothing out, so that nothing shows which pages are read."""
    monkeypatch.setattr(
        SimulatedSpace, "age", lambda _self, _address, _size, told: told(exhausted(errno.EPERM))
    )


@pytest.mark.slow
@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("name", POLICIES)
def test_every_reference_seen(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the policy sees each reference, pages are fetched exactly as often as it misses; none beats Belady.

    Those misses are the ones libcachesim counts (tests/servers/memory/policies/test_peers.py).
    """
    watched: list[Watched] = []

    def choose(frames: int) -> Policy:
        watched.append(Watched(POLICIES[name](frames)))
        return watched[-1].policy

    monkeypatch.setattr(swapped, "POLICIES", {name: choose})
    monkeypatch.setattr(server, "POLICIES", (name,))
    for kind, trace in shortened(seed).items():
        usage = swap(trace, name, seen=lambda page: watched[-1].seen(page), write=False)  # noqa: PLW0108 - made later

        assert usage.faults == misses(POLICIES[name](FRAMES), trace), kind
        assert usage.faults >= belady(trace, FRAMES), kind


@pytest.mark.slow
def test_the_excess_of_sampling(seed: int, report: Callable[[str], None]) -> None:
    """Where the pager sees only what faults, and samples of what is used, LRU fetches more than it had to."""
    sampled = 0
    for kind, trace in shortened(seed).items():
        exact, best = misses(POLICIES["lru"](FRAMES), trace), belady(trace, FRAMES)
        read, written = (swap(trace, "lru", seen=None, write=write).faults for write in (False, True))
        report(f"swapped, LRU, {kind}: exact {exact}, Belady {best}; reads sampled {read}, writes {written}")
        sampled += read

        assert min(read, written) >= best
    assert sampled < sum(misses(POLICIES["fifo"](FRAMES), trace) for trace in shortened(seed).values())


@pytest.mark.slow
@pytest.mark.usefixtures("blind")
def test_where_loads_are_not_seen(seed: int) -> None:
    """On a host that pages nothing out, LRU is FIFO while its program only reads."""
    for kind, trace in shortened(seed).items():
        assert swap(trace, "lru", seen=None, write=False).faults == misses(POLICIES["fifo"](FRAMES), trace), (
            kind
        )

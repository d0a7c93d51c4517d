"""Placement: the better core for a caller, its server's or another, found by measuring.

    with placement.best(env, stub.ping, server=env.lookup("pinger")) as placed:
        print(placed)               # 46.1 us where it was, 9.8 us on core 1: kept on core 1
        ...                         # many calls

Two processes that sleep between messages wake each other across cores, which costs the host many times the price
of the message; on one core, the waiting one hands the processor over, as L4 does in a call. Two that stay awake are
better off on two cores. Which kind a caller and its server are depends on the host and on their work between
calls, so nothing is assumed here.

Only the caller is moved. A server that is not kept on a core may run anywhere, and the host moves it:
to an idle core while it spins, to the caller's when it is woken from there. Then the measurement holds as long as
the host goes on doing so. To be sure, keep both on one core: the kernel does so with two programs under the plan of
one processor. A program that the kernel confines cannot move itself at all.
"""

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Self

from libexo.errors import ExoError

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.host.base import Host

ROUNDS = 200
"""Calls that are measured in each place."""
TURNS = 4
"""Turns of each place, so that other work of the host meets all of them."""
WARM = 20
"""Calls before those that count, each time the caller has moved."""
MOST = 8
"""Cores to try, if the server's is unknown."""
HERE = -1
"""In place of a core: anywhere the caller was, and may go."""


class Placement:
    """The measurement and the choice. The caller stays there until `close`, or the end of the `with`."""

    def __init__(self, host: "Host", before: frozenset[int], medians: Mapping[int, float], why: str) -> None:
        """Choose the best of *medians*; *why*: there was nothing to choose."""
        self.medians = medians
        """The median time of a call in nanoseconds: HERE, and by core. Empty: nothing was measured."""
        self.core = min(medians, key=lambda core: medians[core], default=HERE)
        """The core the caller is kept on; HERE: it may run where it could before."""
        self.why = why
        """The reason why nothing was measured, or empty."""
        self._host = host
        self._before = before

    def __str__(self) -> str:
        """Show the measurement and the choice."""
        if not self.medians:
            return f"left where it was: {self.why}"
        times = [f"{time / 1000:.1f} us {_show(core)}" for core, time in self.medians.items()]
        chosen = "left where it was" if self.core == HERE else f"kept {_show(self.core)}"
        return f"{', '.join(times)}: {chosen}"

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let the caller run again wherever it could before. Twice is harmless."""
        if self.core != HERE:
            self._host.keep_on(self._before)
            self.core = HERE


def best(
    environment: "Environment", call: Callable[[], object], *, server: int = 0, rounds: int = ROUNDS
) -> Placement:
    """Measure *call* where the caller is and on the core of thread *server*; keep the caller where it is faster.

    If the server's core is not known, and without a server, each of the caller's cores is tried, MOST at most.
    Raises the errors of *call*, ValueError for no rounds; then the caller is where it was.
    """
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: measuring takes one at least")
    host = environment.host
    before = host.cores()
    why = _nothing_to_choose(environment, before)
    if why:
        return Placement(host, before, {}, why)
    for _ in range(WARM):
        call()
    core = _core_of(environment, server)
    cores = [core] if core in before else sorted(before)[:MOST]
    try:
        placed = Placement(host, before, _measure(host, call, [HERE, *cores], before, rounds), "")
        host.keep_on(_places(placed.core, before))
    except BaseException:
        host.keep_on(before)
        raise
    return placed


def _nothing_to_choose(environment: "Environment", before: frozenset[int]) -> str:
    """Return why the caller cannot choose its core; empty: it can."""
    row = environment.kip.environment(environment.number)
    if row is not None and row.cpu >= 0:
        return f"under the plan of processor {row.cpu}, where the kernel keeps it"
    if len(before) == 1:
        return f"the host lets it run {_show(*before)} only"
    try:
        environment.host.keep_on(before)
    except ExoError as refused:
        return str(refused)
    return ""


def _core_of(environment: "Environment", server: int) -> int:
    """Return the core *server* ran on last, or HERE when that is not known."""
    row = environment.kip.environment_of(server) if server else None
    return environment.host.processor_of(row.pid) if row is not None else HERE


def _measure(
    host: "Host", call: Callable[[], object], places: Iterable[int], before: frozenset[int], rounds: int
) -> dict[int, float]:
    """Return the median time of *call* in each of *places*, in ns."""
    times: dict[int, list[int]] = {place: [] for place in places}
    turn = -(-rounds // TURNS)
    while min(map(len, times.values())) < rounds:
        for place, taken in times.items():
            host.keep_on(_places(place, before))
            for _ in range(WARM):
                call()
            for _ in range(min(turn, rounds - len(taken))):
                start = host.now()
                call()
                taken.append(host.now() - start)
    return {place: median(taken) for place, taken in times.items()}


def _places(core: int, before: frozenset[int]) -> frozenset[int]:
    return before if core == HERE else frozenset((core,))


def _show(core: int) -> str:
    return "where it was" if core == HERE else f"on core {core}"

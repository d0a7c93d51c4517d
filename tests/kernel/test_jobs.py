"""Jobs: what takes more than a turn goes on in later ones, each in its turn, and to its end."""

from collections.abc import Iterator

import pytest

from hwmodel.machine import Deed, Exhausted
from hwmodel.simulated.machine import SimulatedMachine
from kernel.jobs import QUANTUM, Jobs, Latch, Steps
from kernel.kernel import Kernel
from kernel.supervisor import Supervisor


@pytest.fixture
def machine() -> Iterator[SimulatedMachine]:
    made = SimulatedMachine()
    yield made
    made.close()


def turn(machine: SimulatedMachine) -> bool:
    """Let one thing happen; say whether there was any."""
    return machine._step(Supervisor(Kernel(SimulatedMachine(), print)))


def count(units: int, log: list[str], name: str = "") -> Steps[None]:
    """Work for that many units."""
    for unit in range(units):
        log.append(f"{name}{unit}")
        yield None


def test_little_is_done_at_once(machine: SimulatedMachine) -> None:
    """A job that ends within its quantum takes no later turn, and `begin` returns True."""
    jobs, log, ended = Jobs(machine, int), list[str](), list[bool]()

    assert jobs.begin(count(QUANTUM - 1, log), lambda: ended.append(True))
    assert (len(log), ended, jobs.under_way, turn(machine)) == (QUANTUM - 1, [True], 0, False)


def test_much_goes_in_quanta(machine: SimulatedMachine) -> None:
    """No turn does more than a quantum; at the end it is told once."""
    jobs, log, ended = Jobs(machine, int), list[str](), list[bool]()
    done = jobs.begin(count(3 * QUANTUM, log), lambda: ended.append(True))
    seen = [len(log)]
    while turn(machine):
        seen.append(len(log))

    assert (done, seen) == (False, [QUANTUM, 2 * QUANTUM, 3 * QUANTUM, 3 * QUANTUM])
    assert ended == [True]


def test_jobs_go_on_in_a_circle(machine: SimulatedMachine) -> None:
    """No job waits for more than one quantum of each other."""
    jobs, log = Jobs(machine, int), list[str]()
    for name in "abc":
        jobs.begin(count(3 * QUANTUM, log, name))
    while turn(machine):
        pass

    assert [entry[0] for entry in log[::QUANTUM]] == list("abcabcabc")


def test_causes_are_noted(machine: SimulatedMachine) -> None:
    """Before each turn of a job it is noted what it is for."""
    causes = list[int]()
    jobs = Jobs(machine, causes.append)
    jobs.begin(count(2 * QUANTUM, []), cause=7)
    jobs.add(count(1, []))
    while turn(machine):
        pass

    assert causes == [7, 0, 7]


def test_a_latch_keeps_jobs_waiting(machine: SimulatedMachine) -> None:
    """A waiting job costs nothing; once the latch is open all go on, and later comers do not wait."""
    jobs, latch, log = Jobs(machine, int), Latch(), list[str]()

    def wait(name: str) -> Steps[None]:
        yield latch
        log.append(name)

    jobs.begin(wait("a"))
    jobs.begin(wait("b"))
    assert (turn(machine), log) == (False, [])
    latch.open()
    jobs.begin(wait("late"))
    while turn(machine):
        pass

    assert (log, jobs.under_way) == (["late", "a", "b"], 0)


def test_deeds_are_done_outside(machine: SimulatedMachine) -> None:
    """A job goes on when its deed is done; what the host refuses is raised where it was asked for."""
    jobs, log = Jobs(machine, int), list[str]()

    def deed(*, fails: bool) -> Deed:
        log.append("deed")
        yield
        if fails:
            raise Exhausted("no more")

    def work() -> Steps[None]:
        yield deed(fails=False)
        log.append("done")
        try:
            yield deed(fails=True)
        except Exhausted as exhausted:
            log.append(str(exhausted))

    assert not jobs.begin(work())
    assert log == []
    while turn(machine):
        pass

    assert log == ["deed", "done", "deed", "no more"]

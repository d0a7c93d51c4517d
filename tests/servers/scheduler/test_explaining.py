"""Why a program did not run, asked of the scheduler server, about programs that wait by libexo."""

from collections.abc import Callable

import pytest

from kernel.abi.events import Event
from kernel.abi.limits import TRACE_RECORDS
from libexo import ipc, vm
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.predicates import after, arm, wait, word
from libexo.testing import System, burn
from libexo.testing.system import Function
from libexo.trace import Explanation
from servers.memory.api import Memory
from servers.scheduler.api import Scheduler
from tests.servers.rig import ask, command, servers

FOREVER = 10**15
MS = 1_000_000


def asked(system: System, name: str, seconds: float = 0.3) -> Explanation:
    """What the server answers."""
    answer = ask(
        system,
        lambda env: Scheduler.connect(env).why(name, round(seconds * 1e6)),
        f"asks-{len(system.tasks)}",
    )
    assert isinstance(answer, Explanation)
    return answer


def told(found: Explanation) -> dict[str, dict[str, int]]:
    """By cause, but for splinters, of whom it is said; times in ms."""
    return {
        each.cause: {who: round(ns / MS) for who, ns in each.who.items() if ns > 5 * MS}
        for each in found.causes
        if each.ns > 5 * MS
    }


def planted(system: System, program: Function, seconds: float = 0.6) -> None:
    """Start it beside one that computes, and let both live for a while."""
    system.spawn(lambda _: burn(FOREVER), "burner", cpu=0)
    system.spawn(program, "subject", cpu=0)
    system.pass_time(seconds)


def waits_for_a_word(env: Environment) -> None:
    """Wait for what nobody writes."""
    view = vm.map(env, Memory.connect(env).allocate(pages=1))
    wait(env, word(view, 3) > 5)


def waits_for_anything(env: Environment) -> None:
    """Wait for messages of anybody, one of which is of a predicate."""
    while True:
        arm(env, after(0.1))
        env.thread.wait()


def calls(silent: int) -> Function:
    """Call one that never answers."""
    return lambda env: env.thread.call(silent, ipc.Message(label=64))


def sends(silent: int) -> Function:
    """Send to one that takes nothing."""
    return lambda env: env.thread.send(silent, ipc.Message(label=64))


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        (lambda _: waits_for_a_word, {"predicate": {"none so far": 300}}),
        (calls, {"partner": {"silent": 300}}),
        (sends, {"partner": {"silent": 300}}),
        (lambda _: lambda env: env.thread.wait(), {"partner": {"any sender": 300}}),
        (lambda _: lambda env: env.thread.sleep(1000), {"slept": {}}),
    ],
    ids=["word", "call", "send", "any", "sleep"],
)
def test_what_it_sleeps_for(program: Callable[[int], Function], cause: dict[str, dict[str, int]]) -> None:
    """A program that waits by libexo is told for whom, or what."""
    with servers() as system:
        silent = system.spawn(lambda env: env.thread.sleep(1000), "silent")
        planted(system, program(silent.thread))
        found = asked(system, "subject")

        assert told(found) == cause
        assert found.state == "asleep"


def test_a_message_of_a_predicate() -> None:
    """Who waits for any message is told that the predicate's came, and which clause is true."""
    with servers() as system:
        planted(system, waits_for_anything)
        found = told(asked(system, "subject"))

        assert found["predicate"]["clause 0"] > 150
        assert "slept" not in found


def test_two_loops_beside_a_reservation() -> None:
    """Two loops have less than the plan promises, by what was reserved for a third; the server says whose it is."""
    with servers() as system:
        for name in ("one", "two", "third"):
            system.spawn(lambda _: burn(FOREVER), name, cpu=0)
        system.pass_time(0.1)
        third = next(task for task in system.tasks if task.name == "third").thread
        command(system, lambda env: Scheduler.connect(env).reserve(third, 10_000, 20_000))
        system.pass_time(0.6)
        found = asked(system, "one")

        assert found.planned == pytest.approx(1 / 3, abs=0.01)
        assert found.got == pytest.approx(1 / 6, abs=0.02)
        assert told(found)["reservation"] == {"third": pytest.approx(150, abs=10)}


def test_who_is_not_known() -> None:
    """A name that nobody has is refused, and the server goes on; one that ended is known."""
    with servers() as system:
        planted(system, lambda env: env.thread.sleep(0.1))
        with pytest.raises(RemoteError, match="no environment is called 'nobody'"):
            ask(system, lambda env: Scheduler.connect(env).why("nobody", 1000))

        assert asked(system, "subject", 1).ended == "it ended with status 0"
        assert asked(system, "scheduler").processor is None


def fill(system: System) -> None:
    """Have a subject that sleeps, and a trace that is full."""
    planted(system, lambda env: env.thread.sleep(1000))
    for _ in range(TRACE_RECORDS):
        system.kernel.exposure.trace.record(Event.INTERRUPT, 0)


def test_plans_do_not_wait_for_it() -> None:
    """While questions about a full trace are answered, one after another, a newcomer is planned at once."""
    with servers() as system:
        fill(system)
        answers: list[Explanation] = []

        def asks(env: Environment) -> None:
            answers.append(Scheduler.connect(env).why("subject", 10_000_000))

        both = [system.spawn(asks, f"asker-{n}") for n in range(2)]
        system.pass_time(0.05)
        newcomer = system.spawn(lambda _: burn(FOREVER), "newcomer", cpu=0)
        system.pass_time(0.1)
        assert (newcomer.body.consumed() > 30 * MS, answers) == (True, [])
        for each in both:
            system.run(each)

        assert [each.name for each in answers] == ["subject"] * 2


def test_one_question_at_a_time() -> None:
    """A second question of the same environment is refused until the first is answered."""
    with servers() as system:
        fill(system)
        answers: list[str] = []

        def program(env: Environment) -> None:
            def asks(_: int = 0) -> None:
                try:
                    answers.append(Scheduler.connect(env).why("subject", 1000).name)
                except RemoteError as error:
                    answers.append(error.kind)

            env.start_thread(asks)
            asks()
            env.thread.sleep(10)

        ask(system, program)
        assert sorted(answers) == ["StillAsked", "subject"]

"""Policies put in force while programs run, on the simulated machine; and what is said to them."""

from collections.abc import Callable

import pytest

from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.testing import System, Task, burn
from servers.scheduler.api import Choice, Scheduler
from servers.scheduler.policies import POLICIES
from tests.servers.rig import ask, command, kill, servers
from tests.servers.scheduler.test_server import burners, shares

MINE = '''
from libexo.sched import Plan

class Eldest:
    """The first to come has it all."""
    def __init__(self, quantum=10_000_000):
        self.us, self.starves = quantum // 1000, True
    def plan(self, members, now):
        for each in members:
            if "skip" in each.parameters:
                members.remove(each)
            if each.parameters.get("nice") == "no" or each.declared.get("nice") == "no":
                raise ValueError(f"{each.name} is not nice")
        return Plan([(each.thread, self.us) for each in members[:1]])

class NoPlan:
    pass

class Raises(Eldest):
    def plan(self, members, now):
        return members[7]

class Empty(Eldest):
    def plan(self, members, now):
        return Plan([])
'''


def use(system: System, *choice: object) -> object:
    """Put a policy in force; return why that is refused."""

    def orders(env: Environment) -> str:
        scheduler = Scheduler.connect(env)
        try:
            scheduler.use(Choice(*choice))  # type: ignore[arg-type]
        except RemoteError as error:
            return f"{error.kind}: {error.text}"
        return scheduler.refused()

    return command(system, orders)


def say(system: System, task: Task, **parameters: float | str) -> object:
    """Set parameters of a program as a server; return why that is refused, or what is said of it then."""

    def orders(env: Environment) -> object:
        scheduler = Scheduler.connect(env)
        try:
            scheduler.set(task.thread, parameters)
        except RemoteError as error:
            return f"{error.kind}: {error.text}"
        return scheduler.said(task.thread)

    return command(system, orders)


def weigh(system: System, *weights: tuple[Task, int]) -> None:
    """Give programs their parts."""

    def orders(env: Environment) -> None:
        for task, weight in weights:
            Scheduler.connect(env).set_share(task.thread, weight)

    command(system, orders)


@pytest.mark.parametrize(
    ("name", "close"), [("round-robin", 0.01), ("stride", 0.01), ("fair", 0.02), ("lottery", 0.12)]
)
def test_by_weight(name: str, close: float) -> None:
    """Put in force while programs run, it divides by their weights."""
    with servers() as system:
        tasks = burners(system, 3)
        weigh(system, *zip(tasks, (3, 2, 1), strict=True))
        parameters = {"seed": 1} if name == "lottery" else {}
        assert use(system, name, parameters) == ""
        assert shares(system, tasks, 6) == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=close)


def test_strict_priorities() -> None:
    """Parameters of programs decide; the last that is not said is back among the others."""
    with servers() as system:
        tasks = burners(system, 3)
        use(system, "priority")
        assert say(system, tasks[1], priority=3) == {"priority": 3}
        assert shares(system, tasks) == pytest.approx([0, 1, 0], abs=0.01)
        assert say(system, tasks[1], priority="") == {}
        assert shares(system, tasks) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_feedback_prefers_who_sleeps() -> None:
    """Who computes for a millisecond now and then waits less than a slice of those that compute all the time."""
    with servers() as system:
        tasks = burners(system, 2)
        use(system, "feedback", {"boost": 10**12})
        waits: list[int] = []

        def light(env: Environment) -> None:
            for _ in range(50):
                env.thread.sleep(0.05)
                before = env.host.now()
                burn(1_000_000)
                waits.append(env.host.now() - before)

        system.run(system.spawn(light, "light", cpu=0))
        assert sorted(waits)[25] < 10_000_000
        assert min(shares(system, tasks)) > 0.4


def test_a_policy_of_ones_own() -> None:
    """A class in a text is in force, with its arguments, until another is; then that is."""
    with servers() as system:
        tasks = burners(system, 2)
        assert use(system, "Eldest", {"quantum": 5_000_000}, MINE, "/home/me/mine.py") == ""
        assert shares(system, tasks) == pytest.approx([1, 0], abs=0.01)

        said = command(system, lambda env: str(Scheduler.connect(env).in_force()))
        assert said == "/home/me/mine.py:Eldest quantum=5000000"
        assert use(system, "round-robin") == ""
        assert shares(system, tasks) == pytest.approx([0.5, 0.5], abs=0.01)


REFUSED = [
    (
        ("strid",),
        f"there is no policy 'strid': {', '.join(POLICIES)}, or FILE.py",
    ),
    (("stride", {"quantun": 1}), "stride quantun=1 cannot be made: TypeError: "),
    (("feedback", {"levels": 0}), "feedback levels=0 cannot be made: ValueError: levels are 1 to 8"),
    (
        ("Mine", {}, MINE, "mine.py"),
        "mine.py has no class 'Mine': it has Plan, Eldest, NoPlan, Raises, Empty",
    ),
    (("NoPlan", {}, MINE, "mine.py"), "NoPlan has no method plan(members, now): see libexo.sched"),
    (("Raises", {}, MINE, "mine.py"), "Raises.plan (mine.py:20) raised IndexError: list index out of range"),
    (("Empty", {}, MINE, "mine.py"), "Empty.plan (mine.py:24): the plan is empty, and nothing would run"),
    (("Eldest", {}, "class Eldest(:", "mine.py"), "its file is no Python: SyntaxError: "),
    (("Eldest", {}, "import nothing_at_all", "mine.py"), "its file cannot be run: ModuleNotFoundError: "),
]


@pytest.mark.parametrize(("choice", "why"), REFUSED)
def test_what_is_no_policy(choice: tuple[object, ...], why: str) -> None:
    """It is refused with its reason, and what was in force is."""
    with servers() as system:
        tasks = burners(system, 2)
        use(system, "Eldest", {}, MINE, "mine.py")
        refused = use(system, *choice)

        assert str(refused).startswith(f"PolicyRefused: {why}")
        assert shares(system, tasks) == pytest.approx([1, 0], abs=0.01)


def test_programs_choose_nothing() -> None:
    """A program chooses no policy, sets nobody's parameters, and declares its own only."""

    def client(env: Environment) -> list[str]:
        scheduler, kinds = Scheduler.connect(env), []
        wishes: list[Callable[[], None]] = [
            lambda: scheduler.use(Choice("stride")),
            lambda: scheduler.set(other.thread, {"priority": 1}),
            lambda: scheduler.set(env.lookup("memory"), {"priority": 1}),
        ]
        for wish in wishes:
            with pytest.raises(RemoteError) as caught:
                wish()
            kinds.append(caught.value.kind)
        scheduler.set(env.thread.id, {"priority": 255})
        return kinds

    with servers() as system:
        [other] = burners(system, 1)
        task = system.spawn(client, "client", cpu=0)
        use(system, "priority")
        system.run(task)
        assert task.result == ["NotAllowed"] * 3


def test_what_a_program_declares_raises_nobody() -> None:
    """Its own word is told to policies apart from an operator's: a priority it declares is none."""

    def vain(env: Environment) -> None:
        Scheduler.connect(env).set(env.thread.id, {"priority": 255})
        burn(10**15)

    with servers() as system:
        [other] = burners(system, 1)
        use(system, "priority")
        task = system.spawn(vain, "vain", cpu=0)
        system.pass_time(0.5)
        assert command(system, lambda env: Scheduler.connect(env).said(task.thread)) == {"priority": 255}
        assert shares(system, [task, other]) == pytest.approx([0.5, 0.5], abs=0.02)


def test_parameters_a_policy_refuses() -> None:
    """Nothing is set then, and the policy goes on as before."""
    with servers() as system:
        tasks = burners(system, 2)
        use(system, "Eldest", {}, MINE, "mine.py")
        refused = str(say(system, tasks[1], nice="no", period=5))
        assert refused == "PolicyRefused: Eldest.plan (mine.py:8) raised ValueError: burner-1 is not nice"
        assert say(system, tasks[1], period=7, cost=0.5) == {"period": 7, "cost": 0.5}
        assert command(system, lambda env: Scheduler.connect(env).refused()) == ""


def test_parameters_are_bounded() -> None:
    """One program's, and all together."""
    with servers() as system:
        [task] = burners(system, 1)
        refused = str(say(system, task, note="x" * 300))
        assert refused.startswith("PolicyRefused: parameters of one program take 256 bytes at most, not ")
        assert say(system, task, note="x" * 200) == {"note": "x" * 200}


def test_it_survives_the_server() -> None:
    """The successor of a killed server has the policy, its text too, and what was said."""
    with servers() as system:
        tasks = burners(system, 3)
        use(system, "Eldest", {}, MINE, "mine.py")
        say(system, tasks[0], skip=1)
        kill(system, "scheduler")

        assert shares(system, tasks) == pytest.approx([0, 1, 0], abs=0.01)
        assert command(system, lambda env: Scheduler.connect(env).said(tasks[0].thread)) == {"skip": 1}


def test_all_that_have_names() -> None:
    """They are listed with what they say of themselves."""
    with servers() as system:
        known = ask(system, lambda env: Scheduler.connect(env).policies())
        assert isinstance(known, dict)
        assert list(known) == list(POLICIES)
        assert all(says.endswith(".") or says for says in known.values())


@pytest.mark.parametrize("name", ["round-robin", "stride", "fair", "feedback", "lottery"])
def test_who_wakes_ten_thousand_times_a_second(name: str) -> None:
    """Three such programs take nothing of its part from one that computes: what they hold is counted to them."""

    def twitch(env: Environment) -> None:
        while True:
            env.thread.sleep(0.0001)
            burn(10_000)

    with servers() as system:
        [task] = burners(system, 1)
        for at in range(3):
            system.spawn(twitch, f"twitch-{at}", cpu=0)
        use(system, name, {"seed": 1} if name == "lottery" else {})
        [part] = shares(system, [task], 4)

        assert part > 0.2

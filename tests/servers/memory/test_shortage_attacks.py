"""Programs that do what they can against being pressed, and against others that are: work is counted, not time."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
import pytest

from libexo import pressure
from libexo.environment import Environment
from libexo.errors import ExoError, RemoteError, TrapRefused
from libexo.extent import Extent
from libexo.ipc.message import Message
from libexo.testing import System
from servers.memory import shortage
from servers.memory.api import Memory, Pressed
from servers.memory.pressing import Pressing
from servers.memory.shortage import MOST_OF_FAMILY, Shortage
from tests.kernel.invariants import violations
from tests.servers.memory.presses import extents, frames_of, idle, press, started
from tests.servers.rig import ask, servers


def hog(env: Environment) -> None:
    """Have half of RAM, in small pieces, and give nothing back."""
    extents(env, *[4] * 32)
    idle(env)


def has(pages: int, env: Environment) -> None:
    extents(env, *[1] * pages)
    idle(env)


def sound(system: System) -> bool:
    """Say whether all frames are somebody's or free, and the kernel's records agree."""
    have = sum(each.frames for each in system.kernel.environments)
    return not violations(system.kernel, system.machine) and system.kernel.frames.free + have == 256


class Work:
    """Counts how often the server does what takes it long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: Counter[str] = Counter()
        for owner, name in (
            (Pressing, "table"),
            (Pressing, "begin"),
            (Shortage, "_is_answered"),
            (Shortage, "_serve"),
        ):
            monkeypatch.setattr(owner, name, self._counting(owner, name))

    def _counting(self, owner: type, name: str) -> Callable[..., object]:
        original = getattr(owner, name)

        def count(*arguments: object, **named: object) -> object:
            self.done[name] += 1
            return original(*arguments, **named)

        return count


RUBBISH: dict[str, Callable[[Environment, pressure.Rules, list[Extent], list[Extent]], object]] = {
    "the same again": lambda _, rules, own, __: rules.set(
        first=[own[0]] * 40, spared=[own[0], *[own[1]] * 40]
    ),
    "of others": lambda _, rules, own, theirs: rules.set(
        first=[*theirs, *((each, own[0]) for each in theirs)], spared=theirs
    ),
    "all of RAM": lambda _, rules, __, ___: rules.set(
        first=[Extent(0, 1 << 40, 0), Extent(0, 256, 0)], spared=[Extent(0, (1 << 64) - 1, 0)]
    ),
    "its page": lambda _, rules, own, __: rules.set(
        first=[rules.page, (own[0], rules.page)], spared=[rules.page]
    ),
}


@pytest.mark.parametrize("which", RUBBISH)
def test_rubbish_for_rules(which: str) -> None:
    """Whatever its rules name, a program loses what is missing of its own, and others lose nothing."""

    def client(env: Environment) -> None:
        own = extents(env, *[2] * 10)
        with suppress(ExoError):  # what is not its own is not shown
            RUBBISH[which](env, pressure.Rules(env), own, theirs)
        idle(env)

    def other(env: Environment) -> None:
        theirs.extend(extents(env, *[2] * 10))
        idle(env)

    theirs: list[Extent] = []
    with servers() as system:
        started(system, other, "other")
        started(system, client)
        had = frames_of(system, "client")
        found = press(system, "client", 11)

        assert (found.frames <= 11, found.taken) == (True, had - found.frames)
        assert found.taken <= had - 11 + 1
        assert (frames_of(system, "other"), sound(system)) == (20, True)


def test_what_is_given_back_twice_counts_once() -> None:
    """A handler that gives the same back again and again, and says nothing of the rest, loses what is missing."""

    def client(env: Environment) -> None:
        some = extents(env, *[2] * 10)

        def give_back(_: int, __: float) -> None:
            for _ in range(10):
                with suppress(TrapRefused):
                    env.sys.drop(some[0].handle)

        pressure.on_pressure(env, give_back)
        idle(env)

    with servers() as system:
        started(system, client)

        assert press(system, "client", 10) == Pressed(10, 2, 8)
        assert sound(system)


def test_asking_oneself_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program cannot press, nor have the server look at all of RAM, however often it asks."""

    def client(env: Environment) -> set[str]:
        memory, said = Memory.connect(env), set[str]()
        for _ in range(50):
            for action in (
                lambda: memory.press(env.thread.id, 0, 0),
                lambda: memory.holds(env.thread.id),
                lambda: memory.set_quota(env.thread.id, 256),
            ):
                with pytest.raises(RemoteError) as refused:
                    action()
                said.add(refused.value.kind)
            memory.pressure()
        return said

    work = Work(monkeypatch)
    with servers() as system:
        assert ask(system, client) == {"NotAllowed"}
        assert (work.done["table"], work.done["begin"]) == (0, 0)


def test_allocating_in_a_loop_while_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program above its share takes nothing of what is given back for others, and its refusals cost little."""

    def greedy(env: Environment) -> int:
        memory, got = Memory.connect(env), 0
        extents(env, *[1] * 80)
        while not done:
            for action in (lambda: memory.allocate(1), lambda: memory.claim(1)):
                refused.append(1)
                with suppress(ExoError):
                    action()
                    got += 1
            env.thread.sleep(0.000_5)
        return got

    def client(env: Environment) -> None:
        memory = Memory.connect(env)
        for _ in range(3):
            memory.claim(50)
            memory.promise(0)
        done.append(True)

    done, refused = list[bool](), list[int]()
    work = Work(monkeypatch)
    with servers() as system:
        started(system, hog, "hog")
        task = system.spawn(greedy, "greedy")
        system.pass_time(0.3)
        before = system.now
        asks = system.spawn(client, "client")
        system.run(asks)
        looks = (system.now - before + 0.3) / shortage._LOOK
        system.run(task)

        assert (len(refused) > 500, asks.error) == (True, None)
        assert work.done["table"] < looks + 4 * work.done["begin"] + 10
        assert sound(system)


def test_a_stopped_program_is_pressed() -> None:
    """It loses what is above its share at the deadline; one that waits for that gets it then."""

    def client(env: Environment) -> float:
        before = env.host.now()
        Memory.connect(env).claim(60)
        return (env.host.now() - before) / 1e9

    with servers() as system:
        started(system, hog, "hog")
        started(system, partial(has, 70), "has")
        for each in system.kernel.environments:
            if each.name in ("hog", "has"):
                each.body.signal(19)
        waited = ask(system, client)

        assert isinstance(waited, float)
        assert 0.5 <= waited < 0.7
        assert (frames_of(system, "has"), sound(system)) == (70, True)


def test_many_requests_of_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one family 16 wait, and the next is refused; each look is at one of them, and others go first."""

    def flooder(env: Environment) -> None:
        Memory.connect(env).allocate(10)
        memory = Memory.connect(env, timeout=0.005, patience=0)
        for _ in range(MOST_OF_FAMILY + 4):
            try:
                memory.allocate(40)
            except ExoError as error:
                ended.append(getattr(error, "kind", type(error).__name__))
        idle(env)

    def client(env: Environment) -> float:
        before = env.host.now()
        Memory.connect(env).claim(40)
        return (env.host.now() - before) / 1e9

    ended: list[str] = []
    work = Work(monkeypatch)
    with servers() as system:
        started(system, hog, "hog")
        started(system, partial(has, 70), "has")
        started(system, flooder, "flooder")
        waited = ask(system, client, "small")
        system.pass_time(3)

        assert Counter(ended) == {"IpcTimeout": MOST_OF_FAMILY, "OutOfMemory": 4}
        assert isinstance(waited, float)
        assert waited < 0.7
        assert work.done["_is_answered"] <= 2 * work.done["_serve"]
        assert sound(system)


def test_requests_for_which_nobody_waits() -> None:
    """A request whose sender takes no answer presses nobody."""

    def client(env: Environment) -> None:
        arguments = (msgspec.msgpack.encode([60, -1]),)
        for _ in range(5):
            env.thread.send(env.lookup("memory"), Message(Memory.label, (1,), arguments))
        idle(env)

    with servers() as system:
        started(system, hog, "hog")
        started(system, partial(has, 70), "has")
        started(system, client)
        system.pass_time(3)

        assert (frames_of(system, "hog"), sound(system)) == (128, True)

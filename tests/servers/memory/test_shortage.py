"""Frames that are short: who is asked, who waits, who is refused, and what nobody loses by it."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import cast

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.kip import Head
from kernel.abi.limits import FRAME_SIZE
from libexo import l4, pressure
from libexo.environment import Environment
from libexo.errors import ExoError, IpcError, RemoteError, TrapRefused
from libexo.ipc.message import Message
from libexo.levels import Level
from servers.memory import protocol
from servers.memory.api import Memory
from servers.memory.pressing import Pressing
from servers.memory.shortage import ASK_AGAIN
from servers.memory.sigma0 import Later
from tests.servers.memory.presses import extents, frames_of, idle, kill_now, started
from tests.servers.memory.stage import ask, operate
from tests.servers.rig import servers

PIECE, MANY = 4, 32
"""Frames of an extent, and extents that one has of 256 frames: half of RAM, so two of them have nearly all."""


def hog(env: Environment) -> None:
    """Have half of RAM, in small pieces, and give nothing back."""
    extents(env, *[PIECE] * MANY)
    idle(env)


def outcome(action: Callable[..., object], *arguments: object) -> str:
    try:
        action(*arguments)
    except RemoteError as error:
        return f"{error.kind}: {error}"
    return "done"


def test_a_request_within_its_share_waits() -> None:
    """One that comes late gets its share; those above theirs lose in proportion to that, and none comes below."""

    def client(env: Environment) -> tuple[str, float]:
        before = env.host.now()
        return outcome(Memory.connect(env).claim, 60), (env.host.now() - before) / 1e9

    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 90), "two")
        free = system.kernel.frames.free
        done, waited = ask(system, client)

        assert free < 60
        assert (done, 0.5 <= waited < 1) == ("done", True)
        assert 60 <= frames_of(system, "two") < frames_of(system, "one") < MANY * PIECE


def _has(pages: int, env: Environment) -> None:
    extents(env, *[1] * pages)
    idle(env)


def test_who_gives_back_loses_nothing() -> None:
    """Programs that give back what they are asked for lose nothing, and the request has not to wait longer."""

    def polite(env: Environment) -> int:
        some = extents(env, *[1] * 128)

        def give_back(frames: int, _: float) -> None:
            told.append(frames)
            for _ in range(frames):
                env.sys.drop(some.pop().handle)

        pressure.on_pressure(env, give_back)
        with suppress(IpcError):
            env.thread.wait(timeout=3)
        return len(pressure.repossessed(env))

    def client(env: Environment) -> tuple[str, bool]:
        before = env.host.now()
        return outcome(Memory.connect(env).claim, 70), env.host.now() - before < 0.1e9

    told: list[int] = []
    with servers() as system:
        task = started(system, polite, "one")
        started(system, partial(_has, 40), "two")

        assert ask(system, client) == ("done", True)
        assert frames_of(system, "two") == 40
        assert frames_of(system, "one") == 128 - sum(told)
        system.run(task)
        assert task.result == 0


def test_above_its_share_nobody_is_pressed() -> None:
    """A program that would have more than its share is refused at once, and told so; others lose nothing."""

    def client(env: Environment) -> tuple[str, bool]:
        memory, before = Memory.connect(env), env.host.now()
        memory.allocate(50)
        return outcome(memory.allocate, 70), env.host.now() - before < 0.1e9

    with servers() as system:
        started(system, hog, "one")
        refused, at_once = ask(system, client)

        assert at_once
        assert "OutOfMemory" in refused
        assert "120 would be above the caller's share, " in refused
        assert frames_of(system, "one") == MANY * PIECE


def test_the_refusal_names_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be had, as the host takes no memory back, a request is refused after a bounded time."""

    def client(env: Environment) -> tuple[str, float]:
        before = env.host.now()
        return outcome(Memory.connect(env).allocate, 60), (env.host.now() - before) / 1e9

    monkeypatch.setattr(Pressing, "_revoke", lambda *_: {})
    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 70), "two")
        refused, waited = ask(system, client)

        assert "OutOfMemory: 60 frames asked for, " in refused
        assert "in 2.0 s others were asked for " in refused
        assert "frames, gave 0, and lost 0" in refused
        assert 2 <= waited < 2.1
        assert system.kernel.frames.free > 30


def test_a_server_does_not_wait() -> None:
    """A server is refused at once: its callers would wait for it."""

    def server(env: Environment) -> tuple[str, bool]:
        before = env.host.now()
        return outcome(Memory.connect(env).allocate, 100), env.host.now() - before < 0.1e9

    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 70), "two")
        refused, at_once = cast("tuple[str, bool]", operate(system, server))

        assert ("OutOfMemory" in refused, at_once) == (True, True)
        assert frames_of(system, "one") == MANY * PIECE


def test_a_promise_waits_if_asked_to() -> None:
    """A heap that needs memory now gets it when others have given back; what it would like ahead presses nobody."""

    def client(env: Environment) -> list[str]:
        memory = Memory.connect(env)
        found = [outcome(memory.promise, 60)]
        found.append(outcome(memory.claim, 60))
        ram = memory.ram()
        for _ in range(60):
            env.sys.carve(ram.handle, 1)
        return [each.partition(":")[0] for each in found]

    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 70), "two")

        assert ask(system, client) == ["OutOfMemory", "done"]


def test_what_is_a_luxury_presses_nobody() -> None:
    """What can be done without, as a ring, is refused at once, and others lose nothing."""

    def client(env: Environment) -> tuple[str, bool]:
        before = env.host.now()
        refused = outcome(lambda: Memory.connect(env).try_allocate(60))
        return refused.partition(":")[0], env.host.now() - before < 0.1e9

    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 70), "two")

        assert ask(system, client) == ("OutOfMemory", True)
        assert frames_of(system, "one") == MANY * PIECE


def test_sigma0_waits() -> None:
    """An X.2 program that asks sigma0 for pages waits for them, too."""

    def client(env: Environment) -> tuple[int, bool]:
        before = env.host.now()
        size = l4.Size(l4.Sigma0_GetAny(0, 16, l4.CompleteAddressSpace))
        return size // FRAME_SIZE, env.host.now() - before >= 0.5e9

    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 80), "two")
        started(system, partial(_has, 12), "three")

        assert ask(system, client) == (16, True)


def test_asked_below_the_low_mark() -> None:
    """Below it, those above their share are asked, up to the high mark; nothing is taken, and not often asked."""

    def keeper(env: Environment) -> int:
        extents(env, *[1] * 100)
        pressure.on_pressure(env, lambda *wanted: told.append((env.host.now(), *wanted)))
        idle(env)
        return len(pressure.repossessed(env))

    def other(env: Environment) -> None:
        extents(env, 40)
        idle(env)

    told: list[tuple[int, int, float]] = []
    with servers(memory=("low=50%", "high=50%")) as system:
        task = started(system, keeper)
        started(system, other, "other")
        free = system.kernel.frames.free
        system.pass_time(2 * ASK_AGAIN)
        seconds = [(each[0] - told[0][0]) / 1e9 for each in told]

        assert (told[-1][1:], system.kernel.frames.free) == ((128 - free, 0.5), free)
        assert all(later - earlier >= ASK_AGAIN for earlier, later in pairwise(seconds))
        assert len(told) in (2, 3)
        assert task.status is None
        assert frames_of(system, "client") == 100


def test_the_level_is_read() -> None:
    """A program reads the level in the kernel interface page, once it knows the marks."""

    def client(env: Environment) -> list[Level]:
        found = [pressure.level(env)]
        memory = Memory.connect(env)
        some = memory.allocate(100)
        found.append(pressure.level(env))
        told = memory.pressure()
        env.sys.drop(some.handle)
        assert (told.level, told.free, told.low, told.high, told.reserve, told.waiting) == (
            found[-1], env.kip.head(Head.FREE_FRAMES) - 100, 102, 128, 8, 0,
        )  # fmt: skip
        return [*found, pressure.level(env)]

    with servers(memory=("low=40%",)) as system:
        started(system, partial(_has, 60), "one")

        assert ask(system, client) == [Level.NONE, Level.LOW, Level.NONE]


def test_who_has_least_is_served_first() -> None:
    """Of requests that wait, that of the family that has least comes first."""

    def client(has: int, env: Environment) -> None:
        memory = Memory.connect(env)
        memory.allocate(has)
        go(env)
        memory.allocate(16)
        served.append(has)
        idle(env)

    def go(env: Environment) -> None:
        while not going:
            env.thread.sleep(0.01)

    served, going = list[int](), list[bool]()
    with servers() as system:
        started(system, hog, "one")
        for has in (16, 4, 10):
            started(system, partial(client, has), f"has{has}")
        started(system, partial(_has, 50), "rest")
        going.append(True)
        system.pass_time(3)

        assert served == [4, 10, 16]


def test_the_server_dies_while_requests_wait() -> None:
    """A promise that waits is asked for again, an allocation ends with an error, and no frame is lost."""

    def client(wanted: str, env: Environment) -> str:
        memory = Memory.connect(env)
        try:
            memory.claim(40) if wanted == "promise" else memory.allocate(40)
        except ExoError as error:
            return type(error).__name__
        return "done"

    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 70), "two")
        tasks = [system.spawn(partial(client, each), each) for each in ("promise", "allocate")]
        system.pass_time(0.2)
        kill_now(system, "memory")
        system.run(*tasks)

        assert [task.result for task in tasks] == ["done", "NoPartner"]
        system.pass_time(2)
        have = sum(each.frames for each in system.kernel.environments)
        assert system.kernel.frames.free + have == system.kernel.frames.total


def test_who_waited_has_ended() -> None:
    """Nothing is carved for a program that was killed while its request waited."""

    def client(env: Environment) -> None:
        Memory.connect(env).allocate(60)

    with servers() as system:
        started(system, hog, "one")
        started(system, partial(_has, 70), "two")
        started(system, client)
        kill_now(system, "client")
        system.pass_time(3)

        have = sum(each.frames for each in system.kernel.environments)
        assert system.kernel.frames.free + have == system.kernel.frames.total
        assert [e.name for e in system.kernel.environments if e.name == "client" and e.frames] == []


def test_a_wrong_argument_ends_the_server() -> None:
    """It says why, and does not serve by other marks than were meant."""

    def client(env: Environment) -> None:
        with pytest.raises(ExoError):
            Memory.connect(env, timeout=0.5, patience=0).pressure()

    with servers(memory=("low=5 bananas",)) as system:
        ask(system, client)


def test_an_answer_that_cannot_be_sent() -> None:
    """Where what sigma0 has for one that waited cannot be put on offer, it is told that it is refused."""
    sent: list[Message] = []

    class Thread:
        def reply(self, _: Message, answer: Message) -> None:
            sent.append(answer)
            if len(sent) == 1:
                raise TrapRefused("Transfer", int(Refusal.OVER_BUDGET), "offers")

    class Quiet:
        def refused(self, sender: int, label: int, why: object) -> Message:
            assert (sender, label, "offers" in str(why)) == (7, -6, True)
            return protocol.refused()

    class Around:
        thread = Thread()

    later = Later(Quiet(), Around(), 7, Message(-6))  # type: ignore[arg-type]
    later.answer(Message(words=(1,)))

    assert sent == [Message(words=(1,)), protocol.refused()]

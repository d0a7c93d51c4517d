"""Calls of a stub with a time-out, once they are plain ones: over sockets, and over a ring."""

import pytest

from kernel.abi.messages import Phase
from libexo.environment import Environment
from libexo.errors import IpcTimeout
from libexo.stub import DEFERRED, Call, Interface, operation, serve
from tests.libexo.moves import counted
from tests.servers.rig import ask, servers

LIMIT = 0.1


class Desk(Interface, label=0x78, name="desk"):
    @operation(1)
    def count(self) -> int: ...  # type: ignore[empty-body]
    @operation(2)
    def nap(self, seconds: float) -> int: ...  # type: ignore[empty-body]
    @operation(3, oneway=True)
    def doze(self, seconds: float) -> None: ...
    @operation(4)
    def keep(self) -> int: ...  # type: ignore[empty-body]
    @operation(5)
    def counted(self, what: str) -> int: ...  # type: ignore[empty-body]
    @operation(6)
    def text(self, size: int) -> str: ...  # type: ignore[empty-body]


class DeskServer(Desk):
    def __init__(self) -> None:
        self.done = 0
        self.kept: list[Call] = []

    def count(self) -> int:
        self.done += 1
        return self.done

    def nap(self, seconds: float) -> int:
        self.environment.thread.sleep(seconds)
        return self.done

    def doze(self, seconds: float) -> None:
        self.environment.thread.sleep(seconds)

    def keep(self) -> int:
        call = self.call
        self.environment.thread.sleep(LIMIT / 10)
        call.answer(-1)
        return DEFERRED  # type: ignore[no-any-return]

    def counted(self, what: str) -> int:
        return counted(self.environment, what)

    def text(self, size: int) -> str:
        return "x" * size


def connected(env: Environment, transport: str) -> Desk:
    """Return a stub with a time-out, whose calls are plain ones from now on."""
    desk = Desk.connect(env, timeout=LIMIT, transport=transport)
    for _ in range(3):
        desk.count()
    plain = desk._remote._plain  # type: ignore[attr-defined]
    assert plain is not None
    return desk


def phase_of(desk: Desk, seconds: float) -> Phase:
    """Return in which phase a call fails that has the server sleep for *seconds*."""
    with pytest.raises(IpcTimeout) as caught:
        desk.nap(seconds)
    return caught.value.phase


@pytest.fixture(params=["zmq", "ring"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_request_that_is_taken_back_is_never_served(transport: str) -> None:
    """The server is busy until the time is over: it does not do what its caller does not wait for."""

    def program(env: Environment) -> tuple[Phase, int, int]:
        desk = connected(env, transport)
        before = desk.count()
        Desk.connect(env).doze(2 * LIMIT)
        with pytest.raises(IpcTimeout) as caught:
            desk.count()
        env.thread.sleep(3 * LIMIT)
        return caught.value.phase, desk.count() - before, desk.counted("withdrawn")

    with servers(seed=5) as system:
        system.spawn(lambda env: serve(DeskServer(), "desk", env), "desk")

        assert ask(system, program) == (Phase.SEND, 1, 1)


def test_an_answer_that_nobody_waits_for_is_not_given(transport: str) -> None:
    """The caller has its time-out, and the next call its own answer; the server counts, and goes on."""

    def program(env: Environment) -> tuple[Phase, bool, int, int]:
        desk = connected(env, transport)
        phase = phase_of(desk, 2 * LIMIT)
        env.thread.sleep(2 * LIMIT)
        again = desk.count() + 1 == desk.count()
        return phase, again, desk.counted("unanswered"), counted(env, "unexpected_answer")

    with servers(seed=5) as system:
        system.spawn(lambda env: serve(DeskServer(), "desk", env), "desk")

        assert ask(system, program) == (Phase.RECEIVE, True, 1, 0)


def test_answers_that_come_later_or_are_long(transport: str) -> None:
    """What is answered by a call that was kept, or does not fit an ordinary answer, comes within the time."""

    def program(env: Environment) -> tuple[int, list[int], int]:
        desk = connected(env, transport)
        return desk.keep(), [len(desk.text(size)) for size in (100, 10_000, 100)], desk.count()

    with servers(seed=5) as system:
        system.spawn(lambda env: serve(DeskServer(), "desk", env), "desk")

        assert ask(system, program) == (-1, [100, 10_000, 100], 4)


def test_tickets_are_down_after_each_call(transport: str) -> None:
    """A call leaves neither of its tickets up, whatever became of it: the next one finds them free."""

    def program(env: Environment) -> list[tuple[int, int]]:
        desk = connected(env, transport)
        link = desk._remote._plain._link  # type: ignore[attr-defined]
        seen = [(link.tickets.send.claim(), link.tickets.answer.claim())]
        phase_of(desk, 2 * LIMIT)
        env.thread.sleep(2 * LIMIT)
        desk.count()
        return [*seen, (link.tickets.send.claim(), link.tickets.answer.claim())]

    with servers(seed=5) as system:
        system.spawn(lambda env: serve(DeskServer(), "desk", env), "desk")

        assert ask(system, program) == [(0, 0), (0, 0)]

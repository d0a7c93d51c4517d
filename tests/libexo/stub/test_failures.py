"""Exceptions and results of operations: their caller gets each at once, and the server goes on."""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import pytest

import libexo
from libexo import aio
from libexo.errors import NoPartner, OperationRefused, RemoteError
from libexo.stub import DEFERRED, Call, Interface, operation, serve
from libexo.stub.failure import LONGEST, LONGEST_TRACEBACK, PLACES, Reports, failure_of
from libexo.testing import simulated
from tests.kernel.puppets import theatre
from tests.libexo import ends
from tests.libexo.virtual_loop import run
from tests.servers.rig import servers


class Odd(Interface, label=0x71, name="odd"):
    """Operations that go wrong in a way that is told by name."""

    @operation(1)
    def give(self, what: str) -> Any: ...  # noqa: ANN401 - anything

    @operation(2)
    def throw(self, what: str) -> Any: ...  # noqa: ANN401 - as above

    @operation(3)
    def count(self) -> int:
        raise NotImplementedError

    @operation(4)
    def later(self) -> Any: ...  # noqa: ANN401 - as above

    @operation(5)
    def answer(self, what: str) -> None: ...

    @operation(6)
    def fails(self, what: str) -> None: ...

    @operation(7, repeatable=True)
    def die(self, how: str) -> int:
        raise NotImplementedError


class Declined(OperationRefused):
    """The exception with which this server declines."""


class Mute(Exception):
    """Raises when it is asked what it says."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


class Sly(str):
    """A text that is no plain one."""

    __slots__ = ()

    def __getitem__(self, _: object) -> str:
        raise AssertionError

    def encode(self, *_: object) -> bytes:
        raise AssertionError


class Slick(Exception):
    """Says something sly."""

    def __str__(self) -> str:
        return Sly("sly")


class Touchy:
    """Raises when it is looked at."""

    __slots__ = ()
    __dataclass_fields__: Any = property(lambda _: 1 / 0)


def cycle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


RESULTS: dict[str, Callable[[], Any]] = {
    "wide": lambda: 1 << 64,
    "cycle": cycle,
    "deep": deep,
    "surrogate": lambda: "\ud800",
    "object": object,
    "touchy": Touchy,
    "type": lambda: int,
    "long": lambda: b"x" * (5 << 20),
}
ERRORS: dict[str, Callable[[], BaseException]] = {
    "surrogate": lambda: KeyError("\ud800"),
    "huge": lambda: ValueError("x" * 1_000_000),
    "mute": Mute,
    "sly": Slick,
    "odd name": lambda: type("N" * 100_000, (Exception,), {})("here"),
    "group": lambda: BaseExceptionGroup("many", [ValueError(n) for n in range(1000)]),
    "nested": lambda: nested(200),
    "stop": StopIteration,
    "stop async": StopAsyncIteration,
    "generator": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "recursion": RecursionError,
    "memory": MemoryError,
}


def nested(depth: int) -> ExceptionGroup[Exception]:
    group: ExceptionGroup[Exception] = ExceptionGroup("leaf", [ValueError("here")])
    for _ in range(depth):
        group = ExceptionGroup("g", [group])
    return group


class OddServer(Odd):
    """Serves it, without stopping."""

    waiting: Call

    def __init__(self) -> None:
        self.served = 0

    def give(self, what: str) -> object:
        self.served += 1
        return RESULTS[what]()

    def throw(self, what: str) -> object:
        self.served += 1
        if what == "declined":
            raise Declined("no")
        raise ERRORS[what]()  # noqa: RSE102 - a function makes it

    def count(self) -> int:
        return self.served

    def later(self) -> object:
        self.waiting = self.call
        return DEFERRED

    def answer(self, what: str) -> None:
        self.waiting.answer(RESULTS[what]())

    def fails(self, what: str) -> None:
        self.waiting.fail(ERRORS[what]())

    def die(self, how: str) -> int:
        if how == "fault":
            ends.fault(self.environment)
        elif how.isdecimal():
            ends.end(self.environment, int(how))
        raise SystemExit(int(how.partition(" ")[2]))


class AsyncOddServer(OddServer):
    """The same, by coroutines."""

    async def give(self, what: str) -> object:
        return super().give(what)

    async def throw(self, what: str) -> object:
        if what.startswith("stop"):
            raise RuntimeError(what)  # that is what Python makes of it on its way out of a coroutine
        return super().throw(what)


def blocking(env: libexo.Environment) -> None:
    serve(OddServer(), environment=env)


Visit = Callable[[Odd, libexo.Environment], object]


def visited(visit: Visit) -> object:
    """Run *visit* against a blocking server; return what it returns."""
    with simulated() as system:
        system.spawn(blocking, "odd")
        client = system.spawn(lambda env: visit(Odd.connect(env), env))
        system.run(client)
        return client.result


def visited_on_a_loop(visit: Visit) -> object:
    """Do the same against a server on an event loop, whose operations are coroutines."""
    with theatre() as stage:
        puppet = stage.puppet("odd")
        client = stage.system.spawn(lambda env: visit(Odd.connect(env), env))

        async def main() -> None:
            serving = asyncio.create_task(aio.serve(AsyncOddServer(), aio.Thread(puppet.env)))
            while not client.ended:  # noqa: ASYNC110 - the machine says so, not the loop
                await asyncio.sleep(0.01)
            serving.cancel()

        run(stage, puppet, main())
        assert client.error is None
        return client.result


def visited_the_short_way(visit: Visit) -> object:
    """Do the same over a ring that is in use already, where calls are abbreviated."""

    def program(env: libexo.Environment) -> object:
        odd = Odd.connect(env, transport="ring")
        before = [odd.count() for _ in range(4)]
        assert before == [0] * 4
        return visit(odd, env)

    with servers() as system:
        system.spawn(lambda env: serve(OddServer(), environment=env), "odd")
        client = system.spawn(program)
        system.run(client)
        return client.result


FACES = [visited, visited_on_a_loop, visited_the_short_way]


def caught(call: Callable[..., object], *arguments: object) -> RemoteError:
    with pytest.raises(RemoteError) as error:
        call(*arguments)
    return error.value


@pytest.mark.parametrize("visited", FACES)
def test_results_that_cannot_be_sent(visited: Callable[[Visit], Any]) -> None:
    """The caller hears so at once, of every one, and the server goes on."""

    def visit(odd: Odd, _: libexo.Environment) -> tuple[list[str], int]:
        return [caught(odd.give, what).kind for what in RESULTS], odd.count()

    kinds, served = visited(visit)
    assert served == len(RESULTS)
    assert set(kinds) <= {"OverflowError", "RecursionError", "UnicodeEncodeError", "TypeError", "ValueError",
                          "ZeroDivisionError"}  # fmt: skip


@pytest.mark.parametrize("visited", FACES)
def test_whatever_is_raised(visited: Callable[[Visit], Any]) -> None:
    """The caller hears what was raised, as far as it can be told, bounded; the server goes on."""

    def visit(odd: Odd, _: libexo.Environment) -> tuple[list[RemoteError], int]:
        return [caught(odd.throw, what) for what in ERRORS], odd.count()

    errors, served = visited(visit)
    told = dict(zip(ERRORS, errors, strict=True))
    assert served >= len(ERRORS) - 2
    assert told["mute"].text == "(its text raises KeyboardInterrupt)"
    assert told["sly"].text == "sly"
    assert told["surrogate"].text == "'\\ud800'"
    assert told["odd name"].kind == "N" * 128
    assert (told["generator"].kind, told["cancelled"].kind) == ("GeneratorExit", "CancelledError")
    assert all(len(error.text) <= LONGEST and len(error.kind) <= 200 for error in errors)
    assert all(0 < len(error.traceback) <= 2 * LONGEST_TRACEBACK for error in errors)


def say(way: str, what: str, env: libexo.Environment) -> None:
    getattr(Odd.connect(env), way)(what)


@pytest.mark.parametrize("way", ["answer", "fails"])
def test_answers_that_come_later(way: str) -> None:
    """A deferred answer that cannot be sent, or is an error, reaches the waiting caller, and harms nobody else."""
    values: Collection[str] = RESULTS if way == "answer" else ERRORS
    with simulated() as system:
        system.spawn(blocking, "odd")
        for what in values:
            waits = system.spawn(lambda env: caught(Odd.connect(env).later).kind)
            system.pass_time(0.1)
            says = system.spawn(partial(say, way, what))
            system.run(waits, says)
            assert waits.result


def test_the_traceback_comes_along() -> None:
    """A surprise says where in the server it happened; a server that declines only says what it says."""

    def visit(odd: Odd, _: libexo.Environment) -> tuple[RemoteError, RemoteError]:
        return caught(odd.throw, "huge"), caught(odd.throw, "declined")

    result: Any = visited(visit)
    surprise, declined = result
    assert "raise ERRORS[what]()" in surprise.traceback
    assert surprise.__notes__ == [f"The server raised it here:\n{surprise.traceback.rstrip()}"]
    assert (declined.kind, declined.text, declined.traceback) == ("Declined", "no", "")


def test_the_log_has_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The server's log has a surprise in full once, and then only how often; nothing where it declines."""

    def visit(odd: Odd, _: libexo.Environment) -> None:
        for what in ("mute", "declined") * 25:
            caught(odd.throw, what)

    visited(visit)
    log = capsys.readouterr().err
    assert log.count("OddServer.throw raised Mute:\nTraceback") == 1
    assert "OddServer.throw raised Mute as before: 10 times by now" in log
    assert len(log) < LONGEST_TRACEBACK + 1000
    assert "Declined" not in log


def raise_it(error: BaseException) -> None:
    raise error


def test_the_log_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """However many different surprises a client finds, the log grows no more after some."""
    reports = Reports("shop")
    for n in range(3 * PLACES):
        error = type(f"E{n}", (Exception,), {})()
        with contextlib.suppress(Exception):
            raise_it(error)
        reports.report("sell", error, failure_of(error))

    assert capsys.readouterr().err.count("Traceback") == PLACES + 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("fault", "the server died of this call, or during it: fault MALFORMED_TRAP"),
        ("11", "by SIGSEGV"),
        ("6", "by SIGABRT"),
    ],
)
def test_a_call_that_kills_is_not_repeated(how: str, said: str) -> None:
    """A repeatable operation that its server dies of is not done again by the successor, which lives."""
    with simulated() as system:
        watcher = system.spawn(lambda env: env.thread.sleep(60), "watcher")
        odd = system.spawn(blocking, "odd", keeps=True)
        system.give(watcher, odd.environment)

        def visit(env: libexo.Environment) -> tuple[str, int | None, int, int]:
            stub = Odd.connect(env)
            with pytest.raises(NoPartner) as gone:
                stub.die(how)
            return str(gone.value), gone.value.status, gone.value.fault, stub.count()

        client = system.spawn(visit)
        system.run(odd, errors=False)
        system.kernel.environments.succeed(odd.environment, odd.body.program)
        system.run(client, errors=False)

        result: Any = client.result
        text, status, fault, count = result
        assert said in text
        assert (status, fault, count) == ((-9, 1, 0) if how == "fault" else (-int(how), 0, 0))


def test_there_is_an_end_to_repeating() -> None:
    """A repeatable call during which its server is killed again and again is given up after a few times."""
    with simulated() as system:
        watcher = system.spawn(lambda env: env.thread.sleep(60), "watcher")
        odd = system.spawn(blocking, "odd", keeps=True)
        system.give(watcher, odd.environment)
        client = system.spawn(lambda env: Odd.connect(env).die("9"))
        lives = [odd.environment]
        while not client.ended:
            system.run(until=lambda: client.ended or not lives[-1].alive, errors=False)
            if not client.ended:
                lives.append(system.kernel.environments.succeed(lives[-1], odd.body.program))

        assert isinstance(client.error, NoPartner)
        assert "so did its successors" in str(client.error)
        assert 2 < len(lives) <= 6


def test_an_exit_is_heard_first() -> None:
    """An operation that ends the server deliberately is answered before it does."""
    with simulated() as system:
        odd = system.spawn(blocking, "odd")
        client = system.spawn(lambda env: caught(Odd.connect(env).die, "exit 3").kind)
        system.run(client, errors=False)
        system.run(odd, errors=False)

        assert (client.result, odd.environment.status) == ("SystemExit", 3)

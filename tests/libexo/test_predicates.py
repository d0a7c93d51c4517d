"""Predicates of libexo: operators make the sum of products, and threads sleep for it beside messages."""

import asyncio
from collections.abc import Callable

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.kip import Head, Page
from kernel.abi.predicates import Operator
from kernel.abi.rights import Rights
from libexo import aio, predicates, vm
from libexo.environment import Environment
from libexo.errors import Impossible, IpcTimeout, TrapRefused
from libexo.ipc import Message
from libexo.ipc.message import MapItem
from libexo.predicates import Predicate, after, arm, clock, interface, own, wait, word
from libexo.testing import simulated
from tests.kernel.passing import passed
from tests.kernel.puppets import theatre
from tests.libexo import virtual_loop

SECOND = 1_000_000_000


def carved(env: Environment, pages: int = 1) -> memoryview:
    """Memory of the program's own, mapped."""
    (ram,) = env.sys.inventory()[:1]
    return env.views.map(env.sys.carve(ram, pages).extent)


def shape(predicate: Predicate) -> list[list[tuple[int, str, int]]]:
    """The clauses: word, operator, constant."""
    return [
        [(term.one.at, term.operator.name, term.other.at) for term in clause] for clause in predicate.clauses
    ]


def test_operators_make_a_sum_of_products() -> None:
    """And distributes over or, not goes to the comparisons, and the alternatives keep their order."""
    a, b, c = (word(memoryview(bytearray(64)), n) for n in range(3))

    assert shape(((a == 1) | (b != 2)) & (c < 3)) == [
        [(0, "EQUAL", 1), (2, "LESS", 3)],
        [(1, "DIFFERENT", 2), (2, "LESS", 3)],
    ]
    assert shape(~((a <= 1) & (b > 2) | (c >= 3))) == [
        [(0, "MORE", 1), (2, "LESS", 3)],
        [(1, "AT_MOST", 2), (2, "LESS", 3)],
    ]
    assert shape(a > 1) == [[(0, "MORE", 1)]]


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (lambda w: w == -1, ValueError, "-1: a word is a number from 0"),
        (lambda w: w == 1 << 64, ValueError, "a word is a number from 0"),
        (lambda w: w == "a", TypeError, "'a': a word is compared with a number"),
        (lambda w: (w == 1) and (w == 2), TypeError, "when the kernel says so: join them by &"),
        (lambda w: 1 < w < 3, TypeError, "join them by &"),
        (lambda w: predicates.word(w.source, 8), ValueError, "word 8 of 8"),
        (
            lambda w: ~((w < 1) & (w < 2) & (w < 3)) & ~((w < 1) & (w < 2) & (w < 3)),
            ValueError,
            "9 clauses of up to 2",
        ),
        (lambda _: after(-1), ValueError, "time-out"),
    ],
)
def test_mistakes(wrong: Callable[[predicates.Value], object], error: type[Exception], text: str) -> None:
    """What the kernel would not take is an error where it is written."""
    with pytest.raises(error, match=text):
        wrong(word(memoryview(bytearray(64)), 0))


def test_a_word_that_another_writes() -> None:
    """A program sleeps until another has written, which makes no trap for it; then it knows which is true."""
    with simulated(seed=1) as system:
        traps = list[int]()

        def sleeper(env: Environment) -> list[float]:
            _, message = env.thread.wait()
            (item,) = message.items
            assert isinstance(item, MapItem)
            view = vm.map(env, item)
            env.thread.reply(message, Message())
            began = env.host.now()
            found = wait(env, (word(view, 3) > 5) & (word(view, 4) == 7) | (word(view, 0) == 1) | after(60))
            return [found, (env.host.now() - began) / SECOND]

        def writer(env: Environment) -> None:
            view = carved(env)
            env.thread.call(asleep.thread, Message(items=(MapItem(env.views.handle(view)),)))
            env.thread.sleep(0.5)
            traps.append(env.kip.counters()["traps"])
            view.cast("Q")[4], view.cast("Q")[3] = 7, 6
            env.thread.sleep(0.5)
            traps.append(env.kip.counters()["traps"])

        asleep = system.spawn(sleeper, "sleeper")
        system.spawn(writer, "writer", holds=("ram",))
        system.run()

        assert asleep.result == pytest.approx([0, 0.5], abs=0.003)
        assert traps[1] - traps[0] <= 1  # the end of the sleeper is none of the writer's


def test_time_out_and_times() -> None:
    """A time-out raises at its time and leaves nothing; a time is a clause; what is true is no wait."""

    def program(env: Environment) -> list[object]:
        view, began, found = carved(env), env.host.now(), list[object]()
        with pytest.raises(IpcTimeout):
            wait(env, word(view, 0) == 1, timeout=0.25)
        found.append(env.host.now() - began)
        found.append(wait(env, (word(view, 0) == 1) | after(0.125)))
        found.append(env.host.now() - began)
        found.append(wait(env, (interface(Head.FREE_FRAMES) > 0) & (own(Page.SLICES) >= 0) & (clock > 1)))
        with pytest.raises(IpcTimeout):
            env.thread.wait(0.05)
        return found

    with simulated(seed=2) as system:
        task = system.spawn(program, "program", holds=("ram",))
        system.run()

        assert task.result == pytest.approx([SECOND // 4, 1, SECOND // 4 + SECOND // 8, 0], rel=0.001)


def test_beside_messages() -> None:
    """A thread that waits for anybody gets the message of its predicate as one more, and arms it again."""

    def program(env: Environment) -> list[object]:
        armed, found = arm(env, after(0.3)), list[object]()
        for _ in range(3):
            sender, message = env.thread.wait()
            if sender == armed.sender:
                found.append(armed.read(message))
                armed.again()
            else:
                found.append(message.label)
        assert armed.cancel()
        assert not armed.cancel()
        return found

    with simulated(seed=3) as system:
        server = system.spawn(program, "server")

        def client(env: Environment) -> None:
            env.thread.sleep(0.4)
            env.thread.send(server.thread, Message(label=5))

        system.spawn(client, "client")
        system.run()

        assert server.result == [0, 5, 0]


def test_a_closed_receive() -> None:
    """The message of a predicate waits for a receive from its sender: one from another partner leaves it."""
    with theatre() as stage:
        a, b = stage.pair()
        view = carved(a.env)
        armed = arm(a.env, word(view, 0) == 1)
        view.cast("Q")[0] = 1
        stage.machine.clock.alarm(stage.machine.clock.now() + SECOND, lambda: None)

        with pytest.raises(IpcTimeout):
            a.env.thread.receive(b.thread, 0)
        assert armed.read(a.env.thread.receive(armed.sender, 1)[1]) == 0


def test_words_that_are_taken() -> None:
    """When all words were taken the wait ends with an error that says so; a slice or foreign memory is refused."""
    with theatre() as stage:
        a, b = stage.pair()
        view = carved(a.env)
        handle = a.env.views.handle(view)
        mine = b.env.views.map(passed(a, handle, b, Rights.READ))
        stage.machine.clock.alarm(stage.machine.clock.now() + SECOND, a.kill)
        with pytest.raises(ValueError, match="a slice does not know"):
            wait(b.env, word(mine[8:], 0) == 1)

        with pytest.raises(Impossible, match="taken from this program"):
            wait(b.env, word(mine, 0) == 1)
        with pytest.raises(TrapRefused) as refused:
            wait(b.env, Predicate(((predicates.Comparison(clock, Operator.LESS, predicates.Value(99, 0)),),)))
        assert refused.value.refusal == Refusal.BAD_HANDLE


def test_in_asyncio() -> None:
    """Tasks of one loop await predicates of their own, beside messages."""
    with theatre() as stage:
        a, _ = stage.pair()

        async def main() -> list[int]:
            thread, view = aio.Thread(a.env), carved(a.env).cast("Q")

            async def until(predicate: Predicate) -> int:
                armed = arm(a.env, predicate)
                return armed.read((await thread.receive(armed.sender))[1])

            async def write() -> int:
                await asyncio.sleep(0.1)
                view[1] = 1
                return 9

            return list(
                await asyncio.gather(
                    until((word(view, 0) == 1) | after(0.3)), until(word(view, 1) == 1), write()
                )
            )

        assert virtual_loop.run(stage, a, main()) == [1, 0, 9]

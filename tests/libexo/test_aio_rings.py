"""The awaiting face of IPC over rings, in virtual time: sleepers are woken, messages waiting for room get it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import IpcCode, Phase
from libexo import aio
from libexo.errors import IpcError, IpcTimeout, NoPartner
from libexo.host.ring_poll import LINGER
from libexo.ipc.exchange import Link, Outgoing
from libexo.ipc.message import Message
from libexo.ipc.ring import open_paid
from libexo.stub import DEFERRED, Call, Interface, operation
from libexo.transport.ring.duplex import Duplex
from libexo.transport.ring.layout import DIRECTION, Word
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.kernel.rings import carve
from tests.libexo import moves, virtual_loop
from tests.libexo.moves import CALL, message, origin, post, pumped, taken

LONG = 20_000
"""Bytes, several times what fits into the rings here."""


class Slow(Interface, label=0x61):
    @operation(1)
    def long(self) -> bytes:
        return b""

    @operation(2)
    def add(self, n: int) -> int:
        return n

    @operation(3)
    def later(self) -> bytes:
        return b""


class SlowServer(Slow):
    def long(self) -> bytes:
        return b"x" * LONG

    async def add(self, n: int) -> int:  # type: ignore[override]
        await asyncio.sleep(0.1 / n)
        return n + 1

    def later(self) -> Any:  # noqa: ANN401
        call: Call = self.call
        asyncio.get_running_loop().call_later(0.1, call.answer, b"y" * LONG)
        return DEFERRED


def later(stage: Theatre, seconds: float, action: Callable[[], object]) -> None:
    """Do *action* in *seconds* of virtual time."""
    clock = stage.machine.clock

    def act() -> None:
        action()

    clock.alarm(clock.now() + int(seconds * 1e9), act)


def repeat(stage: Theatre, action: Callable[[], object], times: int) -> None:
    """Do *action* each millisecond."""
    for millisecond in range(1, times + 1):
        later(stage, millisecond / 1000, action)


def ring(a: Puppet, b: Puppet) -> Link:
    """Have a's messages to b go through a ring: 6 KiB for each direction."""
    link = open_paid(a.env.thread, b.thread, carve(a))
    assert taken(b) is None
    moves.pump(a)
    assert link.rings
    return link


def the_line(b: Puppet) -> Duplex:
    """Return b's end of the one ring to it."""
    rings = moves.rings(b)
    assert rings is not None
    return rings.lines[0][1]


def answer(b: Puppet, *words: int) -> Callable[[], object]:
    return lambda: moves.answer(b, origin(b), Message(words=words))


def request(a: Puppet, b: Puppet, number: int, *arguments: object) -> Outgoing:
    items = (msgspec.msgpack.encode(arguments),)
    return moves.post_message(a, b.thread, Message(Slow.label, (number,), items), CALL, timed=False)


def result(exchange: Outgoing) -> object:
    assert exchange.reply is not None
    string = exchange.reply.items[0]
    assert isinstance(string, bytes)
    return msgspec.msgpack.decode(string)


async def served(b: Puppet, seconds: float) -> aio.Thread:
    """Serve for that long."""
    thread = aio.Thread(b.env)
    with suppress(TimeoutError):
        await asyncio.wait_for(aio.serve(SlowServer(), thread), seconds)
    return thread


def test_an_answer_through_a_ring_is_awaited() -> None:
    """The doorbell wakes a sleeping loop, each time, when the answer comes."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)

        async def main() -> tuple[list[tuple[int, ...]], float]:
            thread, loop = aio.Thread(a.env), asyncio.get_running_loop()
            start, words = loop.time(), []
            for number in range(3):
                later(stage, 0.2, answer(b, number))
                words.append((await thread.call(b.thread, Message(words=(1,)))).words)
            return words, loop.time() - start

        words, seconds = virtual_loop.run(stage, a, main())
        assert words == [(0,), (1,), (2,)]
        assert seconds == pytest.approx(0.6, abs=0.01)


def test_a_second_look() -> None:
    """An answer whose writer did not see yet that we sleep, and rings no doorbell, is found by a second look."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)
        line = the_line(b)

        def answer_unseeing() -> None:
            line._rung = line._words[DIRECTION + Word.ASLEEP]
            assert line._rung
            answer(b, 5)()

        async def main() -> float:
            thread, loop = aio.Thread(a.env), asyncio.get_running_loop()
            start = loop.time()
            later(stage, LINGER / 2, answer_unseeing)
            assert (await thread.call(b.thread, Message())).words == (5,)
            return loop.time() - start

        assert virtual_loop.run(stage, a, main()) == pytest.approx(LINGER, rel=0.1)


def test_twenty_calls_on_one_ring() -> None:
    """Calls under way side by side get their own answers, in whatever order these come."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)

        def answer_backwards() -> None:
            for one in [message(b) for _ in range(20)][::-1]:
                assert one.origin is not None
                moves.answer(b, one.origin, Message(words=(one.words[0] + 1,)))

        async def main() -> list[int]:
            thread = aio.Thread(a.env)
            later(stage, 0.1, answer_backwards)
            calls = [thread.call(b.thread, Message(words=(n,))) for n in range(20)]
            return [reply.words[0] for reply in await asyncio.gather(*calls)]

        assert virtual_loop.run(stage, a, main()) == list(range(1, 21))
        assert len(a.environment.outgoing) == 1


def test_long_requests_wait_for_room() -> None:
    """Requests longer than the ring, several at once, arrive whole while the receiver reads."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)
        strings = [bytes([n]) * LONG for n in range(3)]
        came: list[bytes] = []

        def read() -> None:
            if (found := moves.take(b, ANY_THREAD)) is not None:
                string = found[1].items[0]
                assert isinstance(string, bytes)
                came.append(string)
                assert found[1].origin is not None
                moves.answer(b, found[1].origin, Message())

        async def main() -> None:
            thread = aio.Thread(a.env)
            repeat(stage, read, 200)
            await asyncio.gather(*(thread.call(b.thread, Message(items=(string,))) for string in strings))

        virtual_loop.run(stage, a, main())
        assert sorted(came) == strings


def test_no_room_in_time() -> None:
    """A send with a time-out that finds the ring full ends in its first phase, on time."""
    with theatre() as stage:
        a, b = stage.pair()
        link = ring(a, b)

        async def main() -> tuple[IpcCode, Phase]:
            thread = aio.Thread(a.env)
            aside = asyncio.create_task(thread.call(b.thread, Message(items=(b"x" * LONG,))))
            await asyncio.sleep(0.01)
            with pytest.raises(IpcTimeout) as caught:
                await thread.call(b.thread, Message(items=(b"y" * LONG,)), timeout=0.5)
            aside.cancel()
            await asyncio.wait([aside])
            return caught.value.code, caught.value.phase

        assert virtual_loop.run(stage, a, main()) == (IpcCode.TIMEOUT, Phase.SEND)
        assert link.exchanges == {}


def test_long_answers_wait_for_room() -> None:
    """A loop's answers longer than the ring arrive whole, two at once, and with those that are given later."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)
        exchanges = [request(a, b, number) for number in (1, 1, 3)]
        repeat(stage, lambda: moves.pump(a), 500)

        thread = virtual_loop.run(stage, b, served(b, 1.0))
        assert [result(exchange) for exchange in exchanges] == [b"x" * LONG] * 2 + [b"y" * LONG]
        assert moves.counted(thread, "unanswered") == 0


def test_an_answer_given_later_is_written() -> None:
    """An answer longer than the ring, given when nothing else brings the loop round, is still written."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)
        exchange = request(a, b, 3)
        later(stage, 0.2, lambda: repeat(stage, lambda: moves.pump(a), 100))

        virtual_loop.run(stage, b, served(b, 1.0))
        assert result(exchange) == b"y" * LONG


def test_clients_with_and_without_a_ring() -> None:
    """A loop serves both at once; its inbox gets its rings when the first client has one."""
    with theatre() as stage:
        a, b = stage.pair()
        c, d = stage.puppet("c"), stage.puppet("d", holds=("ram",))
        open_paid(a.env.thread, b.thread, carve(a))

        def ask() -> list[Outgoing]:
            return [request(puppet, b, 2, n) for puppet in (a, c, d) for n in (1, 2)]

        def ask_again() -> None:
            for puppet in (a, c, d):
                moves.pump(puppet)
            exchanges.extend(ask())

        exchanges = ask()
        later(stage, 0.1, lambda: open_paid(d.env.thread, b.thread, carve(d)))
        later(stage, 0.2, ask_again)
        virtual_loop.run(stage, b, served(b, 1.0))
        for puppet in (a, c, d):
            moves.pump(puppet)

        assert [result(exchange) for exchange in exchanges] == [2, 3] * 6
        assert [moves.link(p, b.thread).rings for p in (a, c, d)] == [True, False, True]


def test_the_end_of_the_partner() -> None:
    """A call through a ring ends with its server, and the next one says that it is not there."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)

        async def main() -> list[Phase]:
            thread, loop = aio.Thread(a.env), asyncio.get_running_loop()
            later(stage, 0.1, b.kill)
            start, phases = loop.time(), []
            for _ in range(2):
                with pytest.raises(NoPartner) as gone:
                    await thread.call(b.thread, Message())
                phases.append(gone.value.phase)
            assert loop.time() - start == pytest.approx(0.1, abs=0.01)
            return phases

        assert virtual_loop.run(stage, a, main()) == [Phase.RECEIVE, Phase.SEND]


def test_clients_come_and_go() -> None:
    """A loop goes on serving when a client with a ring ends, and forgets it."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c", holds=("ram",))
        ring(a, b)
        ring(c, b)
        later(stage, 0.1, a.kill)
        asked: list[Outgoing] = []
        later(stage, 0.2, lambda: asked.append(request(c, b, 2, 1)))

        virtual_loop.run(stage, b, served(b, 1.0))
        rings = moves.rings(b)
        assert rings is not None
        assert result(pumped(c, asked[0])) == 2
        assert len(rings.lines) == 1


def test_told_in_order() -> None:
    """Messages nobody answers fill the ring, wait for room, and arrive in their order."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)
        came: list[int] = []

        def read() -> None:
            while found := taken(b):
                came.append(found[0])

        async def main() -> None:
            thread = aio.Thread(a.env)
            repeat(stage, read, 100)
            for number in range(500):
                await thread.tell(b.thread, 0x61, number, b"")

        virtual_loop.run(stage, a, main())
        read()
        assert came == list(range(500))


def test_telling_one_who_ends() -> None:
    """A sender that waits for room is told when its receiver ends."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)

        async def main() -> int:
            thread = aio.Thread(a.env)
            later(stage, 0.1, b.kill)
            for told in range(500):
                try:
                    await thread.tell(b.thread, 0x61, told, b"")
                except NoPartner:
                    return told
            return 500

        assert 0 < virtual_loop.run(stage, a, main()) < 500


def test_a_broken_ring() -> None:
    """Bytes that are no record end the calls under way, and only the binding they are on."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        ring(a, b)
        line = the_line(b)

        def scribble() -> None:
            line._words[line._at >> 3] = 0xFFFF_FFFF_FFFF_FFFF
            line.bell.ring()

        async def main() -> Phase:
            thread = aio.Thread(a.env)
            later(stage, 0.1, scribble)
            with pytest.raises(NoPartner) as caught:
                await thread.call(b.thread, Message())
            later(stage, 0.1, answer(c, 7))
            assert (await thread.call(c.thread, Message())).words == (7,)
            return caught.value.phase

        assert virtual_loop.run(stage, a, main()) is Phase.RECEIVE
        assert moves.counted(a, "broken_link") == 1


def test_what_nobody_receives_keeps_no_loop_awake() -> None:
    """While no task receives, a message in a ring is no reason to look again; a later receive gets it."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)

        async def main() -> tuple[int, tuple[int, ...]]:
            thread = aio.Thread(b.env)
            with pytest.raises(IpcTimeout):
                await thread.wait(timeout=0.01)
            looks: list[None] = []
            moves.count_pumps(thread, lambda: looks.append(None))
            later(stage, 0.1, lambda: post(a, b, 1))
            await asyncio.sleep(1)
            return len(looks), (await thread.wait())[1].words

        looks, words = virtual_loop.run(stage, b, main())
        assert looks <= 3
        assert words == (1,)


def test_a_cancelled_call() -> None:
    """A task that is cancelled in a call through a ring leaves the ring usable for the next."""
    with theatre() as stage:
        a, b = stage.pair()
        ring(a, b)

        async def main() -> tuple[int, ...]:
            thread = aio.Thread(a.env)
            task = asyncio.create_task(thread.call(b.thread, Message(words=(1,)), timeout=5))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])
            with pytest.raises(IpcError):
                await thread.receive(b.thread, timeout=0.01)
            later(stage, 0.1, answer(b, 2))
            return (await thread.call(b.thread, Message(words=(2,)), timeout=5)).words

        assert virtual_loop.run(stage, a, main()) == (2,)
        assert moves.counted(b, "withdrawn") == 1

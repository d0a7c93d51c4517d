"""The awaiting face of IPC, in virtual time: a puppet awaits what others, moved by hand, answer it or do not."""

import asyncio
from collections.abc import Callable

import pytest

from kernel.abi.ids import ANY_THREAD, NIL_THREAD
from kernel.abi.kip import Page, Wait
from kernel.abi.messages import IpcCode, MapPart, Packet, PacketKind, Phase
from kernel.abi.rights import ALL_RIGHTS
from libexo import aio
from libexo.errors import IpcError, IpcTimeout, NoPartner
from libexo.ipc.message import GrantItem, Message
from libexo.transport.inprocess import BOUND
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.libexo import moves, virtual_loop
from tests.libexo.moves import SEND, back, message, origin, packet, post, taken


def later(stage: Theatre, seconds: float, action: Callable[[], object]) -> None:
    """Do *action* in *seconds* of virtual time."""
    clock = stage.machine.clock

    def act() -> None:
        action()

    clock.alarm(clock.now() + int(seconds * 1e9), act)


def answer(b: Puppet, *words: int) -> Callable[[], object]:
    return lambda: moves.answer(b, origin(b), Message(words=words))


def test_an_answer_is_awaited() -> None:
    """A call goes on when its answer comes, in the time that takes."""
    with theatre() as stage:
        a, b = stage.pair()

        async def main() -> tuple[tuple[int, ...], float]:
            start = asyncio.get_running_loop().time()
            later(stage, 0.2, answer(b, 5))
            reply = await aio.Thread(a.env).call(b.thread, Message(words=(1,)), timeout=1)
            return reply.words, asyncio.get_running_loop().time() - start

        words, seconds = virtual_loop.run(stage, a, main())
        assert words == (5,)
        assert seconds == pytest.approx(0.2, abs=0.01)


def test_it_says_for_whom_it_waits() -> None:
    """While operations wait, the thread's row names their partner, or any if there are several; then nobody."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.open_inbox(b)
        said: list[int] = []

        def look() -> None:
            said.append(a.env.page[Page.WAITS + Wait.ANSWER])

        async def main() -> None:
            thread = aio.Thread(a.env)
            later(stage, 0.1, look)
            call = asyncio.create_task(thread.call(b.thread, Message(), timeout=0.5))
            await asyncio.sleep(0.2)
            later(stage, 0.1, look)
            receive = asyncio.create_task(thread.receive(ANY_THREAD, timeout=0.2))
            for each in call, receive:
                with pytest.raises(IpcTimeout):
                    await each
            later(stage, 0.1, look)
            await asyncio.sleep(0.2)

        virtual_loop.run(stage, a, main())
        assert said == [b.thread, ANY_THREAD, NIL_THREAD]


@pytest.mark.parametrize(("take", "phase"), [(False, Phase.SEND), (True, Phase.RECEIVE)])
def test_time_outs(take: bool, phase: Phase) -> None:  # noqa: FBT001 - a parameter of the test
    """A call that nobody takes, or nobody answers, ends when its time is over, in that phase."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.open_inbox(b)

        async def main() -> Phase:
            if take:
                later(stage, 0.1, lambda: taken(b))
            with pytest.raises(IpcTimeout) as caught:
                await aio.Thread(a.env).call(b.thread, Message(), timeout=0.5)
            return caught.value.phase

        assert virtual_loop.run(stage, a, main()) is phase
        assert moves.waiting(a) == []


def test_what_was_not_looked_at_is_looked_at_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox that says that there may be more is looked at again, though nothing will tell of news."""
    with theatre() as stage:
        a, _ = stage.pair()
        inbox = moves.open_inbox(a)

        async def main() -> list[bool]:
            thread, soon = aio.Thread(a.env), []
            waiting = asyncio.create_task(thread.wait())
            await asyncio.sleep(0)
            for ready in (False, True):
                monkeypatch.setattr(inbox, "is_ready", ready, raising=False)
                thread._pump()
                soon.append(thread._watch._is_soon)
            waiting.cancel()
            return soon

        assert virtual_loop.run(stage, a, main()) == [False, True]


@pytest.mark.parametrize("timeout", [None, 1.0])
def test_a_turned_call(timeout: float | None) -> None:
    """The answer to a call that was turned is the message of the thread it was turned to."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c", holds=("ram",))

        def turn() -> None:
            moves.forward(b, origin(b), c.thread)

        def send() -> None:
            item = GrantItem(c.handles[0], int(ALL_RIGHTS))
            moves.post_message(c, a.thread, Message(words=(7,), items=(item,)), SEND, timed=False)

        async def main() -> Message:
            thread = aio.Thread(a.env)
            other = asyncio.create_task(thread.wait(timeout=0.6))
            later(stage, 0.1, turn)
            later(stage, 0.2, lambda: post(b, a, 1, kind=SEND))
            later(stage, 0.3, send)
            reply = await thread.call(b.thread, Message(words=(1,)), timeout)
            assert (await other)[0] == b.thread
            return reply

        before = len(a.caps)
        reply = virtual_loop.run(stage, a, main())
        assert (reply.words, len(reply.items), len(a.caps) - before) == ((7,), 1, 1)
        assert moves.forwarded(a) == []


def test_a_turned_call_in_time() -> None:
    """The time-out of a call bounds it wherever it is turned; so does the end of the thread it waits for."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")

        async def main() -> list[type]:
            thread = aio.Thread(a.env)
            later(stage, 0.1, lambda: moves.forward(b, origin(b), c.thread))
            with pytest.raises(IpcTimeout) as late:
                await thread.call(b.thread, Message(), timeout=0.5)
            later(stage, 0.1, lambda: moves.forward(b, origin(b), c.thread))
            later(stage, 0.3, c.kill)
            with pytest.raises(NoPartner) as gone:
                await thread.call(b.thread, Message())
            return [type(late.value), type(gone.value)]

        assert virtual_loop.run(stage, a, main()) == [IpcTimeout, NoPartner]


def test_a_cancelled_call_is_withdrawn() -> None:
    """A task that is cancelled in a call withdraws the message if it can; nobody takes it later."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.open_inbox(b)

        async def main() -> None:
            thread = aio.Thread(a.env)
            task = asyncio.create_task(thread.call(b.thread, Message(words=(1,)), timeout=5))
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.wait([task])

        virtual_loop.run(stage, a, main())
        assert (taken(b), moves.counted(b, "withdrawn")) == (None, 1)


def test_a_cancelled_call_that_was_taken() -> None:
    """An answer to a cancelled task fails, and the next call on the same binding gets its own."""
    with theatre() as stage:
        a, b = stage.pair()

        async def main() -> tuple[int, ...]:
            thread = aio.Thread(a.env)
            task = asyncio.create_task(thread.call(b.thread, Message(words=(1,)), timeout=5))
            await asyncio.sleep(0.1)
            late = message(b)
            task.cancel()
            await asyncio.wait([task])
            assert late.origin is not None
            with pytest.raises(IpcTimeout):
                moves.answer(b, late.origin, Message(words=(1,)))
            later(stage, 0.1, answer(b, 2))
            return (await thread.call(b.thread, Message(words=(2,)), timeout=5)).words

        assert virtual_loop.run(stage, a, main()) == (2,)
        assert len(a.environment.outgoing) == 1


@pytest.mark.parametrize(
    ("packet", "phase"),
    [
        (Packet(PacketKind.REFUSED, 1, 0, (IpcCode.OVERFLOW << 1,)), Phase.SEND),
        (Packet(PacketKind.REPLY, 1, parts=(MapPart(1),)), Phase.RECEIVE),
    ],
    ids=["refused", "too much"],
)
def test_what_cannot_be_taken(packet: Packet, phase: Phase) -> None:
    """A message its receiver could not take, and an answer that cannot be taken, end the await with an error."""
    with theatre() as stage:
        a, b = stage.pair()

        async def main() -> tuple[IpcCode, Phase]:
            later(stage, 0.1, lambda: back(b, origin(b), packet))
            with pytest.raises(IpcError) as caught:
                await aio.Thread(a.env).call(b.thread, Message(words=(1,)), accepts=0)
            return caught.value.code, caught.value.phase

        assert virtual_loop.run(stage, a, main()) == (IpcCode.OVERFLOW, phase)


def test_answering_whom_another_spoke_for() -> None:
    """The answer to a message that came for another thread of its space goes to that thread."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.open_inbox(b)

        async def main() -> bool:
            thread = aio.Thread(a.env)
            packet(b, a, Packet(PacketKind.CALL, 1, words=(1,), flags=4, virtual=b.thread))
            _, found = await thread.wait(timeout=1)
            later(stage, 0.001, lambda: taken(b) == (2,) or pytest.fail("not answered"))
            thread.reply(found, Message(words=(2,)))
            return found.origin is not None and found.origin.actual == b.thread

        assert virtual_loop.run(stage, a, main())


def test_more_at_once_than_there_is_room_for() -> None:
    """Calls for which a binding has no room wait until it has; each gets its own answer."""
    with theatre() as stage:
        a, b = stage.pair()
        calls = range(3 * BOUND)

        async def serve(count: int) -> None:
            while count:
                await asyncio.sleep(0.001)
                for _ in range(min(count, 100)):
                    found = message(b)
                    assert found.origin is not None
                    moves.answer(b, found.origin, Message(words=found.words))
                    count -= 1

        async def main() -> list[int]:
            thread = aio.Thread(a.env)
            pending = [asyncio.create_task(thread.call(b.thread, Message(words=(n,)))) for n in calls]
            await serve(len(calls))
            return [(await call).words[0] for call in pending]

        assert virtual_loop.run(stage, a, main()) == [*calls]


def test_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that finds no way may have brought answers to others on its search: they are looked at soon."""

    def refuse(*_: object) -> None:
        raise NoPartner(Phase.SEND, "gone")

    with theatre() as stage:
        a, b = stage.pair()

        async def main() -> bool:
            thread = aio.Thread(a.env)
            monkeypatch.setattr(thread._thread, "post", refuse)
            with pytest.raises(NoPartner):
                await thread.call(b.thread, Message())
            return thread._watch._is_soon

        assert virtual_loop.run(stage, a, main())

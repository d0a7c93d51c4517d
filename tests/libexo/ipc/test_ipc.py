"""IPC that waits, between programs, over many schedules: what holds must hold in every order."""

from collections.abc import Callable
from functools import partial

import pytest

import libexo
from kernel.abi.ids import thread_id
from kernel.abi.limits import SHORT_STRING
from kernel.abi.messages import IpcCode, Phase
from libexo.environment import Environment
from libexo.errors import IpcError, IpcTimeout, NoPartner
from libexo.ipc import Message
from libexo.ipc.standing import HOLD
from libexo.testing import Failure, FailureKind, Failures, simulated
from libexo.transport.faulty import FaultyTransport, Odds
from tests.libexo import moves

Program = Callable[[libexo.Environment], object]


def failure_of(action: Callable[[], object]) -> tuple[IpcCode, Phase] | None:
    """Return code and phase of the IPC error that *action* ends with."""
    try:
        action()
    except IpcError as error:
        return error.code, error.phase
    return None


def echo(env: libexo.Environment) -> None:
    """Answer every message with its own words."""
    sender, message = env.thread.wait()
    while True:
        sender, message = env.thread.reply_wait(sender, Message(words=message.words))


def mute(env: libexo.Environment) -> None:
    """Take one message, and never answer."""
    env.thread.wait()
    env.thread.sleep(5)


def lazy(env: libexo.Environment) -> list[tuple[int, ...]]:
    """Receive only after a while; then take what is there."""
    env.thread.sleep(1)
    taken: list[tuple[int, ...]] = []
    while failure_of(lambda: taken.append(env.thread.wait(timeout=0.5)[1].words)) is None:
        pass
    return taken


@pytest.mark.parametrize("size", [0, 1, SHORT_STRING, SHORT_STRING + 1, 100_000])
def test_strings(size: int) -> None:
    """A string item arrives as it was sent, whether it fits into the packet or has a frame of its own."""

    def mirror(env: libexo.Environment) -> None:
        _, message = env.thread.wait()
        env.thread.reply(message, Message(items=(*message.items, b"end")))

    with simulated(seed=1) as system:
        system.spawn(mirror, "mirror")
        asked = Message(items=(bytes(size), b"between"))
        client = system.spawn(lambda env: env.thread.call(env.lookup("mirror", 1), asked).items)
        system.run(client)

        assert client.result == (bytes(size), b"between", b"end")


@pytest.mark.parametrize("seed", range(10))
def test_time_out_in_the_send_phase(seed: int) -> None:
    """A message nobody takes in time is reported so, in the send phase, and is never delivered later."""
    with simulated(seed=seed) as system:
        receiver = system.spawn(lazy, "lazy")
        sender = system.spawn(
            lambda env: failure_of(
                lambda: env.thread.send(env.lookup("lazy", 1), Message(words=(1,)), timeout=0.1)
            )
        )
        system.run()

        assert (sender.result, receiver.result) == ((IpcCode.TIMEOUT, Phase.SEND), [])


@pytest.mark.parametrize("seed", range(10))
def test_time_out_in_the_receive_phase(seed: int) -> None:
    """A call that was taken and not answered in time is reported so, in the receive phase."""
    with simulated(seed=seed) as system:
        system.spawn(mute, "mute")
        caller = system.spawn(
            lambda env: failure_of(lambda: env.thread.call(env.lookup("mute", 1), Message(), timeout=0.5))
        )
        system.run(caller)

        assert caller.result == (IpcCode.TIMEOUT, Phase.RECEIVE)


def test_time_out_of_a_receive() -> None:
    """A receive that nothing comes to ends after its time, and not before."""

    def program(env: libexo.Environment) -> tuple[bool, float]:
        start = env.host.now()
        with pytest.raises(IpcTimeout):
            env.thread.wait(timeout=2)
        return True, (env.host.now() - start) / 1e9

    with simulated() as system:
        task = system.spawn(program)
        system.run()

        assert task.result == (True, pytest.approx(2, abs=0.01))


def racing_sender(env: libexo.Environment) -> list[int]:
    """Send numbers, each with little time; return those that are reported as taken."""
    to = env.lookup("receiver", 1)

    def send(n: int) -> None:
        env.thread.send(to, Message(words=(n,)), timeout=0.002)

    return [n for n in range(1, 13) if failure_of(partial(send, n)) is None]


def racing_receiver(env: libexo.Environment) -> list[int]:
    """Take numbers at about the pace at which they are given up."""
    taken: list[int] = []
    for _ in range(40):
        env.thread.sleep(0.0019)
        failure_of(lambda: taken.append(env.thread.wait(timeout=0)[1].words[0]))
    return taken


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_both_sides_agree(seed: int) -> None:
    """In every race of taking and giving up, the two sides agree on each message: taken, or timed out."""
    with simulated(seed=seed) as system:
        receiver = system.spawn(racing_receiver, "receiver")
        sender = system.spawn(racing_sender)
        system.run()

        assert sender.result == receiver.result


@pytest.mark.parametrize("seed", range(10))
def test_a_late_answer(seed: int) -> None:
    """An answer to a caller that gave up fails; a server's loop counts that, and goes on."""

    def slow(env: libexo.Environment) -> tuple[tuple[IpcCode, Phase] | None, int, int]:
        _, message = env.thread.wait()
        env.thread.sleep(1)
        late = failure_of(lambda: env.thread.reply(message, Message()))
        _, message = env.thread.wait()
        env.thread.sleep(1)
        sender, _ = env.thread.reply_wait(message, Message())
        return late, moves.counted(env, "unanswered"), sender

    def impatient(env: libexo.Environment) -> list[tuple[IpcCode, Phase] | None]:
        to = env.lookup("slow", 1)
        failures = [failure_of(partial(env.thread.call, to, Message(), timeout)) for timeout in (0.5, 0.9)]
        env.thread.send(to, Message())
        return failures

    with simulated(seed=seed) as system:
        server, caller = system.spawn(slow, "slow"), system.spawn(impatient)
        system.run()

        assert caller.result == [(IpcCode.TIMEOUT, Phase.RECEIVE)] * 2
        assert server.result == ((IpcCode.TIMEOUT, Phase.SEND), 1, caller.thread)


def racing_caller(env: libexo.Environment) -> tuple[list[int], list[int]]:
    """Call with numbers, each with little time; return those that were answered, and those never taken."""
    to = env.lookup("answerer", 1)

    def call(n: int) -> None:
        assert env.thread.call(to, Message(words=(n,)), timeout=0.002).words == (n,)

    outcomes = {n: failure_of(partial(call, n)) for n in range(1, 25)}
    return (
        [n for n, failure in outcomes.items() if failure is None],
        [n for n, failure in outcomes.items() if failure == (IpcCode.TIMEOUT, Phase.SEND)],
    )


def racing_answerer(env: libexo.Environment, pace: int) -> tuple[list[int], list[int]]:
    """Take calls and answer them at about the pace at which they are given up; return both."""
    taken: list[int] = []
    answered: list[int] = []

    def answer(message: Message) -> None:
        env.thread.reply(message, message)
        answered.append(message.words[0])

    for turn in range(60):
        env.thread.sleep(0.0007 * (turn * pace % 5))
        try:
            _, message = env.thread.wait(timeout=0)
        except IpcTimeout:
            continue
        taken.append(message.words[0])
        env.thread.sleep(0.0016 + 0.0001 * (turn * pace % 8))
        failure_of(partial(answer, message))
    return taken, answered


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_both_sides_agree_on_answers(seed: int) -> None:
    """In every race of answering and giving up, the two sides agree on each call: answered, taken, or neither."""
    with simulated(seed=seed) as system:
        server = system.spawn(partial(racing_answerer, pace=seed + 1), "answerer")
        caller = system.spawn(racing_caller)
        system.run()
        assert isinstance(caller.result, tuple)
        assert isinstance(server.result, tuple)
        assert caller.result[0] == server.result[1]
        assert sorted(caller.result[1] + server.result[0]) == list(range(1, 25))


@pytest.mark.parametrize("at", range(1, 24))
def test_a_partner_that_ends(at: int) -> None:
    """Wherever a server is killed, its caller gets the answer or learns that nobody answers; it never hangs."""
    with simulated(seed=at, failures=Failures([Failure(FailureKind.KILL, 0, at)])) as system:
        server = system.spawn(echo, "echo")
        caller = system.spawn(lambda env: failure_of(lambda: env.thread.call(server.thread, Message())))
        system.run(caller, errors=False, seconds=5)

        assert caller.result in (None, (IpcCode.NO_PARTNER, Phase.SEND), (IpcCode.NO_PARTNER, Phase.RECEIVE))


def test_a_closed_receive_from_the_dead() -> None:
    """A receiver of one partner only learns when that one ends."""
    with simulated() as system:
        dying = system.spawn(lambda env: env.thread.sleep(1), "dying")
        waiting = system.spawn(lambda env: failure_of(lambda: env.thread.receive(dying.thread)))
        system.run()

        assert waiting.result == (IpcCode.NO_PARTNER, Phase.RECEIVE)


def test_a_call_of_no_time_that_is_taken_and_not_answered() -> None:
    """Its receiver waits for others: it has the call already, and is given no more time to take it."""

    def serve(env: Environment) -> None:
        env.thread.wait()
        env.thread.wait()

    def ask(env: Environment) -> tuple[object, bool]:
        before = env.host.now()
        failure = failure_of(lambda: env.thread.call(server.thread, Message(), timeout=0))
        return failure, env.host.now() - before < HOLD // 2

    with simulated() as system:
        server = system.spawn(serve, "server")
        client = system.spawn(ask)
        system.run(client)

        assert client.result == ((IpcCode.TIMEOUT, Phase.RECEIVE), True)


def test_a_closed_receive_from_one_that_never_was() -> None:
    """Nothing was sent: that there is no such thread is an error of the receive phase."""
    with simulated() as system:
        task = system.spawn(lambda env: failure_of(lambda: env.thread.receive(thread_id(5000))))
        system.run()

        assert task.result == (IpcCode.NO_PARTNER, Phase.RECEIVE)


def test_nobody_is_there() -> None:
    """Sending to one that never was, to an earlier version, or to oneself fails at once in the send phase."""
    with simulated() as system:
        task = system.spawn(
            lambda env: [
                failure_of(lambda t=t: env.thread.call(t, Message()))  # type: ignore[misc]
                for t in (thread_id(5000), thread_id(3), 0, env.thread.id)
            ]
        )
        system.run()

        assert task.result == [(IpcCode.NO_PARTNER, Phase.SEND)] * 4


def test_nobody_waits() -> None:
    """A reply to a thread that waits for none is refused."""
    with simulated() as system:
        task = system.spawn(lambda env: failure_of(lambda: env.thread.reply(env.thread.id, Message())))
        system.run()

        assert task.result == (IpcCode.NO_PARTNER, Phase.SEND)


def test_reply_by_message() -> None:
    """Two calls of one caller thread are each answered by their message, in any order of the callers."""

    def server(env: libexo.Environment) -> None:
        received = [env.thread.wait()[1] for _ in range(2)]
        for message in reversed(received):
            env.thread.reply(message, Message(words=message.words))

    with simulated() as system:
        server_task = system.spawn(server, "server")
        tasks = [
            system.spawn(lambda env, n=n: env.thread.call(server_task.thread, Message(words=(n,))).words)  # type: ignore[misc]
            for n in range(2)
        ]
        system.run()

        assert [task.result for task in tasks] == [(0,), (1,)]


def test_no_message() -> None:
    """An impossible message is refused before anything is sent, with the limit it breaks."""
    bad = (
        Message(label=1 << 48),
        Message(label=-1),
        Message(words=(1 << 64,)),
        Message(words=(-1,)),
        Message(words=(0,) * 64),
        Message(items=(bytes((4 << 20) + 1),)),
    )

    def program(env: libexo.Environment) -> int:
        for message in bad:
            with pytest.raises(ValueError, match=r"label|word|string"):
                env.thread.send(thread_id(5000), message)
        return len(bad)

    with simulated() as system:
        task = system.spawn(program)
        system.run()

        assert task.result == 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_over_a_bad_line(seed: int) -> None:
    """Over a line that loses, repeats, delays and cuts, calls end in their own answer or in an error."""

    def caller(env: libexo.Environment) -> list[int]:
        to, wrong = env.lookup("echo", 1), []
        for n in range(40):
            try:
                answer = env.thread.call(to, Message(words=(n,)), timeout=0.05)
            except IpcError:
                continue
            wrong += [n] * (answer.words != (n,))
        return wrong

    odds = Odds(drop=0.1, delay=0.15, duplicate=0.15, cut=0.1)
    with simulated(seed=seed, wrap=lambda plain, _: FaultyTransport(plain, seed=seed, odds=odds)) as system:
        system.spawn(echo, "echo")
        task = system.spawn(caller)
        system.run(task)

        assert task.result == []


def test_errors_say_what_happened() -> None:
    """No-partner errors name the thread as people read it."""
    with simulated() as system:
        task = system.spawn(lambda env: env.thread.call(thread_id(5000), Message()))
        with pytest.raises(NoPartner, match=r"5000\.1"):
            system.run()
        assert task.error is not None

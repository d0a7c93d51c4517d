"""Handlers of signals that make calls of their own, at the steps of the call they interrupt.

Here a handler is a function that runs once, at a chosen step of its strand: between two steps of libexo, or while
the host waits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from libexo.environment import Environment
from libexo.errors import NoPartner, NotFound
from libexo.ipc import Message
from libexo.stub import Interface, operation, serve
from libexo.testing import System, Task, simulated
from tests.libexo import moves


class Echo(Interface, label=0x61, name="echo"):
    """Answers with what it was asked."""

    @operation(1)
    def ask(self, number: int) -> int:
        """Return *number*."""
        raise NotImplementedError


class EchoServer(Echo):
    """Notes what it was asked."""

    def __init__(self, heard: list[int]) -> None:
        self.heard = heard

    def ask(self, number: int) -> int:
        self.heard.append(number)
        return number


@contextmanager
def echo() -> Iterator[tuple[System, list[int]]]:
    """Boot, with a server that tells what it heard."""
    heard: list[int] = []
    with simulated() as system:
        system.spawn(lambda env: serve(EchoServer(heard), "echo", env), "echo")
        yield system, heard


def by_stub(timeout: float | None) -> Callable[[Environment], Callable[[int], int]]:
    """Return what makes the callers of a stub, which are plain from the second call on."""

    def caller(env: Environment) -> Callable[[int], int]:
        return Echo.connect(env, timeout=timeout).ask

    return caller


def by_message(timeout: float | None) -> Callable[[Environment], Callable[[int], int]]:
    """Return what makes callers of ordinary messages."""

    def caller(env: Environment) -> Callable[[int], int]:
        to = env.lookup("echo", timeout=5)

        def call(number: int) -> int:
            answer = env.thread.call(to, Message(0x61, (1,), (b"\x91" + bytes([number]),)), timeout)
            [item] = answer.items
            assert isinstance(item, bytes)
            return item[0]

        return call

    return caller


CALLERS = {
    "stub": by_stub(None),
    "stub with a time-out": by_stub(9.0),
    "message": by_message(None),
    "message with a time-out": by_message(9.0),
}


@pytest.mark.parametrize("step", [moves.handle_before_waiting, moves.handle_before_sending])
@pytest.mark.parametrize("inner", CALLERS)
@pytest.mark.parametrize("outer", CALLERS)
def test_a_handler_calls_the_same_server(
    outer: str, inner: str, step: Callable[[Environment, Callable[[], object]], None]
) -> None:
    """Both calls are answered, each with its own answer, and the server hears each once."""

    def program(env: Environment) -> list[int]:
        call, inside, answers = CALLERS[outer](env), CALLERS[inner](env), list[int]()
        answers += [call(1), inside(2)]
        step(env, lambda: answers.append(inside(3)))
        rest = [call(4), call(5), inside(6)]
        return answers + rest

    with echo() as (system, heard):
        task = system.spawn(program)
        system.run(task)
        assert task.result == [1, 2, 3, 4, 5, 6]
        assert sorted(heard) == [1, 2, 3, 4, 5, 6]


def test_a_handler_interrupts_one_that_interrupts() -> None:
    """Three calls deep, each is answered."""

    def program(env: Environment) -> list[int]:
        call, answers = Echo.connect(env).ask, list[int]()
        answers.append(call(1))

        def second() -> None:
            moves.handle_before_waiting(env, lambda: answers.append(call(3)))
            answers.append(call(2))

        moves.handle_before_waiting(env, second)
        last = call(4)
        return [*answers, last]

    with echo() as (system, _):
        task = system.spawn(program)
        system.run(task)
        assert task.result == [1, 3, 2, 4]


@pytest.mark.parametrize("caller", CALLERS)
def test_a_handler_hears_of_the_end_of_the_partner(caller: str) -> None:
    """The call that it interrupted fails as it does without a handler."""
    silent: list[Task] = []

    def program(env: Environment) -> list[int]:
        call, answers, aside = CALLERS[caller](env), list[int](), Echo.connect(env, "aside").ask
        answers += [call(1), aside(2)]

        def handler() -> None:
            silent[0].kill()
            env.thread.sleep(1)
            moves.pump_gate(env)
            answers.append(aside(3))

        moves.handle_before_waiting(env, handler)
        with pytest.raises((NoPartner, NotFound)):
            call(4)
        return answers

    with echo() as (system, _):
        silent.append(system.tasks[0])
        system.spawn(lambda env: serve(EchoServer([]), "aside", env), "aside")
        task = system.spawn(program)
        system.run(task)
        assert task.result == [1, 2, 3]

"""Strands and wakers of the simulated host: one strand's traps, waits and upcalls beside another's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hwmodel.machine import Body, Descriptor
from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.machine import Outcome
from kernel.abi.gate import Status
from libexo.errors import GateClosed
from libexo.host import current
from libexo.host.base import Waker
from libexo.host.simulated import SimulatedHost
from libexo.testing import explore
from libexo.transport.inprocess import Hub
from tests.hwmodel.simulated.rig import MS, Recorder, Rig

DONE, UPCALL = bytes([Status.DONE]), bytes([Status.UPCALL])
Program = Callable[[SimulatedHost], object]


class Chatty(Recorder):
    """Answers a trap that says so after as many upcalls."""

    def trap(self, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
        for number in range(data.count(b"!")):
            body.port.send(UPCALL + data[1:] + b"%d" % number)
        super().trap(body, data, descriptors)


class Leaving(Chatty):
    """Answers one trap, and closes the gate."""

    def trap(self, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
        super().trap(body, data, descriptors)
        body.port.close()


class Stage(Rig):
    """A machine whose programs have a host."""

    def __init__(self, recorder: Recorder | None = None, **options: object) -> None:
        super().__init__(**options)
        self.recorder = recorder or Chatty()
        self.hub = Hub()

    def play(self, program: Program) -> SimulatedBody:
        return self.launch(lambda body: program(SimulatedHost(body, self.hub.transport(), self.hub.ready)))


@contextmanager
def stage(recorder: Recorder | None = None, **options: object) -> Iterator[Stage]:
    made = Stage(recorder, **options)
    try:
        yield made
    finally:
        made.machine.close()


def pause(host: SimulatedHost) -> None:
    """Hand over, ready to go on at once."""
    host.wait((), 0)


def join(host: SimulatedHost, *works: Callable[[], object]) -> None:
    """Do each of *works* in a strand of its own, until the last is done."""
    left = list(range(len(works)))
    waker = host.waker()

    def strand(number: int) -> None:
        works[number]()
        left.remove(number)
        waker.wake()

    for number in left.copy():
        host.start_strand(lambda number=number: strand(number), f"s{number}")  # type: ignore[misc]
    while left:
        host.wait((waker,), None)
        waker.clear()
    waker.close()


def succeeds(program: Program, recorder: Recorder | None = None, **options: object) -> SimulatedBody:
    """Run *program*, which ends well, its strands too."""
    with stage(recorder, **options) as s:
        body = s.play(program)
        outcome = s.run()
        assert (body.error, body.strand_errors) == (None, [])
        assert (outcome, body.status) == (Outcome.IDLE, 0)
        return body


# ----------------------------------------------------------------------------------------------------- wakers


def test_a_strand_stands_on_its_program_s_host() -> None:
    """Every strand of a program finds the same host where `attach` asks."""
    found: list[object] = []

    def program(host: SimulatedHost) -> bool:
        join(host, *[lambda: found.append(current.get())] * 3)
        return found == [host] * 3

    assert succeeds(program).result is True


def test_a_waker_wakes_a_wait_for_several_things() -> None:
    """A wait for gate, waker and deadline ends with the first of them; a waker stays awake until it is cleared."""

    def program(host: SimulatedHost) -> list[int]:
        waker, other, woke = host.waker(), host.waker(), []

        def wake() -> None:
            host.wait((), 10 * MS)
            waker.wake()
            waker.wake()

        host.start_strand(wake, "waker")
        for _ in range(2):
            host.wait((host.gate, other, waker), 20 * MS)
            woke.append(host.now() // MS)
        waker.clear()
        host.wait((host.gate, other, waker), 20 * MS)
        return [*woke, host.now() // MS]

    assert succeeds(program).result == [10, 10, 20]


def test_a_closed_waker() -> None:
    """It cannot be waited for, and to wake it does nothing."""

    def program(host: SimulatedHost) -> None:
        waker, other = host.waker(), host.waker()
        waker.wake()
        waker.close()
        waker.wake()
        with pytest.raises(ValueError, match="closed"):
            host.wait((waker,), None)
        host.wait((other,), MS)
        assert host.now() >= MS

    succeeds(program)


def handing_on(take: Callable[[SimulatedHost, Waker, list[int]], None]) -> Program:
    """Two strands put a thing each into a box and wake a third, which takes both by *take*."""

    def program(host: SimulatedHost) -> None:
        waker, box = host.waker(), list[int]()

        def give() -> None:
            pause(host)
            box.append(1)
            waker.wake()

        join(host, give, give, lambda: take(host, waker, box))

    return program


@pytest.mark.slow
def test_no_order_loses_a_wake_up() -> None:
    """A strand that clears first and then looks finds the news in every order of the steps."""

    def take(host: SimulatedHost, waker: Waker, box: list[int]) -> None:
        while len(box) < 2:
            host.wait((waker,), None)
            waker.clear()

    assert explore(lambda choose: succeeds(handing_on(take), choose=choose)) > 30


def test_exploring_finds_a_lost_wake_up() -> None:
    """A strand that looks first and clears then is left waiting in some order, which the exploration names."""

    def take(host: SimulatedHost, waker: Waker, box: list[int]) -> None:
        while len(box) < 2:
            pause(host)
            waker.clear()
            host.wait((waker,), None)

    with pytest.raises(AssertionError) as caught:
        explore(lambda choose: succeeds(handing_on(take), choose=choose))
    assert "with choices" in caught.value.__notes__[-1]


# ------------------------------------------------------------------------------------------------------- traps


def asking(host: SimulatedHost, name: bytes, times: int) -> Callable[[], None]:
    """Trap as *name*, and check that each answer is to the question."""

    def work() -> None:
        for number in range(times):
            question = DONE + name + b"%d" % number
            assert host.gate.trap(question) == (question, [])

    return work


@pytest.mark.parametrize("seed", range(10))
def test_answers_are_never_mixed(seed: int) -> None:
    """Three strands that trap at once get each its own answers."""
    body = succeeds(
        lambda host: join(host, *(asking(host, name, 10) for name in (b"a", b"b", b"c"))), seed=seed
    )
    assert body.handovers >= 30


def test_answers_are_never_mixed_in_any_order() -> None:
    """Likewise two strands in every order there is, upcalls between question and answer."""

    def program(host: SimulatedHost) -> None:
        join(host, asking(host, b"a!", 1), asking(host, b"b", 1))
        assert host.gate.upcalls() == [UPCALL + b"a!0" + b"0"]

    assert explore(lambda choose: succeeds(program, choose=choose)) > 10


def test_upcalls_of_one_strand_s_trap_wake_another() -> None:
    """A strand that waits at the gate finds what came in with another's answer; each upcall comes out once."""
    got: list[bytes] = []

    def program(host: SimulatedHost) -> None:
        def listen() -> None:
            while len(got) < 6:
                host.wait((host.gate,), None)
                got.extend(host.gate.upcalls())

        join(host, listen, listen, asking(host, b"!!", 2), asking(host, b"!", 2))

    for seed in range(10):
        got.clear()
        with stage(seed=seed) as s:
            body = s.play(program)
            s.run()
            # One of the two listeners may wait for a seventh that never comes.
            assert (body.error, body.strand_errors, len(s.recorder.said)) == (
                None,
                [],
                5 + (body.status == 0),
            )
        assert sorted(got) == sorted(
            UPCALL + each for each in (b"!!00", b"!!01", b"!!10", b"!!11", b"!00", b"!10")
        )


def test_answers_to_one_strand_do_not_wake_another() -> None:
    """A strand that waits at the gate sleeps through the traps of others that bring no upcalls."""
    woke: list[int] = []

    def program(host: SimulatedHost) -> None:
        def listen() -> None:
            host.wait((host.gate,), 10 * MS)
            woke.append(host.now() // MS)

        join(host, listen, asking(host, b"a", 20))

    for seed in range(5):
        succeeds(program, seed=seed)
    assert woke == [10] * 5


def test_what_came_before_the_end_is_found_before_it() -> None:
    """A gate that closed behind an answer with upcalls: in every order they are found, and then that it closed."""

    def program(host: SimulatedHost) -> None:
        got: list[bytes] = []

        def look() -> None:
            while True:
                got.extend(host.gate.upcalls())
                host.wait((host.gate,), None)

        host.start_strand(asking(host, b"!", 1), "asker")
        pause(host)
        pause(host)
        with pytest.raises(GateClosed):
            look()
        assert got == [UPCALL + b"!00"]

    assert explore(lambda choose: succeeds(program, Leaving(), choose=choose)) > 5


def test_a_sure_look_waits_for_another_s_trap() -> None:
    """To look `surely` is to wait until the trap of another strand is over, whose answer brings upcalls."""
    seen: set[tuple[bool, int, int]] = set()

    def program(host: SimulatedHost) -> None:
        asked: list[bool] = []

        def ask() -> None:
            asked.append(True)
            asking(host, b"!", 1)()

        host.start_strand(ask, "asker")
        pause(host)
        pause(host)
        was_asked, first = bool(asked), host.gate.upcalls()
        seen.add((was_asked, len(first), len(host.gate.upcalls(surely=True))))

    explore(lambda choose: succeeds(program, choose=choose))
    assert seen == {(False, 0, 0), (True, 1, 0), (True, 0, 1)}


def test_a_closed_gate_tells_every_strand() -> None:
    """When the kernel closes the gate, strands in a trap, before one and at the gate all learn it."""
    told: list[str] = []

    def program(host: SimulatedHost) -> None:
        def learn(name: str, wait: Callable[[], object]) -> Callable[[], None]:
            def for_ever() -> None:
                while True:
                    wait()

            def work() -> None:
                with pytest.raises(GateClosed):
                    for_ever()
                told.append(name)

            return work

        def listen() -> None:
            host.wait((host.gate,), None)
            host.gate.upcalls()

        join(host, learn("a", asking(host, b"a", 1)), learn("b", asking(host, b"b", 1)), learn("c", listen))

    for seed in range(5):
        told.clear()
        with stage(seed=seed) as s:
            body = s.play(program)
            s.run(until=lambda: len(s.recorder.said) > 10)
            body.port.close()
            s.run()
            assert (sorted(told), body.status) == (["a", "b", "c"], 0)


def test_a_strand_killed_in_its_trap_leaves_nothing() -> None:
    """A body killed while strands are in a trap, and wait for their turn, ends; what they sent is closed."""
    with stage() as s:

        def program(host: SimulatedHost) -> None:
            for name in (b"a", b"b"):
                given = s.machine.file("x")
                given.owner = body.holder
                host.start_strand(lambda n=name, d=given: host.gate.trap(DONE + n, [d]), "asker")  # type: ignore[misc]
            host.wait((), None)

        body = s.play(program)
        s.run(until=lambda: bool(body.pipe.to_kernel))
        body.kill()
        s.run()
        body.port.close()
        assert (body.status, body.strands, body.strand_errors) == (-9, [], [])
        assert s.machine.open_descriptors() == []

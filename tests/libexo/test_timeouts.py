"""Time-outs: for ever, months, and what is none; by every face."""

import asyncio
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest

from libexo import aio, timeouts, vm
from libexo.environment import Environment
from libexo.errors import IpcTimeout, NotFound
from libexo.extent import Extent
from libexo.ipc import Message
from libexo.stub import Interface, operation, serve
from libexo.testing import simulated
from tests.kernel.puppets import theatre
from tests.libexo.virtual_loop import run

MONTHS = 1e7
NONSENSE = (math.nan, -1, -0.001, -math.inf)


class Slow(Interface, label=0x72, name="slow"):
    """Takes its time."""

    @operation(1)
    def dream(self) -> int:
        raise NotImplementedError


class SlowServer(Slow):
    """Sleeps for a while."""

    def dream(self) -> int:
        self.environment.thread.sleep(1000)
        return 7


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, None), (math.inf, None), (1e300, None), (0, 0.0), (1, 1.0), (1e9, 1e9), (Decimal("0.5"), 0.5),
     (Fraction(1, 4), 0.25), (True, 1.0)],
)  # fmt: skip
def test_meant(given: object, meant: float | None) -> None:
    """Any kind of number is seconds; None, infinity and centuries are for ever."""
    assert timeouts.seconds(given) == meant


@pytest.mark.parametrize("given", NONSENSE)
def test_no_time(given: float) -> None:
    """A value that is no number, or before now, is refused by name."""
    with pytest.raises(ValueError, match="a time-out is a number of seconds from 0"):
        timeouts.seconds(given)


@pytest.mark.parametrize("given", ["1", b"2", [3], object()])
def test_no_number(given: object) -> None:
    """So is what is no number at all."""
    with pytest.raises(TypeError, match="a time-out is a number"):
        timeouts.seconds(given)


FACES: dict[str, Callable[[Environment, float | None], object]] = {
    "call": lambda env, t: (
        env.thread.call(env.lookup("slow"), Message(Slow.label, (1,), (b"\x90",)), t).words
    ),
    "stub": lambda env, t: Slow.connect(env, timeout=t).dream(),
    "patience": lambda env, t: Slow.connect(env, patience=t).dream(),
    "lookup": lambda env, t: env.lookup("slow", t),
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("timeout", [None, math.inf, 1e9, MONTHS])
def test_long_ones(face: str, timeout: float | None) -> None:
    """A server that takes a quarter of an hour is waited for, for ever, for months or for years."""

    def late(env: Environment) -> None:
        env.thread.sleep(1)
        serve(SlowServer(), "", env)

    with simulated() as system:
        system.spawn(late, "slow")
        client = system.spawn(lambda env: FACES[face](env, timeout))
        system.run(client, seconds=5000)
        assert client.result


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("timeout", NONSENSE)
def test_wrong_ones(face: str, timeout: float) -> None:
    """A time-out that is none is said to be, and nothing was sent."""

    def program(env: Environment) -> bool:
        with pytest.raises(ValueError, match="time-out"):
            FACES[face](env, timeout)
        return True

    with simulated() as system:
        system.spawn(lambda env: serve(SlowServer(), "", env), "slow")
        client = system.spawn(program)
        system.run(client)
        assert client.result


def test_waiting_for_months() -> None:
    """To receive, to sleep and to look a name up take as long as was said."""

    def program(env: Environment) -> list[int]:
        found = []
        for wait, error in (
            (lambda: env.thread.wait(MONTHS), IpcTimeout),
            (lambda: env.lookup("nobody", 100), NotFound),
        ):
            began = env.host.now()
            with pytest.raises(error):
                wait()
            found.append((env.host.now() - began) // timeouts.SECOND)
        began = env.host.now()
        env.thread.sleep(MONTHS)
        return [*found, (env.host.now() - began) // timeouts.SECOND]

    with simulated() as system:
        client = system.spawn(program)
        system.run(client, seconds=1e9)
        assert client.result == [MONTHS, 100, MONTHS]


@pytest.mark.parametrize("timeout", [None, math.inf, 1e9])
def test_the_asyncio_face(timeout: float | None) -> None:
    """Its calls and receives take the same."""
    with theatre() as stage:
        puppet = stage.puppet("a")
        stage.system.spawn(lambda env: serve(SlowServer(), "", env), "slow")
        stage.settle()

        async def main() -> tuple[int, bool]:
            thread = aio.Thread(puppet.env)
            stub = aio.connect(Slow, thread, timeout=timeout)
            waits = asyncio.create_task(thread.wait(timeout))
            answer = await stub.dream()
            for wrong in NONSENSE:
                with pytest.raises(ValueError, match="time-out"):
                    await thread.wait(wrong)
                with pytest.raises(ValueError, match="time-out"):
                    await thread.call(1, Message(), wrong)
            is_waiting = not waits.done()
            waits.cancel()
            return answer, is_waiting

        assert run(stage, puppet, main()) == (7, True)


def test_the_longest_grace() -> None:
    """A revocation may give an hour; a grace that no trap carries is refused, as is none."""
    with theatre() as stage:
        a, b = stage.pair()
        carved = a.sys.carve(a.handles[0], 1)
        extent = Extent(carved.extent, 1, carved.first)
        a.sys.transfer(extent.handle, b.thread, 4)

        assert vm.revoke(a.env, extent, 3600) == 1
        for wrong in (math.inf, 1e9, *NONSENSE):
            with pytest.raises(ValueError, match=r"seconds = |timeout = "):
                vm.revoke(a.env, extent, wrong)

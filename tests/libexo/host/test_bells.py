"""Doorbells, on both hosts: they wake, are silenced, hang up, and never hold up the ringing side."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwmodel.simulated.descriptors import SimulatedDescriptor
from libexo.host.real import RealHost
from libexo.host.simulated import SimulatedHost
from libexo.transport.base import Bell
from tests.hwmodel.simulated.rig import MS
from tests.libexo.host.test_simulated import Stage, stage

WAITS = 20

# -------------------------------------------------------------------------------------------------- the real host


@pytest.fixture
def host() -> Iterator[RealHost]:
    """A host with a gate that nobody serves."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = RealHost(theirs, Path("/nonexistent"))
    yield made
    made.gate.close()
    ours.close()


@pytest.fixture
def bells(host: RealHost) -> Iterator[tuple[Bell, Bell]]:
    """Both sides of a ring binding's doorbells."""
    (one_waits, other_rings), (other_waits, one_rings) = (
        os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in "ab"
    )
    both = host.bell(one_waits, one_rings), host.bell(other_waits, other_rings)
    yield both
    for bell in both:
        bell.close()


def wakes(host: RealHost, bell: Bell) -> bool:
    """Say whether a wait for *bell* ends before its deadline: on a busy machine, one of a few."""
    for _ in range(WAITS):
        deadline = host.now() + 5_000_000
        host.wait((host.gate, bell), deadline)
        if host.now() < deadline:
            return True
    return False


@pytest.mark.parametrize("with_transport", [False, True])
def test_a_doorbell_wakes_the_other_side(
    host: RealHost,
    bells: tuple[Bell, Bell],
    with_transport: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """However often it is rung, one silencing makes waits last again; with ZeroMQ's poll, and without."""
    if with_transport:
        host.transport.close()
    one, other = bells
    one.ring()
    one.ring()

    assert (wakes(host, other), wakes(host, one)) == (True, False)
    assert (other.silence(), other.silence(), wakes(host, other)) == (True, True, False)


def test_ringing_never_waits(bells: tuple[Bell, Bell]) -> None:
    """Not when the other side is rung far more often than it listens, and not when it is gone."""
    one, other = bells
    for _ in range(1 << 17):
        one.ring()
    other.close()
    one.ring()

    assert one.silence() is False


@pytest.mark.parametrize("with_transport", [False, True])
def test_a_doorbell_that_hung_up(
    host: RealHost,
    bells: tuple[Bell, Bell],
    with_transport: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The end of the other side wakes; what it rang before is taken first, and then there is nothing any more."""
    if with_transport:
        host.transport.close()
    one, other = bells
    one.ring()
    one.close()

    assert (wakes(host, other), other.silence()) == (True, True)
    assert (wakes(host, other), other.silence()) == (True, False)


def test_a_closed_doorbell(host: RealHost, bells: tuple[Bell, Bell]) -> None:
    """It cannot be waited for; to ring, silence or close it again touches nobody's descriptor."""
    one, _ = bells
    number = one.fileno()
    one.close()
    other = os.eventfd(1, os.EFD_NONBLOCK)
    assert other == number
    one.ring()
    one.close()
    with pytest.raises(ValueError, match="closed"):
        host.wait((one,), None)

    assert (one.silence(), os.eventfd_read(other)) == (False, 1)
    os.close(other)


# --------------------------------------------------------------------------------------------- the simulated host


def given(s: Stage, holder: str) -> list[SimulatedDescriptor]:
    """Return two doorbells' ends, of which the first two are for one side."""
    (one_waits, other_rings), (other_waits, one_rings) = s.machine.bell(), s.machine.bell()
    ends = [one_waits, one_rings, other_waits, other_rings]
    for end in ends:
        end.owner = holder
    return ends


def test_simulated_doorbells_wake_the_other_side() -> None:
    """As on the real host: rung twice, woken once, and nobody else is."""

    def program(host: SimulatedHost) -> list[int]:
        waits, rings, other_waits, other_rings = given(s, "program")
        one, other, woke = host.bell(waits, rings), host.bell(other_waits, other_rings), list[int]()

        def ring() -> None:
            host.wait((), 10 * MS)
            one.ring()
            one.ring()

        host.start_strand(ring, "ringer")
        for deadline in (20 * MS, 30 * MS):
            host.wait((host.gate, other), deadline)
            woke.append(host.now() // MS)
            assert other.silence()
        host.wait((one,), 40 * MS)
        woke.append(host.now() // MS)
        return woke

    with stage() as s:
        body = s.play(program)
        s.run()
        assert body.result == [10, 30, 40]


@pytest.mark.parametrize(("killed", "end"), [(False, 10), (True, 5)])
def test_simulated_doorbells_hang_up_with_their_program(
    killed: bool,  # noqa: FBT001 - a column of the table
    end: int,
) -> None:
    """A program that ends, however it does, hangs up; what it rang before is taken first."""

    def rings(host: SimulatedHost) -> None:
        for descriptor in ends[:2]:
            descriptor.owner = ringer.holder
        host.bell(*ends[:2]).ring()
        host.wait((), 10 * MS)

    def waits(host: SimulatedHost) -> list[object]:
        bell = host.bell(*ends[2:])
        found: list[object] = []
        for _ in range(2):
            host.wait((bell,), None)
            found += (host.now() // MS, bell.silence())
        return found

    with stage() as s:
        ends = given(s, "kernel")
        ringer, waiter = s.play(rings), s.play(waits)
        s.machine.clock.alarm(5 * MS, ringer.kill if killed else lambda: None)
        s.run()
        assert waiter.result == [0, True, end, False]


def test_simulated_doorbells_can_be_closed() -> None:
    """One that was closed cannot be waited for; it has hung up for the other side, and leaves nothing open."""
    with stage() as s:

        def program(host: SimulatedHost) -> None:
            waits, rings, other_waits, other_rings = given(s, "program")
            one, other = host.bell(waits, rings), host.bell(other_waits, other_rings)
            one.close()
            one.ring()
            host.wait((other,), None)
            assert (other.silence(), one.silence()) == (False, False)
            with pytest.raises(ValueError, match="closed"):
                host.wait((one,), None)
            other.ring()
            other.close()

        body = s.play(program)
        s.run()
        assert (body.error, s.machine.open_descriptors()) == (None, [])


def test_what_is_no_doorbell() -> None:
    """The ends must be of the right kind, and in the right order, and open."""

    def program(host: SimulatedHost) -> None:
        waits, rings, _, _ = given(s, "program")
        for wrong in ((rings, waits), (waits, waits), (waits, s.machine.file("x"))):
            with pytest.raises(OSError, match="not ends of doorbells"):
                host.bell(*wrong)
        with pytest.raises(TypeError, match="not a descriptor"):
            host.bell(waits, 5)
        rings.close()
        with pytest.raises(OSError, match="closed"):
            host.bell(waits, rings)

    with stage() as s:
        body = s.play(program)
        s.run()
        assert body.error is None

"""Bindings with a ring: what both sides get, and how each hears of the end."""

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Rights
from tests.kernel.controls import root
from tests.kernel.puppets import KILLED, faults, ram_of, refusal, theatre, unbound
from tests.kernel.rings import FRAMES, SIZE, Pair, bound, carve, granted, mapped, pair, received
from tests.kernel.test_bindings import bind, epoch
from tests.kernel.test_redirection import redirect

# ------------------------------------------------------------------------------------------------- what it gives


def test_both_sides_see_one_memory() -> None:
    """One side reads what the other writes; the memory is as large as the extent and begins as zeros."""
    with theatre() as stage:
        p = pair(stage)
        assert (len(p.sends.memory), bytes(p.receives.memory)) == (SIZE, bytes(SIZE))
        p.sends.memory[5], p.receives.memory[6] = 1, 2

        assert (p.receives.memory[5], p.sends.memory[6]) == (1, 2)


def test_each_side_rings_at_the_other() -> None:
    """A ring wakes the other side, once, and not the one who rang."""
    with theatre() as stage:
        p = pair(stage)
        deadline = stage.machine.clock.now() + 10**9
        stage.machine.clock.alarm(deadline, lambda: None)
        for one, other, host in ((p.sends, p.receives, p.b.host), (p.receives, p.sends, p.a.host)):
            one.bell.ring()
            host.wait((other.bell,), None)
            assert (other.bell.silence(), other.bell.silence()) == (True, True)
        p.a.host.wait((p.sends.bell,), deadline)

        assert stage.machine.clock.now() == deadline


def test_a_binding_without_a_ring_has_none() -> None:
    """A sender that does not pay gets two tickets and no memory, and so does the receiver."""
    with theatre() as stage:
        a, b = stage.pair()
        binding, mine = a.sys.bind(b.thread)
        a.connect(binding.address)
        [arrived], theirs = b.sys.incoming()
        for puppet, tickets in ((a, mine), (b, theirs)):
            for ticket in tickets:
                puppet.host.close_descriptor(ticket)

        assert (binding.ring, len(mine), arrived.who.ring, len(theirs)) == (0, 2, 0, 3)


def test_bound_to_oneself() -> None:
    """A thread may have a ring to itself; its end takes the binding once."""
    with theatre() as stage:
        a = stage.puppet("a", holds=("ram",))
        sends = bound(a, a, carve(a))
        receives = received(a, sends.token)
        receives.memory[0] = 3

        assert sends.memory[0] == 3


def test_a_ring_beside_plain_bindings() -> None:
    """To one receiver a sender may have both kinds; the end of the one leaves the other."""
    with theatre() as stage:
        p = pair(stage)
        plain = bind(p.a, p.b.thread).token
        p.a.sys.unbind(p.sends.token)

        who = p.b.sys.identify(plain)
        assert (who.thread, who.environment, who.ring) == (p.a.thread, p.a.environment.number, 0)


# --------------------------------------------------------------------------------------------- while it stands


def test_what_was_mapped_before_is_taken() -> None:
    """Holders that had the extent mapped lose that memory, even if they gave the capability up."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carve(a)
        offer = a.sys.transfer(extent, b.thread, int(Rights.READ))
        theirs = b.sys.accept(a.thread, offer).handle
        views = [mapped(a, extent), mapped(b, theirs)]
        b.sys.drop(theirs)
        sends = bound(a, b, extent)
        sends.memory[0] = 1

        assert [faults(view) for view in views] == [True, True]


def test_ring_memory_is_not_passed_on() -> None:
    """It cannot be mapped by its handle, offered, or derived from; it can be inspected; a revoke finds nothing."""
    with theatre() as stage:
        p = pair(stage)
        sys, extent = p.a.sys, p.extent
        refused = [
            refusal(sys.map_extent, extent),
            refusal(sys.derive, extent, int(Rights.READ)),
            refusal(sys.transfer, extent, p.b.thread, int(Rights.READ)),
            refusal(sys.transfer, extent, p.b.thread, int(ALL_RIGHTS), grant=True),
        ]
        p.sends.memory[0] = 4

        assert refused == [Refusal.RING_MEMORY] * 4
        assert (sys.revoke(extent), sys.inspect(extent).count) == ((0, []), FRAMES)
        assert p.receives.memory[0] == 4


def test_its_frames_are_the_senders() -> None:
    """They are accounted to the payer, while the binding stands and afterwards."""
    with theatre() as stage:
        p = pair(stage)
        during = p.a.environment.frames, p.b.environment.frames
        p.a.sys.unbind(p.sends.token)

        assert (during, p.a.environment.frames) == ((FRAMES, 0), FRAMES)


# ---------------------------------------------------------------------------------------------------- how it ends


def assert_ordinary(p: Pair) -> None:
    """The extent is the sender's as any other, of zeros; what was mapped stays as it is, and is nobody else's."""
    view = mapped(p.a, p.extent)
    assert bytes(view) == bytes(SIZE)
    p.sends.memory[1], p.receives.memory[2], view[3] = 1, 2, 3
    assert (bytes(view[:4]), bytes(p.sends.memory[1:4])) == (b"\0\0\0\3", b"\1\2\0")
    copy = p.a.sys.derive(p.extent, int(Rights.READ))
    p.a.sys.drop(copy)
    again = bound(p.a, p.a, p.extent)
    assert faults(view)
    p.a.sys.unbind(again.token)
    p.a.sys.drop(p.extent)
    assert p.a.environment.frames == 0


def test_unbound() -> None:
    """A binding that was given up leaves an ordinary extent; the receiver learns of it by the epoch."""
    with theatre() as stage:
        p = pair(stage)
        before = epoch(stage)
        p.sends.memory[0] = 1
        p.a.sys.unbind(p.sends.token)

        assert (epoch(stage), p.a.told(), p.b.told()) == (before + 1, [], [])
        assert refusal(p.b.sys.identify, p.sends.token) == Refusal.UNKNOWN_TOKEN
        assert_ordinary(p)


def test_a_dead_receiver() -> None:
    """The sender is told, its doorbell reads as hung up, and it has its extent back."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carve(a)
        sends = bound(a, b, extent)
        receives = received(b, sends.token)
        rung = sends.bell.silence()
        sends.memory[0] = 5
        stage.kill(b)
        a.host.wait((sends.bell,), None)

        assert (rung, sends.bell.silence(), a.told()) == (
            True,
            False,
            [(Label.PARTNER_GONE, (b.thread, *KILLED))],
        )
        assert faults(receives.memory)
        assert (sends.memory[0], mapped(a, extent)[0]) == (5, 0)


def test_a_receiver_that_never_asked() -> None:
    """The sender's doorbell hangs up with a binding that its receiver never took."""
    with theatre() as stage:
        a, b = stage.pair()
        sends = bound(a, b, carve(a))
        before = sends.bell.silence()
        a.sys.unbind(sends.token)

        assert (before, sends.bell.silence()) == (True, False)


def test_a_dead_sender() -> None:
    """The receiver's doorbell reads as hung up after what was rung; its mapping stays, and nothing faults."""
    with theatre() as stage:
        p = pair(stage)
        p.sends.bell.ring()
        frames = stage.kernel.frames.free
        stage.kill(p.a)
        p.b.host.wait((p.receives.bell,), None)

        assert (p.receives.bell.silence(), p.receives.bell.silence()) == (True, False)
        assert (bytes(p.receives.memory), p.b.told()) == (bytes(SIZE), [])
        assert stage.kernel.frames.free == frames + FRAMES
        assert refusal(p.b.sys.identify, p.sends.token) == Refusal.UNKNOWN_TOKEN


def test_dropped() -> None:
    """When the sender drops the extent, the frames are free, the binding falls, and its exchanges end as usual."""
    with theatre() as stage:
        p = pair(stage)
        before, frames = epoch(stage), stage.kernel.frames.free
        p.a.sys.drop(p.extent)

        assert (stage.kernel.frames.free, epoch(stage)) == (frames + FRAMES, before + 1)
        assert (p.a.told(), p.b.told()) == ([unbound(p.b, p.sends.token)], [])
        assert refusal(p.a.sys.unbind, p.sends.token) == Refusal.UNKNOWN_TOKEN
        p.sends.memory[0], p.receives.memory[1] = 1, 2
        assert bytes(p.sends.memory[:2]) == b"\1\2"


def test_revoked() -> None:
    """A memory server takes what it granted back, ring or not: both sides hear of it, and nobody faults."""
    with theatre() as stage:
        a, b = stage.pair()
        server = stage.puppet("server", holds=("ram",))
        pool, extent = granted(server, a)
        sends = bound(a, b, extent)
        server.sys.revoke(pool)

        assert a.told() == [(Label.REVOKED, (extent,)), unbound(b, sends.token)]
        assert refusal(b.sys.identify, sends.token) == Refusal.UNKNOWN_TOKEN
        assert bytes(sends.memory) == bytes(SIZE)


@pytest.mark.parametrize("obeys", [True, False])
def test_asked_back(obeys: bool) -> None:  # noqa: FBT001 - a column of the table
    """A holder asked for the extent may unbind and drop it; at the deadline it is taken."""
    with theatre() as stage:
        a, b = stage.pair()
        server = stage.puppet("server", holds=("ram",))
        pool, extent = granted(server, a)
        sends = bound(a, b, extent)
        server.sys.revoke(pool, 1000)
        asked = a.told()
        if obeys:
            a.sys.unbind(sends.token)
            a.sys.drop(extent)
        stage.pass_time(2)

        taken = [(Label.REVOKED, (extent,)), unbound(b, sends.token)]
        assert (asked, a.told()) == ([(Label.REVOKE, (extent, 1000, 0))], [] if obeys else taken)
        assert a.environment.frames == 0


def test_redirected() -> None:
    """A sender whose messages are to go elsewhere is told, and has its extent back."""
    with theatre() as stage:
        p, boss, chief = pair(stage), root(stage), stage.puppet("chief")
        redirect(boss, p.a, chief.thread)

        assert p.a.told() == [(Label.PARTNER_GONE, (p.b.thread,))]
        assert_ordinary(p)


def test_the_frames_next_owner() -> None:
    """The next owner of the frames shares nothing with those who still have the ring mapped."""
    with theatre(ram_of(64)) as stage:
        p = pair(stage)
        p.a.sys.drop(p.extent)
        extents = [carve(p.a, 1) for _ in range(stage.kernel.frames.free)]
        p.receives.memory[:] = b"\1" * SIZE

        assert not any(any(mapped(p.a, extent)) for extent in extents)


def test_a_successor() -> None:
    """The heir of a sender gets the extent as an ordinary one, and may pay with it again."""
    with theatre() as stage:
        a, b = stage.puppet("a", holds=("ram",), keeps=True), stage.puppet("b")
        stage.system.give(stage.puppet("root").task, a.environment)
        extent = carve(a)
        receives = received(b, bound(a, b, extent).token)
        stage.kill(a)
        heir = stage.heir(a)
        heir.host.unmap(mapped(heir, extent))
        again = bound(heir, b, extent)
        again.memory[0] = 1

        assert (receives.bell.silence(), receives.memory[0]) == (False, 0)
        assert received(b, again.token).memory[0] == 1


def test_the_end_of_both() -> None:
    """Both ends of a ring binding may end at once, in either order."""
    for order in (1, -1):
        with theatre() as stage:
            p = pair(stage)
            stage.kill(*(p.a, p.b)[::order])
            assert stage.kernel.frames.free == stage.kernel.frames.total

"""RAM and extents: which frames are whose, and what becomes of memory that is taken back."""

import pytest

from hwmodel.simulated.mmu import JUNK
from kernel.abi.errors import Refusal
from kernel.abi.events import RECORD, Event
from kernel.abi.kip import FRAMES
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Kind, Rights
from libexo import vm
from libexo.extent import Extent
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, faults, ram_of, refusal, theatre
from tests.libexo import moves

READ, WRITE, CONTROL, TRANSFER = Rights.READ, Rights.WRITE, Rights.CONTROL, Rights.TRANSFER


def carved(puppet: Puppet, pages: int = 1) -> Extent:
    made = puppet.sys.carve(puppet.handles[0], pages)
    return Extent(made.extent, pages, made.first)


def users(stage: Theatre) -> dict[str, int]:
    return {e.name: e.frames for e in stage.kernel.environments if e.frames}


def test_carve_first_fit() -> None:
    """Without a wish, the lowest free run that is long enough is carved."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        handles = [a.sys.carve(a.handles[0], 4).extent for _ in range(3)]
        a.sys.drop(handles[1])

        assert [a.sys.carve(a.handles[0], n).first for n in (5, 3, 1)] == [12, 4, 7]


def test_carve_by_number() -> None:
    """With a wish, exactly those frames are carved, or none."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))

        assert a.sys.carve(a.handles[0], 3, 100).first == 100
        assert refusal(a.sys.carve, a.handles[0], 1, 101) == Refusal.FRAME_BUSY
        assert refusal(a.sys.carve, a.handles[0], 9, 95) == Refusal.FRAME_BUSY


@pytest.mark.parametrize(("count", "first"), [(0, -1), (257, 0), (1, 256), (2, 255)])
def test_carve_outside(count: int, first: int) -> None:
    """No frames, and frames outside the range, are refused as arguments."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))

        assert refusal(a.sys.carve, a.handles[0], count, first) == Refusal.BAD_ARGUMENT


def test_carve_more_than_there_is() -> None:
    """When no free run is long enough, even if enough frames are free, the carve is refused."""
    with theatre(ram_of(8)) as stage:
        a = stage.puppet(holds=("ram",))
        a.sys.carve(a.handles[0], 1, 4)

        assert refusal(a.sys.carve, a.handles[0], 5) == Refusal.NO_FRAMES
        assert a.sys.carve(a.handles[0], 4).first == 0


def test_carve_from_a_part() -> None:
    """The holder of a part of RAM carves there and nowhere else."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        part = a.sys.derive(a.handles[0], CONTROL, 10, 5)

        assert a.sys.carve(part, 5).first == 10
        assert refusal(a.sys.carve, part, 1) == Refusal.NO_FRAMES
        assert refusal(a.sys.carve, part, 1, 20) == Refusal.BAD_ARGUMENT


def test_extent_rights_come_from_ram() -> None:
    """An extent carries the rights of the RAM it was carved through, and EXECUTE."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        part = a.sys.derive(a.handles[0], CONTROL | READ)

        extent = a.sys.carve(part, 1).extent
        assert a.sys.inspect(extent).rights == CONTROL | READ | Rights.EXECUTE


def test_map_follows_the_rights() -> None:
    """A mapping is writable exactly when the capability carries WRITE, and needs READ."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a)
        views = [a.env.views.map(a.sys.derive(extent.handle, rights)) for rights in (READ, READ | WRITE)]
        views[1][0] = 5

        assert [view.readonly for view in views] == [True, False]
        assert views[0][0] == 5
        assert refusal(a.sys.map_extent, a.sys.derive(extent.handle, WRITE)) == Refusal.MISSING_RIGHT


def test_a_read_only_descriptor_stays_read_only() -> None:
    """The descriptor of a read-only capability cannot be mapped for writing."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        _, descriptor = a.sys.map_extent(a.sys.derive(carved(a).handle, READ))

        with pytest.raises(PermissionError):
            a.host.map(descriptor, FRAME_SIZE, writable=True)


def test_freed_frames_are_junk() -> None:
    """Frames that were used before hold junk when they are carved again, and zeros when zeros are asked for."""
    with theatre(ram_of(2)) as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a)
        a.env.views.map(extent.handle)[:6] = b"secret"
        a.sys.drop(extent.handle)
        again = a.sys.carve(a.handles[0], 2, zero=False).extent
        junk = bytes(a.env.views.map(again))
        a.sys.drop(again)

        assert junk == bytes([JUNK]) * FRAME_SIZE + bytes(FRAME_SIZE)
        assert bytes(a.env.views.map(carved(a, 2).handle)) == bytes(2 * FRAME_SIZE)


def test_revoked_share() -> None:
    """A mapped share is revoked: the owner's view goes on with its bytes, the loser's faults."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        mine = vm.map(a.env, extent)
        mine[:4] = b"mine"
        yours = b.env.views.map(passed(a, extent.handle, b, READ))

        assert vm.revoke(a.env, extent) == 1
        assert (bytes(mine[:4]), faults(yours)) == (b"mine", True)


def test_revoked_share_tells_the_others() -> None:
    """Another owner, not the one who revoked, is told that its memory moved, and maps it again."""
    with theatre() as stage:
        a, b, c = stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")
        extent = carved(a)
        views = [vm.map(a.env, extent)]
        b_handle = passed(a, extent.handle, b, READ | WRITE | TRANSFER)
        views.append(b.env.views.map(b_handle))
        c.env.views.map(passed(b, b_handle, c, READ))
        vm.revoke(b.env, Extent(b_handle, 1, 0))
        moves.pump_gate(a.env)
        views[0][0] = 9

        assert (views[1][0], stage.system.kernel.frames.free) == (9, 255)


def test_a_share_never_mapped_moves_nothing() -> None:
    """When no loser had it mapped, the memory stays where it is: no descriptor comes back."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        vm.map(a.env, extent)
        passed(a, extent.handle, b, READ)

        assert a.sys.revoke(extent.handle) == (1, [])
        assert a.told() == []


def test_revoke_at_the_deadline_moves_the_memory() -> None:
    """At a deadline there is no reply: the owner itself is told that its memory moved."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        mine = vm.map(a.env, extent)
        yours = b.env.views.map(passed(a, extent.handle, b, READ))
        a.sys.revoke(extent.handle, 1000)
        stage.pass_time(2)

        assert (faults(mine), faults(yours)) == (True, True)
        assert a.told() == [(Label.MOVED, (extent.handle, 0, 1))]


def test_dropped_but_still_mapped() -> None:
    """A holder that dropped a share and kept it mapped loses the mapping at the next revoke."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        mine = vm.map(a.env, extent)
        share = passed(a, extent.handle, b, READ)
        yours = b.env.views.map(share)
        b.sys.drop(share)

        assert vm.revoke(a.env, extent) == 0
        assert (faults(mine), faults(yours)) == (False, True)


def test_shares_that_are_dropped_move_nothing() -> None:
    """A receiver that maps and drops shares again and again takes nothing from the owner's view."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        mine = vm.map(a.env, extent)
        for _ in range(3):
            share = passed(a, extent.handle, b, READ)
            b.env.views.map(share)
            b.sys.drop(share)

        assert (faults(mine), a.told()) == (False, [])


@pytest.mark.parametrize("trap", ["revoke", "drop"])
def test_what_is_taken_from_oneself_moves_nothing(trap: str) -> None:
    """The receiver of a share can map its derivatives and take them back: the owner's view stays."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        mine = vm.map(a.env, extent)
        share = passed(a, extent.handle, b, READ)
        b.env.views.map(b.sys.derive(b.sys.derive(share, READ), READ))
        getattr(b.sys, trap)(share)

        assert (faults(mine), a.told()) == (False, [])


def test_what_was_left_by_way_of_oneself_is_still_taken() -> None:
    """A holder that dropped its derivatives, then their parent, loses its view with the owner's next revoke."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        mine = vm.map(a.env, extent)
        share = passed(a, extent.handle, b, READ)
        derived = b.sys.derive(share, READ)
        yours = b.env.views.map(derived)
        b.sys.drop(derived)
        b.sys.drop(share)
        before = faults(yours)

        assert vm.revoke(a.env, extent) == 0
        assert (before, faults(mine), faults(yours)) == (False, False, True)


def test_what_a_third_left_is_still_taken() -> None:
    """A share that was passed on, mapped and dropped is taken by the owner, though both others are gone from it."""
    with theatre() as stage:
        a, b, c = stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")
        extent = carved(a)
        mine = vm.map(a.env, extent)
        mine[:4] = b"mine"
        share = passed(a, extent.handle, b, READ | TRANSFER)
        passed_on = passed(b, share, c, READ)
        theirs = c.env.views.map(passed_on)
        c.sys.drop(passed_on)
        b.sys.drop(share)

        assert (a.told(), faults(theirs)) == ([], False)
        assert vm.revoke(a.env, extent) == 0
        assert (bytes(mine[:4]), faults(theirs)) == (b"mine", True)


def test_granted_and_still_mapped() -> None:
    """A grant of a mapped extent takes it from the giver; the receiver finds its bytes."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carved(a)
        mine = vm.map(a.env, extent)
        mine[:4] = b"gift"
        there = passed(a, extent.handle, b, ALL_RIGHTS, grant=True)

        assert faults(mine)
        assert bytes(b.env.views.map(there)[:4]) == b"gift"


def test_dead_owner_of_a_share() -> None:
    """When the owner ends, what it shared is taken from those it shared it with, and the frames are free."""
    with theatre() as stage:
        a, b = stage.pair()
        yours = b.env.views.map(passed(a, carved(a).handle, b, READ))
        stage.kill(a)

        assert (faults(yours), stage.kernel.frames.free) == (True, 256)
        assert b.told()[0][0] == Label.REVOKED


def test_revoking_ram() -> None:
    """Revoking RAM takes every extent carved through it, from all holders."""
    with theatre() as stage:
        a, b = stage.pair()
        pool = a.sys.derive(a.handles[0], ALL_RIGHTS)
        extent = a.sys.carve(pool, 7).extent
        yours = b.env.views.map(passed(a, extent, b, ALL_RIGHTS, grant=True))

        assert a.sys.revoke(pool)[0] == 1
        assert (faults(yours), users(stage), stage.kernel.frames.free) == (True, {}, 256)


def test_carver_is_the_user() -> None:
    """Carved frames count as the carver's, in its row and in the table of frames."""
    with theatre() as stage:
        a = stage.puppet("a", holds=("ram",))
        a.sys.carve(a.handles[0], 3, 5)
        table = stage.kernel.kip._buffer[FRAMES : FRAMES + 40].cast("I").tolist()

        assert users(stage) == {"a": 3}
        assert table == [0] * 5 + [a.environment.number + 1] * 3 + [0] * 2


@pytest.mark.parametrize("grant", [True, False])
def test_receiver_is_the_user(grant: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Frames that their carver gave away count as the receiver's, whether mapped or granted."""
    with theatre() as stage:
        a, b = stage.pair()
        passed(a, carved(a, 3).handle, b, ALL_RIGHTS, grant=grant)

        assert users(stage) == {"b": 3}


def test_sharing_on_changes_no_account() -> None:
    """Frames stay accounted to the one that got them from their carver, even when others map them."""
    with theatre() as stage:
        a, b, c = stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")
        granted = passed(a, carved(a, 3).handle, b, ALL_RIGHTS, grant=True)
        passed(b, granted, c, READ)

        assert users(stage) == {"b": 3}


def test_user_keeps_the_account_while_it_holds_any() -> None:
    """Dropping one of two capabilities to the same frames changes nothing in whose they are."""
    with theatre() as stage:
        a, b = stage.pair()
        mapped = passed(a, carved(a, 3).handle, b, ALL_RIGHTS)
        b.sys.drop(b.sys.derive(mapped, READ))

        assert users(stage) == {"b": 3}


def test_account_falls_back() -> None:
    """When the user gives its last capability up, the frames count for another holder."""
    with theatre() as stage:
        a, b = stage.pair()
        b.sys.drop(passed(a, carved(a, 3).handle, b, ALL_RIGHTS))

        assert users(stage) == {"a": 3}


def test_freed_frames_are_traced() -> None:
    """The event ring says when frames went back to RAM."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = a.sys.carve(a.handles[0], 2, 9).extent
        a.sys.drop(extent)
        trace = stage.kernel.exposure.trace
        records = [RECORD.unpack_from(trace._buffer, 4096 + n * 32) for n in range(trace._written)]

        assert [(r[4], r[5]) for r in records if r[1] == Event.TOOK] == [(9, Kind.EXTENT)]


def test_objects_show_themselves() -> None:
    """RAM, extents and capabilities say in a panic's traceback what they are."""
    with theatre() as stage:
        a = stage.puppet("a", holds=("ram",))
        a.sys.carve(a.handles[0], 2, 9)

        assert [repr(c.resource) for c in a.caps] == ["<Ram 0+256>", "<Extent 9+2>"]
        assert repr(a.caps[1]).startswith("<Capability <Extent 9+2>")

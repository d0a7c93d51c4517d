"""Capabilities: derive, pass on, revoke, drop, and the handles they go by."""

from itertools import pairwise

import pytest

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import handle_generation, handle_slot, thread_id
from kernel.abi.kip import Counter, Page
from kernel.abi.limits import MAX_DEPTH, MAX_HANDLES
from kernel.abi.messages import Label
from kernel.abi.program import Activity
from kernel.abi.rights import ALL_RIGHTS, Kind, Rights
from libexo.errors import TrapRefused
from tests.kernel.invariants import rights_grow
from tests.kernel.passing import accept, offer, passed
from tests.kernel.puppets import MS, Puppet, Theatre, refusal, theatre

READ, WRITE, CONTROL, TRANSFER = Rights.READ, Rights.WRITE, Rights.CONTROL, Rights.TRANSFER


def shared(stage: Theatre) -> tuple[Puppet, Puppet, int, int]:
    """Two puppets; the first has carved an extent and mapped it on to the second. Returns both handles."""
    a, b = stage.pair()
    extent = a.sys.carve(a.handles[0], 1).extent
    return a, b, extent, passed(a, extent, b, READ | TRANSFER)


def test_derive_narrows_rights() -> None:
    """A derivative has the rights asked for, and its parent names its holder and them."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        handle = a.sys.derive(a.handles[0], READ)

        assert a.sys.inspect(handle).rights == READ
        assert [(h.thread, h.rights) for h in a.sys.inspect(a.handles[0]).holders] == [(a.thread, READ)]


def test_rights_never_grow() -> None:
    """No right comes back that a derivative does not have, whether derived, mapped or granted."""
    with theatre() as stage:
        a, b = stage.pair()
        read = a.sys.derive(a.handles[0], READ | TRANSFER)

        assert refusal(a.sys.derive, read, READ | WRITE) == Refusal.MISSING_RIGHT
        assert refusal(offer, a, read, b, ALL_RIGHTS) == Refusal.MISSING_RIGHT
        assert refusal(offer, a, read, b, ALL_RIGHTS, grant=True) == Refusal.MISSING_RIGHT


def test_rights_that_are_none() -> None:
    """Bits beyond the rights there are are refused as such."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))

        assert refusal(a.sys.derive, a.handles[0], 32) == Refusal.BAD_ARGUMENT


def test_derive_part_of_ram() -> None:
    """A derivative of RAM may be to a part of it: given first and count, or to the end."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        part = a.sys.derive(a.handles[0], CONTROL, 10, 5)
        rest = a.sys.derive(a.handles[0], CONTROL, 200)
        head = a.sys.derive(a.handles[0], CONTROL, count=7)

        found = [a.sys.inspect(handle) for handle in (part, rest, head)]
        assert [(i.first, i.count) for i in found] == [(10, 5), (200, 56), (0, 7)]


@pytest.mark.parametrize(("first", "count"), [(0, 257), (256, 0), (250, 7), (9, 1), (15, 1), (10, 6)])
def test_derive_outside(first: int, count: int) -> None:
    """A part that is not inside the range is refused."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        ram = a.handles[0] if count not in {1, 6} else a.sys.derive(a.handles[0], CONTROL, 10, 5)

        assert refusal(a.sys.derive, ram, CONTROL, first, count) == Refusal.BAD_ARGUMENT


def test_only_ram_and_extents_have_parts() -> None:
    """A part of anything else is refused: it is passed on whole."""
    with theatre() as stage:
        a = stage.puppet(holds=("factory",))

        assert refusal(a.sys.derive, a.handles[0], READ, 0, 1) == Refusal.NOT_WHOLE


def test_map_gives_a_derivative() -> None:
    """After a map both hold it; the receiver's names its giver."""
    with theatre() as stage:
        a, b, extent, there = shared(stage)
        inspection = b.sys.inspect(there)

        assert (inspection.kind, inspection.origin) == (Kind.EXTENT, a.thread)
        assert [holder.thread for holder in a.sys.inspect(extent).holders] == [b.thread]


def test_grant_moves_what_hangs_on_it() -> None:
    """A granted capability leaves its giver, and what was derived from it hangs on the new one."""
    with theatre() as stage:
        a, b = stage.pair()
        child = a.sys.derive(a.handles[0], READ)
        there = passed(a, a.handles[0], b, ALL_RIGHTS, grant=True)
        b.sys.revoke(there)

        assert refusal(a.sys.inspect, a.handles[0]) == Refusal.STALE_HANDLE
        assert refusal(a.sys.inspect, child) == Refusal.STALE_HANDLE


def test_transfer_needs_the_right() -> None:
    """Without TRANSFER a capability stays where it is."""
    with theatre() as stage:
        a, b = stage.pair()
        kept = a.sys.derive(a.handles[0], CONTROL)

        assert refusal(offer, a, kept, b, CONTROL) == Refusal.MISSING_RIGHT


def test_transfer_to_nobody() -> None:
    """A receiver that never was, or is gone, is refused, each by its name."""
    with theatre() as stage:
        a, b = stage.pair()
        stage.kill(b)

        assert refusal(offer, a, a.handles[0], thread_id(5000), READ) == Refusal.NO_SUCH_THREAD
        assert refusal(offer, a, a.handles[0], b, READ) == Refusal.STALE_THREAD


def test_transfer_follows_the_calls() -> None:
    """An environment that may not call another may not give it anything either, unless the other calls it."""
    with theatre() as stage:
        b = stage.puppet("b")
        a = stage.puppet("a", holds=("ram",), may_bind=[1])
        before = refusal(offer, a, a.handles[0], b, READ)
        for ticket in b.sys.trap(traps.Bind(a.thread))[1]:
            b.host.close_descriptor(ticket)

        assert before == Refusal.MAY_NOT_BIND
        assert b.sys.inspect(passed(a, a.handles[0], b, READ)).rights == READ


def test_transfer_to_oneself() -> None:
    """One may map or grant to oneself; a grant gives a new handle."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = a.sys.carve(a.handles[0], 1).extent
        moved = passed(a, extent, a, READ, grant=True)

        assert a.sys.inspect(moved).count == 1
        assert refusal(a.sys.inspect, extent) == Refusal.STALE_HANDLE


def test_revoke_spares_the_capability() -> None:
    """A revoke takes all that was derived, says how many, and leaves the capability itself."""
    with theatre() as stage:
        a, _, extent, there = shared(stage)
        a.sys.derive(extent, READ)

        assert a.sys.revoke(extent)[0] == 2
        assert a.sys.inspect(extent).holders == ()
        assert there not in [c.handle for c in stage.puppets[1].caps]


def test_revoke_reaches_everybody() -> None:
    """Capabilities passed on by their receivers are taken too, from all of them."""
    with theatre() as stage:
        line = [stage.puppet(f"p{n}", holds=("ram",) if not n else ()) for n in range(5)]
        handle = line[0].handles[0]
        for giver, taker in pairwise(line):
            handle = passed(giver, handle, taker, READ | TRANSFER)

        assert line[0].sys.revoke(line[0].handles[0])[0] == 4
        assert [len(puppet.caps) for puppet in line] == [1, 0, 0, 0, 0]


def test_chains_are_bounded() -> None:
    """After MAX_DEPTH derivations, one from another, there is no further one, nor a carve or an offer."""
    with theatre() as stage:
        a, b = stage.pair()
        handle = a.handles[0]
        for _ in range(MAX_DEPTH):
            handle = a.sys.derive(handle, ALL_RIGHTS & ~Rights.EXECUTE)

        assert refusal(a.sys.derive, handle, READ) == Refusal.TOO_DEEP
        assert refusal(a.sys.carve, handle, 1) == Refusal.TOO_DEEP
        assert refusal(a.sys.transfer, handle, b.thread, READ) == Refusal.TOO_DEEP
        assert stage.kernel.frames.free == stage.kernel.frames.total
        assert a.sys.revoke(a.handles[0])[0] == MAX_DEPTH
        assert len(a.caps) == 1


def test_losers_are_told() -> None:
    """The loser of a capability by force is told, and finds the handle in its environment page."""
    with theatre() as stage:
        a, b, extent, there = shared(stage)
        page = b.env.page
        a.sys.revoke(extent)

        assert b.told() == [(Label.REVOKED, (there,))]
        assert (page[Page.REPOSSESSED], page[Page.REPOSSESSED_LIST]) == (1, there)


def test_takers_are_not_told() -> None:
    """An environment that takes from itself is not told."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        a.sys.derive(a.handles[0], READ)
        a.sys.revoke(a.handles[0])

        assert a.told() == []


def test_a_program_cannot_confuse_the_kernel_by_its_page() -> None:
    """Whatever a program writes into its environment page, the kernel goes on."""
    with theatre() as stage:
        a, b, extent, _ = shared(stage)
        for word in range(512):
            b.env.page[word] = (1 << 64) - 1
        a.sys.revoke(extent)

        assert b.told()[0][0] == Label.REVOKED


def test_revoke_asks_first() -> None:
    """With a deadline the holders are asked, keep it until then, and then lose what they still have."""
    with theatre() as stage:
        a, b, extent, there = shared(stage)
        assert a.sys.revoke(extent, 5_000)[0] == 1
        stage.pass_time(4)
        held, asked = b.sys.inspect(there).count, b.told()
        stage.pass_time(2)

        assert (held, asked) == (1, [(Label.REVOKE, (there, 5_000, 0))])
        assert (b.told(), len(b.caps)) == ([(Label.REVOKED, (there,))], 0)


def test_revoke_finds_what_was_given_back() -> None:
    """A holder that drops a capability in time is not told again."""
    with theatre() as stage:
        a, b, extent, there = shared(stage)
        a.sys.revoke(extent, 5_000)
        b.sys.drop(there)
        stage.pass_time(6)

        assert b.told() == [(Label.REVOKE, (there, 5_000, 0))]


def test_revoke_deadline_of_a_dropped_capability() -> None:
    """A deadline finds nothing to do when the capability itself went."""
    with theatre() as stage:
        a, b, extent, there = shared(stage)
        a.sys.revoke(extent, 5_000)
        a.sys.drop(extent)
        stage.pass_time(6)

        assert b.told() == [(Label.REVOKE, (there, 5_000, 0)), (Label.REVOKED, (there,))]


def test_revoke_deadline_outlives_the_owner() -> None:
    """A revocation that a dead server began is completed for its successor."""
    with theatre() as stage:
        root, a, b = stage.puppet(), stage.puppet("a", keeps=True, holds=("ram",)), stage.puppet("b")
        stage.system.give(root.task, a.environment)
        passed(a, a.handles[0], b, READ)
        a.sys.revoke(a.handles[0], 5_000)
        stage.kill(a)
        heir = stage.heir(a)
        stage.pass_time(6)

        assert (len(b.caps), len(heir.caps)) == (0, 1)


def test_drop_takes_what_was_derived() -> None:
    """Dropping takes everything derived from it away, and tells the others."""
    with theatre() as stage:
        a, b, extent, there = shared(stage)
        a.sys.drop(extent)

        assert (b.told(), len(b.caps), stage.kernel.frames.free) == ([(Label.REVOKED, (there,))], 0, 256)


def test_stale_handles() -> None:
    """A handle that was dropped, and one whose slot was used again, are both stale."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        old = a.sys.derive(a.handles[0], READ)
        a.sys.drop(old)
        first = refusal(a.sys.drop, old)
        new = [a.sys.derive(a.handles[0], READ) for _ in range(1)]
        while handle_slot(new[-1]) != handle_slot(old):
            a.sys.drop(new[-1])
            new.append(a.sys.derive(a.handles[0], READ))

        assert (first, refusal(a.sys.drop, old)) == (Refusal.STALE_HANDLE, Refusal.STALE_HANDLE)
        assert handle_generation(new[-1]) == handle_generation(old) + 1


@pytest.mark.parametrize("handle", [0, 2, 4097, (1 << 32) - 1])
def test_bad_handles(handle: int) -> None:
    """A handle to a slot the table does not have is bad."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))

        assert refusal(a.sys.inspect, handle) == Refusal.BAD_HANDLE


def test_handles_of_others_name_nothing() -> None:
    """A handle means something in its holder's table only."""
    with theatre() as stage:
        a, b = stage.pair()

        assert refusal(b.sys.inspect, a.handles[0]) == Refusal.BAD_HANDLE


def test_full_table() -> None:
    """A full table takes nothing more, whatever way it comes, and nothing changes."""
    with theatre() as stage:
        a, b = stage.pair()
        for _ in range(MAX_HANDLES - 1):
            a.sys.derive(a.handles[0], READ)
        b_ram = stage.system.give(b.task, stage.system._things("ram")[0]).handle
        offers = [offer(b, b_ram, a, READ, grant=grant) for grant in (False, True)]
        free = stage.kernel.frames.free

        assert refusal(a.sys.derive, a.handles[0], READ) == Refusal.TABLE_FULL
        assert refusal(a.sys.carve, a.handles[0], 1) == Refusal.TABLE_FULL
        assert [refusal(accept, a, b, each) for each in offers] == [Refusal.TABLE_FULL] * 2
        assert (stage.kernel.frames.free, len(b.caps)) == (free, 3)


def test_inventory() -> None:
    """A caller sees its own handles, in slot order."""
    with theatre() as stage:
        a = stage.puppet(holds=("cpus", "ram"))

        assert a.sys.inventory() == tuple(a.handles)


def test_inspection_of_each_kind() -> None:
    """A capability says what it is to, for every kind of thing."""
    with theatre() as stage:
        a = stage.puppet("a", holds=("ram", "cpus", "factory"))
        handles = [*a.handles, stage.system.give(a.task, stage.kernel.interrupts.lines[3]).handle]
        handles += [a.sys.carve(a.handles[0], 2, 7).extent, stage.system.give(a.task, a.environment).handle]

        found = [a.sys.inspect(handle) for handle in handles]
        assert [(i.kind, i.first, i.count) for i in found] == [
            (Kind.RAM, 0, 256),
            (Kind.CPU, 0, 1),
            (Kind.FACTORY, 0, 0),
            (Kind.INTERRUPT, 3, 1),
            (Kind.EXTENT, 7, 2),
            (Kind.ENVIRONMENT, a.thread, Activity.WAITS),
        ]


def test_a_trap_under_way_is_activity() -> None:
    """An environment that waits for the kernel's answer runs: the kernel has it, however long that takes."""
    with theatre() as stage:
        a, b = stage.pair()
        handle = stage.system.give(a.task, b.environment).handle
        port = b.environment.body.port
        doing = [a.sys.inspect(handle).count]
        port.hold()
        doing.append(a.sys.inspect(handle).count)
        port.resume()
        doing.append(a.sys.inspect(handle).count)

        assert doing == [Activity.WAITS, Activity.RUNS, Activity.WAITS]


def test_counted() -> None:
    """Transfers and revocations are counted."""
    with theatre() as stage:
        a, _, extent, _ = shared(stage)
        a.sys.revoke(extent)
        count = stage.kernel.kip.counter

        assert (count(Counter.TRANSFERS), count(Counter.REVOCATIONS)) == (1, 1)


def test_no_tree_grows_rights() -> None:
    """After a tangle of derivations, nobody has a right that its parent has not."""
    with theatre() as stage:
        a, b = stage.pair()
        for bits in range(32):
            try:
                handle = passed(a, a.sys.derive(a.handles[0], bits), b, bits & 7)
                b.sys.derive(handle, bits)
            except TrapRefused:
                continue

        assert rights_grow([*a.caps, *b.caps]) == []


def test_clock_of_a_revoke() -> None:
    """The deadline is counted in microseconds from the trap."""
    with theatre() as stage:
        a, b, extent, _ = shared(stage)
        start = stage.machine.clock.now()
        a.sys.revoke(extent, 1_500)
        stage.machine.drive(stage.supervisor, until=lambda: not b.caps)

        assert stage.machine.clock.now() - start == 1.5 * MS

"""Parts of extents: who may map which pages, who sees whose stores, and what becomes of what."""

from collections.abc import Callable, Sequence

import pytest

from hwmodel.machine import Deed
from hwmodel.simulated.memory import SimulatedBacking
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE, MAX_DEPTH
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from libexo import vm
from libexo.checking import encode_trap
from libexo.extent import Extent
from tests.kernel.passing import accept, offer, passed
from tests.kernel.puppets import Puppet, Theatre, faults, ram_of, refusal, theatre
from tests.kernel.rings import FRAMES, bound
from tests.libexo import moves

READ, WRITE, TRANSFER = Rights.READ, Rights.WRITE, Rights.TRANSFER
ALL = READ | WRITE | TRANSFER


def carved(puppet: Puppet, pages: int = 8) -> Extent:
    """An extent, each page of which begins with its number."""
    made = puppet.sys.carve(puppet.handles[0], pages)
    extent = Extent(made.extent, pages, made.first)
    view = vm.map(puppet.env, extent)
    for page in range(pages):
        view[page * FRAME_SIZE] = page
    return extent


def seen(view: memoryview) -> list[int]:
    """What each page begins with."""
    return list(view[::FRAME_SIZE])


def pumped(*puppets: Puppet) -> None:
    """Have them take in what the kernel told them."""
    for puppet in puppets:
        moves.pump_gate(puppet.env)


def of_three(stage: Theatre) -> Sequence[Puppet]:
    return [stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")]


def of_two(stage: Theatre, pages: int = 8) -> tuple[Puppet, Puppet, Puppet, Extent, int, memoryview]:
    """Start three; return with them an extent that the first has mapped, and its handle at the second."""
    a, b, c = of_three(stage)
    extent = carved(a, pages)
    return a, b, c, extent, passed(a, extent.handle, b, ALL), vm.map(a.env, extent)


def test_a_page_in_the_middle() -> None:
    """Two share an extent, one maps a page of it on to a third: all three see the stores of each other."""
    with theatre() as stage:
        a, b, c, _extent, shared, at_a = of_two(stage)
        at_b = b.env.views.map(shared)
        part = b.sys.derive(shared, ALL, 2, 1)
        at_c = c.env.views.map(passed(b, part, c, READ | WRITE))
        pumped(a, b)
        at_a[2 * FRAME_SIZE], at_b[2 * FRAME_SIZE + 1], at_c[2], at_a[3 * FRAME_SIZE] = 7, 8, 9, 10

        assert bytes(at_a[2 * FRAME_SIZE :][:3]) == bytes(at_b[2 * FRAME_SIZE :][:3]) == bytes(at_c[:3])
        assert bytes(at_c[:3]) == b"\7\10\11"
        assert (seen(at_a), len(at_c)) == ([0, 1, 7, 10, 4, 5, 6, 7], FRAME_SIZE)
        assert seen(at_b) == seen(at_a)


def test_a_part_cannot_be_mapped_beyond_its_end() -> None:
    """Whatever size its holder asks the host for, the pages behind a part are not there."""
    with theatre() as stage:
        a, b, _ = of_three(stage)
        extent = carved(a)
        part = passed(a, a.sys.derive(extent.handle, ALL, 2, 2), b, READ)
        _, descriptor = b.sys.map_extent(part)
        beyond = b.host.map(descriptor, 4 * FRAME_SIZE, writable=False)

        assert faults(beyond)
        assert refusal(b.sys.map_extent, part, 2) == Refusal.BAD_ARGUMENT
        assert b.sys.map_extent(part, 1)[0] == b.sys.map_extent(part)[0]


def test_taken_back_from_the_third_alone() -> None:
    """Who derived the part takes it back: the third faults, the others go on, with what it stored last."""
    with theatre() as stage:
        a, b, c, _extent, shared, at_a = of_two(stage)
        at_b = b.env.views.map(shared)
        part = b.sys.derive(shared, ALL, 2, 1)
        at_c = c.env.views.map(passed(b, part, c, READ | WRITE))
        at_c[0] = 9
        taken = b.sys.revoke(part)[0]
        pumped(a, b, c)

        assert (taken, faults(at_c)) == (1, True)
        assert seen(at_a) == seen(at_b) == [0, 1, 9, 3, 4, 5, 6, 7]
        at_a[2 * FRAME_SIZE] = 11
        assert at_b[2 * FRAME_SIZE] == 11


def test_taking_the_whole_takes_its_parts() -> None:
    """A revocation of the whole takes parts that were derived from it; its taker has all the memory after."""
    with theatre() as stage:
        a, b, c, extent, shared, at_a = of_two(stage)
        at_b = b.env.views.map(shared)
        at_c = c.env.views.map(passed(b, b.sys.derive(shared, ALL, 2, 1), c, READ | WRITE))
        at_c[0] = 9
        assert vm.revoke(a.env, extent) == 3

        assert (faults(at_b), faults(at_c), seen(at_a)) == (True, True, [0, 1, 9, 3, 4, 5, 6, 7])
        assert c.sys.inventory() == ()


def test_rights_of_a_part() -> None:
    """A part has at most the rights it was derived from, and its memory is mapped by them."""
    with theatre() as stage:
        a, b, _ = of_three(stage)
        extent = carved(a)
        only = passed(a, extent.handle, b, READ | TRANSFER)
        part = b.sys.derive(only, READ, 1, 3)

        assert refusal(b.sys.derive, only, READ | WRITE, 1, 3) == Refusal.MISSING_RIGHT
        assert (b.env.views.map(part).readonly, seen(b.env.views.map(part))) == (True, [1, 2, 3])
        assert (b.sys.inspect(part).first, b.sys.inspect(part).count) == (extent.first + 1, 3)


@pytest.mark.parametrize(("first", "count"), [(8, 1), (7, 2), (9, 0), (0, 9), ((1 << 40) - 1, 1)])
def test_pages_that_are_not_there(first: int, count: int) -> None:
    """A part lies inside of what it is derived from, a part of a part too."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a, 8)
        part = a.sys.derive(extent.handle, ALL, 2, 3)

        assert refusal(a.sys.derive, extent.handle, ALL, first, count) == Refusal.BAD_ARGUMENT
        assert refusal(a.sys.derive, part, ALL, 1, 3) == Refusal.BAD_ARGUMENT


def test_who_may_not_pass_on_may_not_divide() -> None:
    """A holder without the right to transfer makes no memory move."""
    with theatre() as stage:
        a, b, _ = of_three(stage)
        only = passed(a, carved(a).handle, b, READ | WRITE)

        assert refusal(b.sys.derive, only, READ, 1, 3) == Refusal.MISSING_RIGHT
        assert b.sys.derive(only, READ)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["taken first", "derived first"])
@pytest.mark.parametrize("ends", [False, True], ids=["", "its holder is killed"])
def test_parts_while_the_whole_is_taken(order: tuple[int, int], *, ends: bool) -> None:
    """Whoever comes first: the part is derived and taken with the whole, or refused, and never left behind."""
    with theatre() as stage:
        a, b, _, extent, shared, whole = of_two(stage, 4)
        view = b.env.views.map(shared)
        asked = [(a, traps.Revoke(extent.handle)), (b, traps.Derive(shared, int(ALL), 1, 2))]
        for puppet, trap in (asked[at] for at in order):
            puppet.body.pipe.to_kernel.append((encode_trap(trap, 0), []))
            stage.machine._trap(puppet.body, stage.supervisor)
        busy = stage.kernel.jobs.under_way
        if ends:
            b.kill()
        stage.pass_time(5)
        for puppet in (a, b):
            for _, given in puppet.body.pipe.to_program:
                for each in given:
                    each.close()
            puppet.body.pipe.to_program.clear()
        a.env.views.moved(extent.handle)

        assert busy == 2
        assert (ends or b.sys.inventory() == (), faults(view), seen(whole)) == (True, True, [0, 1, 2, 3])


def test_parts_that_overlap() -> None:
    """Parts may lie in one another, side by side and across; each is mapped as one run of pages."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a)
        whole = vm.map(a.env, extent)
        parts = [a.sys.derive(extent.handle, ALL, *run) for run in ((0, 4), (2, 4), (5, 0), (1, 1), (0, 0))]
        views = [a.env.views.map(part) for part in parts]
        pumped(a)
        views[1][FRAME_SIZE] = 33

        assert [seen(view) for view in views] == [
            [0, 1, 2, 33],
            [2, 33, 4, 5],
            [5, 6, 7],
            [1],
            [0, 1, 2, 33, 4, 5, 6, 7],
        ]
        assert seen(whole) == seen(views[-1])


def test_frames_count_once() -> None:
    """A part counts no frames, to anybody; its new memory is descriptors of who derived it, until all is free."""
    with theatre() as stage:
        a, b, c = of_three(stage)
        free = stage.kernel.frames.free
        extent = carved(a)
        shared = passed(a, extent.handle, b, ALL)
        before = [p.environment.budget.used[Item.DESCRIPTORS] for p in (a, b, c)]
        frames = [p.environment.frames for p in (a, b, c)]
        given = passed(b, b.sys.derive(shared, ALL, 2, 1), c, READ, grant=True)
        used = [p.environment.budget.used[Item.DESCRIPTORS] for p in (a, b, c)]
        c.sys.drop(given)

        assert [p.environment.frames for p in (a, b, c)] == frames == [0, 8, 0]
        assert [now - was for now, was in zip(used, before, strict=True)] == [0, 2, 0]
        a.sys.drop(extent.handle)
        assert (stage.kernel.frames.free, b.environment.budget.used[Item.DESCRIPTORS]) == (
            free,
            before[1] - 1,
        )


def test_a_budget_bounds_pieces() -> None:
    """Who has no descriptors left derives no more parts, and nobody else pays for its parts."""
    with theatre(ram_of(4096)) as stage:
        a, b, _ = of_three(stage)
        made = a.sys.carve(a.handles[0], 4000)
        shared = passed(a, made.extent, b, ALL)
        used, budget = a.environment.budget.used[Item.DESCRIPTORS], b.environment.budget
        budget.limit[Item.DESCRIPTORS] = budget.used[Item.DESCRIPTORS] + 40
        budget.show_in(stage.kernel.kip.budget_row(b.environment.number))
        for page in range(1, 35, 2):  # the first of them splits what follows into seven pieces
            b.sys.drop(b.sys.derive(shared, READ, page, 1))

        assert budget.room(Item.DESCRIPTORS) == 1
        assert [refusal(b.sys.derive, shared, READ, page, 1) for page in (36, 50)] == [
            Refusal.OVER_BUDGET
        ] * 2
        assert b.sys.derive(shared, READ, 3, 4)
        assert a.environment.budget.used[Item.DESCRIPTORS] == used


def test_what_a_dead_one_divided() -> None:
    """Pieces outlast who made them; who paid for it pays for them, and the extent's other holders do not."""
    with theatre() as stage:
        a, b, _, extent, shared, view = of_two(stage)
        b.sys.derive(shared, ALL, 2, 1)
        used = a.environment.budget.used[Item.DESCRIPTORS]
        b.kill()
        stage.pass_time(5)
        pumped(a)

        assert a.environment.budget.used[Item.DESCRIPTORS] in (used, used + 1)
        assert seen(view) == list(range(8))
        a.sys.drop(extent.handle)
        stage.pass_time(5)


def test_pages_in_order_are_moved_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that derives page after page moves each a few times, however large the extent is."""
    moved = 0
    split = SimulatedBacking.split

    def counted(backing: SimulatedBacking, page: int) -> object:
        nonlocal moved
        moved += backing._count - page
        return split(backing, page)

    with theatre(ram_of(4096)) as stage:
        a = stage.puppet(holds=("ram",))
        extent = a.sys.carve(a.handles[0], 2048).extent
        monkeypatch.setattr(SimulatedBacking, "split", counted)
        for page in range(512):
            a.sys.drop(a.sys.derive(extent, READ, page, 1))

    assert moved < 2048 + 512 * 100


def test_part_of_a_part_of_a_part() -> None:
    """As deep as capabilities go, and no deeper."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a, 70)
        handle = extent.handle
        for _ in range(MAX_DEPTH - 1):
            handle = a.sys.derive(handle, ALL, 1, 0)

        assert refusal(a.sys.derive, handle, ALL, 1, 0) == Refusal.TOO_DEEP
        assert seen(a.env.views.map(handle)) == list(range(MAX_DEPTH - 1, 70))


def test_a_ring_has_no_parts() -> None:
    """Memory of a ring is refused, and what was divided becomes no ring."""
    with theatre() as stage:
        a, b = stage.pair()
        extent, ring = (a.sys.carve(a.handles[0], FRAMES).extent for _ in range(2))
        a.sys.drop(a.sys.derive(extent, ALL, 1, 1))
        bound(a, b, ring)
        whole = refusal(bound, a, b, extent)
        part = refusal(bound, a, b, a.sys.derive(extent, ALL, 0, FRAMES - 1))

        assert (whole, part) == (Refusal.RING_MEMORY, Refusal.RING_MEMORY)
        assert refusal(a.sys.derive, ring, ALL, 1, 1) == Refusal.RING_MEMORY


def test_who_is_told() -> None:
    """Holders who have mapped what got new memory are told which pages, counted from where theirs begin."""
    with theatre() as stage:
        a, b, c = of_three(stage)
        extent = carved(a)
        held = vm.map(a.env, extent)
        at_b = passed(a, a.sys.derive(extent.handle, ALL, 4, 4), b, READ)
        not_mapped = passed(a, extent.handle, c, READ)
        view = b.env.views.map(at_b)
        pumped(a, b, c)
        sizes = len(held), len(view)
        a.told(), b.told(), c.told()
        a.sys.derive(extent.handle, ALL, 6, 1)

        assert a.told() == [(Label.MOVED, (extent.handle, 7, 1)), (Label.MOVED, (extent.handle, 6, 1))]
        assert b.told() == [(Label.MOVED, (at_b, 3, 1)), (Label.MOVED, (at_b, 2, 1))]
        assert c.told() == []
        assert (sizes, not_mapped > 0) == ((8 * FRAME_SIZE, 4 * FRAME_SIZE), True)


def test_granted_and_mapped() -> None:
    """A granted part that its giver had mapped gets new memory; what the giver has still is the rest."""
    with theatre() as stage:
        a, b, c = of_three(stage)
        extent = carved(a)
        whole = vm.map(a.env, extent)
        part = a.sys.derive(extent.handle, ALL, 2, 2)
        mine = a.env.views.map(part)
        at_b = b.env.views.map(accept(b, a, offer(a, part, b, READ, grant=True)).handle)
        pumped(a)

        assert (faults(mine), seen(at_b), seen(whole)) == (True, [2, 3], list(range(8)))
        assert c.sys.inventory() == ()


def test_memory_that_was_shown_to_others_is_never_shown_again() -> None:
    """When pieces are free, whoever carves their frames next finds junk or zeros."""
    with theatre(ram_of(8)) as stage:
        a = stage.puppet(holds=("ram",))
        extent = carved(a)
        a.sys.derive(extent.handle, ALL, 3, 2)
        pumped(a)
        a.sys.drop(extent.handle)
        view = a.env.views.map(a.sys.carve(a.handles[0], 8, zero=False).extent)

        assert set(bytes(view)) == {0xA5}


@pytest.mark.parametrize("first", [None, 2], ids=["all of it", "a part"])
@pytest.mark.parametrize("order", ["giver, receiver", "receiver, giver"])
def test_giver_and_receiver_die_while_both_lose_it(
    monkeypatch: pytest.MonkeyPatch, first: int | None, order: str
) -> None:
    """Their own walks find it taken by the one above; the giver is forgotten before the receiver's asks for it.

    Nobody is left to answer for the receiver's mapping, and nobody needs to: all that was derived is gone.
    """
    with theatre() as stage:
        a, giver, receiver, extent, shared, view = of_two(stage)
        given = shared if first is None else giver.sys.derive(shared, ALL, first, 3)
        receiver.env.views.map(passed(giver, given, receiver, ALL))
        pumped(a)
        deeds: list[tuple[Deed, Callable[..., None]]] = []
        with (
            monkeypatch.context() as patched
        ):  # the host takes its time to copy, so all three walks are under way
            patched.setattr(stage.machine, "work", lambda *deed: deeds.append(deed))
            a.body.pipe.to_kernel.append((encode_trap(traps.Revoke(extent.handle), 0), []))
            stage.machine._trap(a.body, stage.supervisor)
            stage.kill(*((giver, receiver) if order == "giver, receiver" else (receiver, giver)))
            busy = stage.kernel.jobs.under_way
        for deed in deeds:
            stage.machine.work(*deed)
        stage.pass_time(5)
        for _, descriptors in a.body.pipe.to_program:
            for each in descriptors:
                each.close()
        a.body.pipe.to_program.clear()
        a.env.views.moved(extent.handle)

        assert (busy, len(deeds)) == (3, 1)
        assert [hasattr(puppet.environment.table, "holder") for puppet in (giver, receiver)] == [False] * 2
        assert (seen(view), [c.children for c in a.caps if c.handle == extent.handle]) == (
            list(range(8)),
            [{}],
        )

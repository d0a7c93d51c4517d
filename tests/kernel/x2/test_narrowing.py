"""Some rights to an extent, taken from all that got it."""

from kernel.abi.errors import Refusal
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from libexo import vm
from libexo.extent import Extent
from tests.kernel.pagers import Paging
from tests.kernel.passing import accept, offer, passed
from tests.kernel.puppets import faults, refusal, theatre
from tests.kernel.rings import FRAMES, bound
from tests.libexo import moves

READ, WRITE, TRANSFER = Rights.READ, Rights.WRITE, Rights.TRANSFER
ALL = READ | WRITE | TRANSFER


def test_the_right_to_write_goes() -> None:
    """Derivatives at any remove keep the others, and offers too; a mapping that could be written can be no more."""
    with theatre() as stage:
        a, b, c = stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")
        made = a.sys.carve(a.handles[0], 2)
        mine = vm.map(a.env, Extent(made.extent, 2, made.first))
        at_b = passed(a, made.extent, b, ALL)
        at_c = passed(b, at_b, c, ALL)
        views = [b.env.views.map(at_b), c.env.views.map(at_c)]
        views[1][0] = 7
        standing = offer(b, at_b, c, ALL)
        lost = a.sys.narrow(made.extent, WRITE)
        stale = [faults(view) for view in views]
        for puppet in (a, b, c):
            moves.pump_gate(puppet.env)
        mine[1] = 8

        assert (lost, stale) == (3, [True, True])
        assert [bytes(view[:2]) for view in views] == [b"\7\10"] * 2
        assert [view.readonly for view in views] == [True, True]
        assert [p.sys.inspect(h).rights for p, h in ((a, made.extent), (b, at_b), (c, at_c))] == [
            31,
            READ | TRANSFER,
            READ | TRANSFER,
        ]
        assert accept(c, b, standing).rights == READ | TRANSFER
        assert refusal(b.sys.derive, at_b, WRITE) == Refusal.MISSING_RIGHT


def test_of_a_part() -> None:
    """Of a part the rest of the extent is not moved, nor is anybody told who has no page of it."""
    with theatre() as stage:
        a, b, c = stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")
        made = a.sys.carve(a.handles[0], 4)
        part = a.sys.derive(made.extent, ALL, 1, 1)
        at_b, at_c = passed(a, part, b, ALL), passed(a, a.sys.derive(made.extent, ALL, 2, 2), c, ALL)
        view = c.env.views.map(at_c)
        view[0] = 5
        b.told(), c.told()
        a.sys.narrow(part, WRITE)

        assert b.told() == [(Label.MOVED, (at_b, 0, 1))]
        assert (c.told(), view[0], c.sys.inspect(at_c).rights) == ([], 5, ALL)


def test_who_gave_it_up() -> None:
    """A holder that gave its capability up, and kept the memory mapped, has it mapped no more."""
    with theatre() as stage:
        a, b = stage.pair()
        made = a.sys.carve(a.handles[0], 1)
        at_b = passed(a, made.extent, b, ALL)
        view = b.env.views.map(at_b)
        b.sys.drop(at_b)
        a.sys.narrow(made.extent, WRITE)

        assert faults(view)


def test_an_offer_of_nothing() -> None:
    """An offer of which all rights were taken is accepted by nobody, and can be dropped."""
    with theatre() as stage:
        a, b = stage.pair()
        made = a.sys.carve(a.handles[0], 1)
        standing = offer(a, made.extent, b, WRITE)
        a.sys.narrow(made.extent, WRITE)

        assert refusal(accept, b, a, standing) == Refusal.BAD_ARGUMENT
        a.sys.drop(standing)


def test_a_ring_and_an_object() -> None:
    """Memory of a ring, to which nobody else has a right, stays; of an object programs keep what they may read."""
    with theatre() as stage:
        paging = Paging(stage)
        lent = passed(paging.pager, paging.handle, stage.puppet("viewer"), ALL)
        a, b = stage.pair()
        ring = a.sys.carve(a.handles[0], FRAMES).extent
        end = bound(a, b, ring)

        assert (a.sys.narrow(ring, WRITE), faults(end.memory)) == (0, False)
        assert paging.pager.sys.narrow(paging.handle, WRITE) == 1
        assert lent > 0


def test_all_that_is_wrong() -> None:
    """Rights that do not exist take nothing; of what is no extent, Revoke is as ever."""
    with theatre() as stage:
        a, b = stage.pair()
        made = a.sys.carve(a.handles[0], 1)
        at_b = passed(a, made.extent, b, ALL)

        assert a.sys.narrow(made.extent, 1 << 20) == 0
        assert b.sys.inspect(at_b).rights == ALL
        assert a.sys.narrow(a.handles[0], WRITE) == 2
        assert b.sys.inventory() == ()

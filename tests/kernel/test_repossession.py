"""Single extents taken by their frames, and frames asked for by their number."""

import random

from kernel.abi import traps
from kernel.abi.kip import Counter, Page
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Rights
from tests.kernel.pagers import Paging
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, faults, theatre, unbound
from tests.kernel.rings import pair
from tests.kernel.test_limit import frames, lender

READ, WRITE, TRANSFER = Rights.READ, Rights.WRITE, Rights.TRANSFER


def free(stage: Theatre) -> int:
    return stage.kernel.frames.free


def test_one_extent_is_taken() -> None:
    """The extent that begins at a frame is taken from all, and no other; its frames are free, its losers told."""
    with theatre() as stage:
        a, b, _, ram = lender(stage)
        c = stage.puppet("c")
        kept, lost = b.sys.carve(ram, 3).extent, b.sys.carve(ram, 5)
        there = passed(b, lost.extent, c, READ)
        taken = a.sys.take(a.handles[0], lost.first)

        assert (taken, free(stage), frames(b)) == (5, 256 - 3, 3)
        assert (b.told(), c.told()) == ([(Label.REVOKED, (lost.extent,))], [(Label.REVOKED, (there,))])
        assert b.env.page[Page.REPOSSESSED_LIST] == lost.extent
        assert (b.sys.inspect(kept).count, stage.kernel.kip.counter(Counter.REVOCATIONS)) == (3, 1)


def test_what_is_granted_on_is_taken() -> None:
    """An extent is found by its frame whoever has it, and however it came there."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        c = stage.puppet("c")
        carved = b.sys.carve(ram, 5)
        passed(b, carved.extent, c, READ | TRANSFER, grant=True)

        assert (a.sys.take(pool, carved.first), free(stage), c.caps) == (5, 256, [])


def test_nothing_is_taken() -> None:
    """Frames of no extent, in the middle of one, or carved elsewhere: nothing is taken, and nobody told."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        other = a.sys.derive(a.handles[0], ALL_RIGHTS)
        carved = b.sys.carve(ram, 5)
        tries = [(pool, carved.first + 1), (pool, 100), (pool, 1 << 30), (other, carved.first)]

        assert [a.sys.take(*each) for each in tries] == [0] * 4
        assert b.sys.take(carved.extent, carved.first + 1) == 0
        assert (b.told(), frames(b)) == ([], 5)


def test_a_holder_takes_nothing_above_it() -> None:
    """Who was lent RAM takes what was carved through its own, and not what others carved from the same pool."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        c = stage.puppet("c")
        below, beside = passed(b, ram, c, ALL_RIGHTS), a.sys.carve(pool, 2)
        carved = c.sys.carve(below, 4)

        assert (b.sys.take(ram, beside.first), b.sys.take(ram, carved.first), free(stage)) == (0, 4, 254)
        assert c.told() == [(Label.REVOKED, (carved.extent,))]


def test_its_memory_is_gone() -> None:
    """Who has it mapped finds a bus error at the next access, and the frames show nothing of it to the next."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        carved = b.sys.carve(ram, 2)
        view = b.env.views.map(carved.extent)
        view[:6] = b"secret"
        a.sys.take(pool, carved.first)
        again = a.sys.carve(pool, 2)

        assert (again.first, bytes(a.env.views.map(again.extent))) == (carved.first, bytes(2 * FRAME_SIZE))
        assert faults(view)


def test_frames_are_asked_for() -> None:
    """The environment an extent counts to is told how many frames are wanted and by when; nothing is taken."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        c = stage.puppet("c")
        own, given = b.sys.carve(ram, 2), b.sys.carve(ram, 2)
        passed(b, own.extent, c, READ)
        passed(b, given.extent, c, READ | TRANSFER, grant=True)
        found = [a.sys.ask_back(pool, first, 3, 5_000) for first in (own.first, given.first, 100)]
        stage.pass_time(10)

        assert found == [2, 2, 0]
        assert (b.told(), c.told()) == ([(Label.REVOKE, (0, 5_000, 3))], [(Label.REVOKE, (0, 5_000, 3))])
        assert (free(stage), frames(b), frames(c)) == (252, 2, 2)


def test_only_the_lender_asks() -> None:
    """Who did not lend the memory cannot ask for it, nor make the kernel say so."""
    with theatre() as stage:
        a, b, _, ram = lender(stage)
        first = b.sys.carve(ram, 2).first
        other = a.sys.derive(a.handles[0], ALL_RIGHTS)

        assert (a.sys.ask_back(other, first, 1, 1_000), b.told()) == (0, [])


def test_a_paged_object_is_taken() -> None:
    """An object goes by its first frame too: its pager has none, who waits for a page finds a bus error."""
    with theatre() as stage:
        p = Paging(stage)
        program = p.program()
        free = stage.kernel.frames.free
        program.touch(1)
        taken = p.pager.sys.take(p.pager.handles[0], p.object.first)
        stage.settle()

        assert (taken, stage.kernel.frames.free) == (p.object.count, free + p.object.count)
        assert program.fails(1)


def test_ring_memory_is_taken() -> None:
    """The memory of a ring goes by its first frame too, and its binding with it."""
    with theatre() as stage:
        ring = pair(stage)
        first = ring.a.sys.inspect(ring.extent).first
        root = stage.puppet("root", holds=("ram",))

        assert root.sys.take(root.handles[0], first) == 0  # it was not carved below that one
        assert ring.a.sys.take(ring.a.handles[0], first) == 4
        assert ring.a.told() == [unbound(ring.b, ring.sends.token)]
        assert free(stage) == 256


def test_at_random() -> None:
    """Whatever was carved, shared and granted on, taking every extent by its frame leaves all of RAM free."""
    draw = random.Random(20)
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        takers = [stage.puppet(name) for name in "cde"]
        firsts = [_somewhere(draw, b, ram, takers) for _ in range(42)]
        draw.shuffle(firsts)
        got = [a.sys.take(pool, first) for first in firsts]

        assert (0 in got, free(stage), a.sys.limit(pool, 0)) == (False, 256, 0)


def _somewhere(draw: random.Random, b: Puppet, ram: int, takers: list[Puppet]) -> int:
    """Carve an extent, and pass it on at random; return its first frame."""
    carved = b.sys.carve(ram, draw.randint(1, 6))
    handle, holder = carved.extent, b
    for taker in draw.sample(takers, draw.randint(0, 3)):
        handle, holder = (
            passed(holder, handle, taker, READ | WRITE | TRANSFER, grant=draw.random() < 0.5),
            taker,
        )
    return carved.first


def test_a_batch() -> None:
    """Many are taken in one crossing."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        firsts = [b.sys.carve(ram, 2).first for _ in range(64)]
        answers, _ = a.sys.batch([traps.Revoke(pool, first=first) for first in firsts])

        assert (answers, free(stage), len(b.told())) == ([2] * 64, 256, 64)

"""Limits: how much of RAM may be carved through what was derived from a capability to it."""

import random
from contextlib import suppress

import pytest

from hwmodel.failures import Failures, HostFailure
from kernel import runs
from kernel.abi.errors import Refusal
from kernel.abi.ids import ANY_FRAME
from kernel.abi.limits import FRAME_SIZE, NO_LIMIT
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.errors import Refused
from kernel.frames import Extent
from libexo.errors import TrapRefused
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre

OVER = Refusal.OVER_LIMIT


def lender(stage: Theatre) -> tuple[Puppet, Puppet, int, int]:
    """Return a holder of RAM, the receiver of a pool of it, and the handles of both to that."""
    a, b = stage.puppet("a", holds=("ram",)), stage.puppet("b")
    pool = a.sys.derive(a.handles[0], ALL_RIGHTS)
    return a, b, pool, passed(a, pool, b, ALL_RIGHTS)


def frames(puppet: Puppet) -> int:
    return puppet.environment.frames


def test_what_is_derived_is_limited() -> None:
    """Carving goes up to the limit, freed frames can be carved again, and the limit's setter may carve besides."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        set_to = a.sys.limit(pool, 5)
        first = b.sys.carve(ram, 3).extent
        refused = refusal(b.sys.carve, ram, 3)
        b.sys.drop(first)
        again = b.sys.carve(ram, 5)
        a.sys.carve(pool, 7)

        assert (set_to, refused, again.first, a.sys.limit(pool, 5)) == (0, OVER, 0, 5)
        assert (frames(a), frames(b)) == (7, 5)


def test_no_limit_at_first() -> None:
    """Until its holder says otherwise, all of RAM may be carved through what is derived from a capability."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        b.sys.carve(ram, 256)

        assert a.sys.limit(pool, NO_LIMIT) == 256


def test_a_limit_holds_for_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Carving that still looks for frames when a limit is lowered finds none: then nobody below carves any more."""
    monkeypatch.setattr(runs, "_LOOKED", 1)
    with theatre() as stage:
        a, b, _, _ = lender(stage)
        pool = a.sys.derive(a.handles[0], ALL_RIGHTS, first=0, count=100)
        ram = b.environment.table.lookup(passed(a, pool, b, ALL_RIGHTS))
        for first, count in (
            (0, 50),
            (100, 100),
            (202, 54),
        ):  # the smallest run with room is outside of the part
            a.sys.carve(a.handles[0], count, first)
        free = stage.kernel.frames.free
        carving = stage.kernel.frames.carve(ram, 2, ANY_FRAME, zero=True, make=Extent)
        next(carving)
        a.sys.limit(pool, 0)
        with pytest.raises(Refused, match="2 of 0 frames carved"):
            list(carving)

        assert (a.sys.limit(pool, 2), stage.kernel.frames.free) == (0, free)


def test_every_ancestor_counts() -> None:
    """A frame counts to each capability on the way down, and the tightest limit is the one that refuses."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        c = stage.puppet("c")
        below = passed(b, ram, c, ALL_RIGHTS)
        a.sys.limit(pool, 10)
        b.sys.limit(ram, 4)
        c.sys.carve(below, 3)
        b.sys.carve(ram, 6)

        assert refusal(c.sys.carve, below, 2) == OVER  # that is b's
        assert c.sys.carve(below, 1).first == 9
        assert (b.sys.limit(ram, 100), a.sys.limit(pool, 10)) == (4, 10)
        assert refusal(c.sys.carve, below, 1) == OVER  # that is a's


def test_nobody_raises_his_own() -> None:
    """A receiver of RAM may limit its own receivers, and gets no more itself by that."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        a.sys.limit(pool, 1)
        b.sys.limit(ram, NO_LIMIT)
        derived = b.sys.derive(ram, ALL_RIGHTS)
        b.sys.limit(derived, NO_LIMIT)
        b.sys.carve(derived, 1)

        assert [refusal(b.sys.carve, each, 1) for each in (ram, derived)] == [OVER, OVER]


def test_narrowed_below_what_is_carved() -> None:
    """A limit below what is carved takes nothing, and gives nothing before enough was freed."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        extents = [b.sys.carve(ram, 2).extent for _ in range(3)]
        said = a.sys.limit(pool, 3)
        kept = frames(b)
        refused = [refusal(b.sys.carve, ram, 1)]
        b.sys.drop(extents[0])
        refused.append(refusal(b.sys.carve, ram, 1))
        b.sys.drop(extents[1])

        assert (said, kept, refused) == (6, 6, [OVER, OVER])
        assert b.sys.carve(ram, 1).first == 0


def test_it_counts_until_it_is_free() -> None:
    """Frames that were carved and granted on count until their holder gives them up: the carver gains nothing."""
    with theatre() as stage:
        a, b, pool, ram = lender(stage)
        c = stage.puppet("c")
        a.sys.limit(pool, 4)
        made = b.sys.carve(ram, 4).extent
        theirs = c.sys.accept(b.thread, b.sys.transfer(made, c.thread, 6, grant=True)).handle
        users, refused = (frames(b), frames(c)), refusal(b.sys.carve, ram, 1)
        c.sys.drop(theirs)

        assert (users, refused) == ((0, 4), OVER)
        assert b.sys.carve(ram, 4).first == 0


def test_what_one_shares_stays_ones_own() -> None:
    """Frames a program carves for itself and shares count to it, not to its receivers."""
    with theatre() as stage:
        _, b, _, ram = lender(stage)
        c = stage.puppet("c")
        passed(b, b.sys.carve(ram, 4).extent, c, Rights.READ)

        assert (frames(b), frames(c)) == (4, 0)


@pytest.mark.parametrize("how", ["drop", "revoke", "death", "death above"])
def test_all_of_it_is_found(how: str) -> None:
    """By whatever the capability goes, all that was carved through it goes, wherever it is, and counts no more."""
    with theatre() as stage:
        root = stage.puppet("root", holds=("ram",))
        a, b, c = (stage.puppet(name) for name in "abc")
        pool = passed(root, root.handles[0], a, ALL_RIGHTS)
        ram = passed(a, pool, b, ALL_RIGHTS)
        seen = c.env.views.map(passed(b, b.sys.carve(ram, 4).extent, c, Rights.READ))
        passed(b, ram, c, ALL_RIGHTS)
        del seen
        match how:
            case "drop":
                b.sys.drop(ram)
            case "revoke":
                a.sys.revoke(pool)
            case "death":
                stage.kill(b)
            case _:
                stage.kill(a)
        stage.settle()

        assert root.sys.limit(root.handles[0], NO_LIMIT) == 0
        assert (frames(c), stage.kernel.frames.free) == (0, stage.kernel.frames.total)


def test_a_successor_goes_on() -> None:
    """A successor's inheritance counts as before."""
    with theatre() as stage:
        a, b = stage.puppet("a", holds=("ram",)), stage.puppet("b", keeps=True)
        stage.system.give(a.task, b.environment)
        ram = passed(a, a.handles[0], b, ALL_RIGHTS)
        b.sys.carve(ram, 4)
        a.sys.limit(a.handles[0], 5)
        stage.kill(b)
        heir = stage.heir(b)

        assert refusal(heir.sys.carve, ram, 2) == OVER
        assert heir.sys.carve(ram, 1).first == 4


def test_carved_and_mapped() -> None:
    """One trap carves and brings what to map it by; it is writable as the capability is."""
    with theatre() as stage:
        a = stage.puppet("a", holds=("ram",))
        carved, (descriptor,) = a.sys.carve_mapped(a.handles[0], 2)
        view = a.host.map(descriptor, 2 * FRAME_SIZE, writable=True)
        view[5000] = 7

        assert (carved.first, a.env.views.map(carved.extent)[5000]) == (0, 7)
        part = a.sys.derive(a.handles[0], Rights.CONTROL | Rights.WRITE)
        assert refusal(a.sys.carve_mapped, part, 2) == Refusal.MISSING_RIGHT


@pytest.mark.parametrize("call", ["memfd_create", "ftruncate", "dup"])
def test_what_is_not_carved_does_not_count(call: str) -> None:
    """When the host has no memory or descriptor for it, nothing was carved and nothing counts."""
    failures = Failures()
    with theatre(failures=failures) as stage:
        a, b, pool, ram = lender(stage)
        failures.fail_call(HostFailure(stage.machine.calls._of_name[call] + 1, 24, call))

        assert refusal(b.sys.carve_mapped, ram, 2) == Refusal.HOST_FULL
        assert (a.sys.limit(pool, 9), frames(b), stage.kernel.frames.free) == (0, 0, 256)


def test_at_random(seed: int) -> None:
    """However capabilities to RAM are derived, limited, carved from and dropped, every count stays true."""
    with theatre() as stage:
        draw = random.Random(seed)
        a, b, pool, ram = lender(stage)
        for step in range(300):
            puppet = draw.choice((a, b))
            rams = [c.handle for c in puppet.caps if c.resource.kind == 1 and c.offer is None]
            extents = [c.handle for c in puppet.caps if c.resource.kind == 2 and c.offer is None]
            spare = [each for each in rams if each not in (a.handles[0], pool, ram)]
            match draw.randrange(6):
                case 0:
                    puppet.sys.derive(draw.choice(rams), ALL_RIGHTS) if len(rams) < 9 else None
                case 1:
                    puppet.sys.limit(draw.choice(rams), draw.choice((0, 5, 40, 100, NO_LIMIT)))
                case 2 if extents:
                    puppet.sys.drop(draw.choice(extents))
                case 3 if spare and draw.random() < 0.5:
                    puppet.sys.drop(draw.choice(spare))
                case 4 if extents:
                    with suppress(TrapRefused):
                        passed(puppet, draw.choice(extents), a if puppet is b else b, Rights.READ)
                case _:
                    with suppress(TrapRefused):
                        puppet.sys.carve(draw.choice(rams), draw.randrange(1, 20))
            if step % 10 == 0:
                stage.check()
        stage.check()

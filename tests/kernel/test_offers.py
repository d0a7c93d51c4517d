"""Offers: made by one environment, accepted by another, and all the ways in which they fall."""

from collections.abc import Callable

import pytest

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_id
from kernel.abi.kip import Counter, Page
from kernel.abi.limits import MAX_HANDLES, MAX_OFFERS
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Kind, Rights
from libexo import vm
from libexo.errors import TrapRefused
from libexo.extent import Extent
from tests.kernel.passing import accept, offer, passed
from tests.kernel.puppets import Puppet, Theatre, faults, refusal, theatre

READ, WRITE, CONTROL, TRANSFER = Rights.READ, Rights.WRITE, Rights.CONTROL, Rights.TRANSFER
NO_SUCH_OFFER, STALE_HANDLE, WRONG_KIND = Refusal.NO_SUCH_OFFER, Refusal.STALE_HANDLE, Refusal.WRONG_KIND
MAP_OR_GRANT = pytest.mark.parametrize("grant", [False, True])


def offered(stage: Theatre, *, grant: bool = False) -> tuple[Puppet, Puppet, int, int]:
    """Two puppets, the handle of an extent of the first, and of its offer to the second."""
    a, b = stage.pair()
    extent = a.sys.carve(a.handles[0], 3).extent
    return a, b, extent, offer(a, extent, b, READ | WRITE, grant=grant)


def handles(puppet: Puppet) -> list[int]:
    return [capability.handle for capability in puppet.caps]


@MAP_OR_GRANT
def test_an_offer_gives_nothing_yet(grant: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Until it is accepted an offer is its maker's: the receiver has nothing, the frames are whose they were."""
    with theatre() as stage:
        a, b, extent, made = offered(stage, grant=grant)

        assert (handles(a), handles(b)) == ([a.handles[0], extent, made], [])
        assert (a.environment.frames, b.environment.frames) == (3, 0)
        assert stage.kernel.kip.counter(Counter.TRANSFERS) == 0


def test_accept_a_map() -> None:
    """Of a map the receiver gets a derivative, with the rights offered; the offer is used up."""
    with theatre() as stage:
        a, b, extent, made = offered(stage)
        accepted = accept(b, a, made)
        holders = [(h.thread, h.rights) for h in a.sys.inspect(extent).holders]

        assert (accepted.kind, accepted.rights, accepted.count) == (Kind.EXTENT, READ | WRITE, 3)
        assert (handles(a), handles(b)) == ([a.handles[0], extent], [accepted.handle])
        assert holders == [(b.thread, READ | WRITE)]
        assert refusal(accept, b, a, made) == NO_SUCH_OFFER


def test_accept_a_grant() -> None:
    """Of a grant the receiver gets the capability itself, whose giver has nothing left of it."""
    with theatre() as stage:
        a, b, extent, made = offered(stage, grant=True)
        accepted = accept(b, a, made)

        assert (accepted.kind, accepted.rights, accepted.count) == (Kind.EXTENT, READ | WRITE, 3)
        assert (handles(a), handles(b)) == ([a.handles[0]], [accepted.handle])
        assert [refusal(a.sys.inspect, name) for name in (extent, made)] == [STALE_HANDLE] * 2
        assert b.sys.inspect(accepted.handle).origin == a.thread


@MAP_OR_GRANT
def test_accept_less(grant: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A receiver may accept fewer rights than offered, and gets none that were not offered."""
    with theatre() as stage:
        a, b, _, made = offered(stage, grant=grant)
        accepted = accept(b, a, made, READ | CONTROL)

        assert (accepted.rights, b.sys.inspect(accepted.handle).rights) == (READ, READ)


@pytest.mark.parametrize("rights", [0, CONTROL, CONTROL | TRANSFER, 32, (1 << 32) - 1])
def test_accept_no_rights(rights: int) -> None:
    """Accepting none of the rights offered, or bits that are no rights, is refused; the offer stands."""
    with theatre() as stage:
        a, b, _, made = offered(stage)
        found = refusal(accept, b, a, made, rights)

        assert (found, accept(b, a, made).count) == (Refusal.BAD_ARGUMENT, 3)


def test_offer_no_rights() -> None:
    """An offer of no rights could not be accepted: it is refused when it is made."""
    with theatre() as stage:
        a, b = stage.pair()

        assert refusal(offer, a, a.handles[0], b, 0) == Refusal.BAD_ARGUMENT


def test_count_is_of_extents() -> None:
    """Only for an extent does the answer count frames."""
    with theatre() as stage:
        a, b = stage.pair()
        accepted = accept(b, a, offer(a, a.handles[0], b, READ))

        assert (accepted.kind, accepted.count) == (Kind.RAM, 0)


def test_guesses() -> None:
    """Whatever is wrong with a guess, the answer is the same: it says nothing about anybody's table."""
    with theatre() as stage:
        a, b, extent, made = offered(stage)
        c, gone = stage.puppet("c"), stage.puppet("gone")
        stage.kill(gone)
        guesses = [
            (c, a.thread, made),  # for another
            (b, c.thread, made),  # of another
            (a, a.thread, made),  # its own
            (b, a.thread, extent),  # no offer
            (b, a.thread, made + (1 << 16)),  # another generation
            *((b, a.thread, name) for name in (0, 99, (1 << 32) - 1)),
            *((b, thread, made) for thread in (0, gone.thread, thread_id(5000), a.thread + 2, (1 << 64) - 1)),
        ]

        assert [refusal(accept, who, thread, name) for who, thread, name in guesses] == [NO_SUCH_OFFER] * 13
        assert accept(b, a, made).count == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda a, made: a.sys.derive(made, READ),
        lambda a, made: offer(a, made, a, READ),
        lambda a, made: a.sys.revoke(made),
        lambda a, made: a.sys.map_extent(made),
        lambda a, made: a.sys.carve(made, 1),
        lambda a, made: a.sys.plan(made, []),
        lambda a, made: a.sys.migrate(made, a.thread),
        lambda a, made: a.sys.environment_destroy(made),
    ],
    ids=["derive", "transfer", "revoke", "map", "carve", "plan", "migrate", "destroy"],
)
def test_an_offer_is_a_right_to_nothing(use: Callable[[Puppet, int], object]) -> None:
    """No trap but Inspect and Drop takes an offer for the capability it is of, whatever that is to."""
    with theatre() as stage:
        a, b = stage.puppet("a", holds=("ram", "cpus")), stage.puppet("b")
        things = [*a.handles, a.sys.carve(a.handles[0], 1).extent]
        things.append(stage.system.give(a.task, b.environment).handle)
        offers = [offer(a, handle, b, ALL_RIGHTS & a.sys.inspect(handle).rights) for handle in things]

        assert [refusal(use, a, made) for made in offers] == [WRONG_KIND] * 4


def test_an_offer_does_not_succeed() -> None:
    """Nor can a successor be started by an offer of the capability to the dead."""
    with theatre() as stage:
        root, server = stage.puppet("root", holds=("factory",)), stage.puppet("server", keeps=True)
        to_server = stage.system.give(root.task, server.environment).handle
        made = offer(root, to_server, root, ALL_RIGHTS)
        stage.kill(server)
        create = traps.EnvironmentCreate(root.handles[0], "server", server.body.program, succeeds=made)

        assert refusal(root.sys.environment_create, create) == WRONG_KIND


def test_inspect_an_offer() -> None:
    """An offer shows what it is of, with the rights offered; nobody holds anything by it."""
    with theatre() as stage:
        a, _, extent, made = offered(stage)
        whole, shown = a.sys.inspect(extent), a.sys.inspect(made)

        assert (shown.kind, shown.first, shown.count) == (whole.kind, whole.first, whole.count)
        assert (shown.rights, shown.holders, whole.holders) == (READ | WRITE, (), ())


def test_offers_show_themselves() -> None:
    """An offer says in a ledger or a traceback that it is one."""
    with theatre() as stage:
        a, _, _, _ = offered(stage)

        assert repr(a.caps[-1]).startswith("<Offer <Extent 0+3>")


def test_drop_an_offer() -> None:
    """An offer that is dropped is taken back; the capability stays."""
    with theatre() as stage:
        a, b, extent, made = offered(stage, grant=True)
        a.sys.drop(made)

        assert refusal(accept, b, a, made) == NO_SUCH_OFFER
        assert (handles(a), a.told()) == ([a.handles[0], extent], [])


@pytest.mark.parametrize(
    "take",
    [
        lambda a, extent: a.sys.drop(extent),
        lambda a, extent: a.sys.revoke(extent),
        lambda a, _: a.sys.revoke(a.handles[0]),
    ],
    ids=["drop", "revoke", "revoke what it is derived from"],
)
def test_offers_go_with_their_capability(take: Callable[[Puppet, int], object]) -> None:
    """Dropping or revoking the capability takes the offers of it; the one that did so is not told."""
    with theatre() as stage:
        a, b, extent, made = offered(stage)
        take(a, extent)

        assert (refusal(accept, b, a, made), refusal(a.sys.drop, made)) == (NO_SUCH_OFFER, STALE_HANDLE)
        assert a.told() == []


def test_offers_taken_by_another() -> None:
    """The maker of an offer is told when another takes the capability, and the offer with it."""
    with theatre() as stage:
        a, b, c = stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")
        there = passed(a, a.handles[0], b, READ | TRANSFER)
        page, made = b.env.page, offer(b, there, c, READ)
        assert a.sys.revoke(a.handles[0])[0] == 2

        assert sorted(b.told()) == sorted([(Label.REVOKED, (there,)), (Label.REVOKED, (made,))])
        assert (page[Page.REPOSSESSED], refusal(accept, c, b, made)) == (2, NO_SUCH_OFFER)


def test_asked_back() -> None:
    """At the deadline of a revoke an offer goes like anything derived."""
    with theatre() as stage:
        a, b, extent, made = offered(stage)
        assert a.sys.revoke(extent, 1000)[0] == 1
        stage.pass_time(2)

        assert refusal(accept, b, a, made) == NO_SUCH_OFFER


def test_a_grant_takes_the_other_offers() -> None:
    """When a capability is granted away, what else its giver had on offer of it falls; derivatives move along."""
    with theatre() as stage:
        a, b, extent, made = offered(stage, grant=True)
        c = stage.puppet("c")
        others = [offer(a, extent, c, READ, grant=grant) for grant in (False, True)]
        child = a.sys.derive(extent, READ)
        there = accept(b, a, made).handle

        assert [refusal(accept, c, a, each) for each in others] == [NO_SUCH_OFFER] * 2
        assert [(h.thread, h.rights) for h in b.sys.inspect(there).holders] == [(a.thread, READ)]
        assert handles(a) == [a.handles[0], child]


@pytest.mark.parametrize("narrowed_by", ["giver", "receiver"])
def test_a_grant_of_fewer_rights_spares_what_is_older(narrowed_by: str) -> None:
    """Earlier derivatives keep their rights; the grant's receiver sees them, and takes them back."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        extent = a.sys.carve(a.handles[0], 1).extent
        older = c.env.views.map(older_handle := passed(a, extent, c, READ | WRITE))
        made = offer(a, extent, b, READ if narrowed_by == "giver" else ALL_RIGHTS, grant=True)
        there = accept(b, a, made, READ).handle
        seen = [(holder.thread, holder.rights) for holder in b.sys.inspect(there).holders]
        kept = c.sys.inspect(older_handle).rights
        older[:4] = b"rest"
        read = bytes(b.env.views.map(there)[:4])

        assert (seen, kept, read) == ([(c.thread, READ | WRITE)], READ | WRITE, b"rest")
        assert refusal(b.sys.derive, there, READ | WRITE) == Refusal.MISSING_RIGHT
        assert (vm.revoke(b.env, Extent(there, 1, 0)), faults(older), c.sys.inventory()) == (1, True, ())


def test_a_grant_of_fewer_rights_leaves_its_giver_none_by_an_older_offer() -> None:
    """An offer that stood before the grant falls with it: nobody gets rights that way which nobody holds."""
    with theatre() as stage:
        a, b, extent, made = offered(stage)
        granted = passed(a, extent, b, READ, grant=True)

        assert refusal(accept, b, a, made) == NO_SUCH_OFFER
        assert [(c.resource.kind, c.rights) for c in b.caps] == [(Kind.EXTENT, READ)]
        assert handles(b) == [granted]


@pytest.mark.parametrize("who", ["maker", "receiver"])
@pytest.mark.parametrize("keeps", [False, True])
def test_offers_fall_with_either_side(who: str, keeps: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """When maker or receiver ends, the offer is gone, though it left everything else to a successor."""
    with theatre() as stage:
        root = stage.puppet("root")
        ends = {"keeps": keeps}
        a = stage.puppet("a", holds=("ram",), **(ends if who == "maker" else {}))  # type: ignore[arg-type]
        b = stage.puppet("b", **(ends if who == "receiver" else {}))  # type: ignore[arg-type]
        made = offer(a, a.handles[0], b, READ)
        dying, staying = (a, b) if who == "maker" else (b, a)
        stage.system.give(root.task, dying.environment)
        stage.kill(dying)

        assert not any(c.offer for e in stage.kernel.environments for c in e.table)
        assert staying.told() == []
        if who == "maker":
            assert refusal(accept, b, a, made) == NO_SUCH_OFFER
        else:
            assert handles(a) == a.handles


@pytest.mark.parametrize("who", ["maker", "receiver"])
def test_successors_take_no_offers_over(who: str) -> None:
    """A successor neither has the offers its predecessor made, nor those made to it."""
    with theatre() as stage:
        root = stage.puppet("root")
        a = stage.puppet("a", holds=("ram",), keeps=who == "maker")
        b = stage.puppet("b", keeps=who == "receiver")
        made = offer(a, a.handles[0], b, READ)
        old = a if who == "maker" else b
        stage.system.give(root.task, old.environment)
        stage.kill(old)
        heir = stage.heir(old)
        taker, giver = (b, heir) if who == "maker" else (heir, a)

        assert refusal(accept, taker, giver, made) == NO_SUCH_OFFER
        assert len((heir if who == "maker" else a).caps) == 1


def test_an_offer_follows_who_succeeded() -> None:
    """An offer of a capability to a server is one to its successor, when that took its place by attaching."""
    with theatre() as stage:
        a, b = stage.pair()
        server = stage.puppet("server", keeps=True)
        made = offer(a, stage.system.give(a.task, server.environment).handle, b, READ)
        stage.kill(server)
        body = stage.machine.attach("again", lambda: None, uid=server.environment.uid)
        heir = stage.kernel.environments.adopt(body, "server", None, frozenset())

        shown, accepted = a.sys.inspect(made), b.sys.inspect(accept(b, a, made).handle)
        stage.kernel.environments.kill(heir)
        stage.settle()

        assert (shown.first, accepted.first) == (heir.thread, heir.thread)


def test_watchers_by_offer() -> None:
    """The maker of an offer to an environment is told of its end once, not once more for the offer."""
    with theatre() as stage:
        a, b, c = stage.puppet("a"), stage.puppet("b"), stage.puppet("c")
        offer(a, stage.system.give(a.task, c.environment).handle, b, READ)
        stage.kill(c)

        assert [label for label, _ in a.told()] == [Label.DEATH]


def test_the_oldest_offer_falls() -> None:
    """Between two environments only so many offers stand: the next makes the oldest fall, others' are untouched."""
    with theatre() as stage:
        a, b, c = stage.puppet("a", holds=("ram",)), stage.puppet("b"), stage.puppet("c")
        other = offer(a, a.handles[0], c, READ)
        made = [offer(a, a.handles[0], b, READ) for _ in range(MAX_OFFERS + 2)]
        found = [refusal(accept, b, a, each) for each in made[:2]]
        accepted = [accept(b, a, each).rights for each in made[2:]]

        assert (found, accepted) == ([NO_SUCH_OFFER] * 2, [READ] * MAX_OFFERS)
        assert (accept(c, a, other).rights, a.told()) == (READ, [])


def test_offers_from_a_full_table() -> None:
    """Offers take none of the room for capabilities: a full table can still pass on its capabilities."""
    with theatre() as stage:
        a, b = stage.puppet("a", holds=("ram",)), stage.puppet("b")
        for _ in range(MAX_HANDLES - 1):
            a.sys.derive(a.handles[0], READ)

        assert refusal(a.sys.derive, a.handles[0], READ) == Refusal.TABLE_FULL
        assert accept(b, a, offer(a, a.handles[0], b, READ)).rights == READ


@MAP_OR_GRANT
def test_a_refused_offer_changes_nothing(grant: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """No offer falls for one that is refused."""
    with theatre() as stage:
        a, b = stage.pair()
        made = [offer(a, a.handles[0], b, READ) for _ in range(MAX_OFFERS)]
        weak = a.sys.derive(a.handles[0], CONTROL)

        assert refusal(offer, a, weak, b, CONTROL, grant=grant) == Refusal.MISSING_RIGHT
        assert accept(b, a, made[0]).rights == READ


@MAP_OR_GRANT
def test_an_offer_to_oneself(grant: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """One may accept one's own offer; of a map the result comes from oneself, so it has no origin."""
    with theatre() as stage:
        a = stage.puppet("a", holds=("ram",))
        made = passed(a, a.handles[0], a, READ, grant=grant)

        assert a.sys.inspect(made).origin == (a.thread if grant else 0)
        assert handles(a) == ([made] if grant else [a.handles[0], made])


def test_offers_map_nothing() -> None:
    """An offer never taken was never mapped: taking it back moves no memory, and nobody is told."""
    with theatre() as stage:
        a, b, extent, made = offered(stage)
        mine = a.env.views.map(extent)
        a.sys.drop(made)
        offer(a, extent, b, READ)
        found = a.sys.revoke(extent)

        assert (found, faults(mine), a.told()) == ((1, []), False, [])


def test_a_grant_moves_the_memory_when_it_is_accepted() -> None:
    """Its giver has the memory mapped until then."""
    with theatre() as stage:
        a, b, extent, made = offered(stage, grant=True)
        mine = a.env.views.map(extent)
        mine[:4] = b"gift"
        before = faults(mine)
        there = accept(b, a, made).handle

        assert (before, faults(mine), bytes(b.env.views.map(there)[:4])) == (False, True, b"gift")


def test_accepted_in_a_batch() -> None:
    """Several offers are accepted in one crossing; a wrong one spoils none of the others."""
    with theatre() as stage:
        a, b = stage.pair()
        made = [offer(a, a.handles[0], b, READ) for _ in range(3)]
        a.sys.drop(made[1])
        answers, _ = b.sys.batch([traps.Accept(a.thread, each) for each in made])

        assert [isinstance(answer, TrapRefused) for answer in answers] == [False, True, False]
        assert len(b.caps) == 2

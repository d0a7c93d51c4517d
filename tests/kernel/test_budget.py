"""Budgets: what is counted, what is refused, what children are given, and that everything comes back."""

import random
from collections.abc import Mapping
from contextlib import suppress

import msgspec
import pytest

from hwmodel.simulated.clock import VirtualAlarm
from kernel.abi import traps
from kernel.abi.budget import OFFER_LIFE_NS, Item, pairs
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_id
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_NAMES
from kernel.abi.messages import Label
from kernel.abi.predicates import Operator, Source, Term
from kernel.abi.program import Program, ProgramKind
from kernel.abi.rights import Rights
from kernel.abi.topology import MachineConfig, ServerConfig, Topology, TopologyError, check
from kernel.budget import Budget
from kernel.errors import Refused
from libexo import attach
from libexo.errors import TrapRefused
from libexo.testing import simulated
from tests.kernel.passing import accept, offer
from tests.kernel.puppets import MS, Puppet, Theatre, refusal, theatre, wait_for_ever

PROGRAM = Program(kind=ProgramKind.PYTHON, argv=("child",))
FEW = 6
READ = Rights.READ
DIVIDED = [item for item in Item if item.divided]


class Crowd:
    """A root that creates environments, and those it created."""

    def __init__(self, stage: Theatre) -> None:
        stage.machine.programs["child"] = lambda: wait_for_ever(attach())
        self.stage = stage
        self.root = stage.puppet("root", holds=("factory", "ram"))
        self.made: dict[str, int] = {}
        self.threads = 0

    def begin(
        self,
        name: str,
        payer: Puppet | None = None,
        *,
        keeps: bool = False,
        more: Mapping[Item, int] | None = None,
        **limits: int,
    ) -> Puppet:
        """Start one that *payer* pays for, or the system; *limits* by items' names."""
        wished = pairs(dict(more or {}) | {Item[item]: limit for item, limit in limits.items()})
        create = traps.EnvironmentCreate(
            self.root.handles[0],
            name,
            PROGRAM,
            keeps=keeps,
            payer=payer.thread if payer is not None else 0,
            limits=wished,
        )
        self.made[name] = self.root.sys.environment_create(create).environment
        made = self.stage.of(list(self.stage.kernel.environments)[-1])
        made.handles.append(self.stage.system.give(made.task, self.stage.system._things("ram")[0]).handle)
        return made

    def end(self, puppet: Puppet) -> None:
        """End it, and ask no more how it ended."""
        self.stage.kill(puppet)
        self.root.sys.drop(self.made.pop(puppet.name))
        self.stage.settle()

    def one_more(self, item: Item, of: Puppet) -> None:
        """Have the system hold one more of *item* for *of*. Raises TrapRefused."""
        root, serial = self.root, self.threads
        self.threads += 1
        match item:
            case Item.HANDLES:
                of.sys.derive(of.handles[0], READ)
            case Item.DESCRIPTORS:
                of.sys.carve(of.handles[0], 1)
            case Item.BINDINGS:
                _, tickets = of.sys.bind(root.thread)
                for ticket in tickets:
                    of.host.close_descriptor(ticket)
            case Item.THREADS:
                new = thread_id(2000 + serial)
                root.sys.thread_control(traps.ThreadControl(new, of.thread, root.thread, of.thread))
            case Item.CHILDREN | Item.RESTARTS | Item.KEPT:
                self.begin(f"{of.name}-{serial}", of, keeps=item is not Item.CHILDREN)
            case Item.NAMES:
                root.sys.name_publish(root.handles[0], f"alias-{serial}", of.thread)
            case Item.ALARMS:
                of.sys.revoke(of.caps[-1].handle, 1000)
                give = self.stage.system.give
                give(of.task, self.stage.system._things("ram")[0])
            case Item.PREDICATES:
                of.sys.wake_when(serial + 1, ((Term(Source.CLOCK, 0, Operator.AT_LEAST, 1 << 60),),))
            case Item.WAITS:
                root.sys.charge(of.thread, Item.WAITS, of.environment.budget.used[Item.WAITS] + 1)


@pytest.mark.parametrize(
    "item", [item for item in Item if item not in (Item.OFFERS, Item.UPCALLS)], ids=lambda item: item.name
)
def test_over_budget(item: Item) -> None:
    """An environment at a limit is refused more, by the item's name; others are not; all of it comes back."""
    with theatre() as stage:
        crowd = Crowd(stage)
        shell, innocent = (
            crowd.begin("shell", more={each: each.server for each in Item}),
            crowd.begin("innocent"),
        )
        free = [shell.environment.budget.room(each) for each in Item]
        few = FEW * len("child") if item is Item.KEPT else FEW
        hog = crowd.begin("hog", shell, more={each: each.program for each in Item} | {item: few})
        refused = refused_at_last(crowd, item, hog)
        assert (refused.refusal, refused.detail.partition(":")[0]) == (
            Refusal.OVER_BUDGET,
            f"{item.name.lower()} of hog",
        )
        assert hog.environment.budget.room(item) < few // FEW
        for each in Item:
            crowd.one_more(each, innocent)
        stage.check()
        for puppet in [puppet for puppet in stage.puppets if puppet.name.startswith("hog")]:
            crowd.end(puppet)

        assert [shell.environment.budget.room(each) for each in Item] == free


def refused_at_last(crowd: Crowd, item: Item, of: Puppet) -> TrapRefused:
    """Have more and more of *item* held for *of*; return with what it ends."""
    for _ in range(FEW + 1):
        try:
            crowd.one_more(item, of)
        except TrapRefused as refused:
            return refused
    raise AssertionError("there is no end")


def test_what_a_child_gets() -> None:
    """A child gets the least of each item, and an eighth of what there is beyond that for all later children."""
    with theatre() as stage:
        crowd = Crowd(stage)
        shell = crowd.begin("shell", HANDLES=1024, CHILDREN=64, RESTARTS=16, NAMES=1)
        child = crowd.begin("child", shell).environment.budget
        follower = crowd.begin("follower", shell).environment.budget

        assert child.limit[Item.HANDLES] == 8 + -(-(1023 - 64 * 8) // 8)
        assert child.limit[Item.CHILDREN] == -(-63 // 8)
        assert [child.limit[Item.NAMES], follower.limit[Item.NAMES]] == [1, 0]
        assert child.limit[Item.HANDLES] >= follower.limit[Item.HANDLES] > 8
        assert [child.limit[item] for item in Item if not item.divided] == [64, 1024]


def test_all_children_can_be_started() -> None:
    """A program that starts as many children as it may can give each what it needs to live."""
    with theatre() as stage:
        crowd = Crowd(stage)
        shell = crowd.begin("shell")
        while (budget := shell.environment.budget).room(Item.CHILDREN):
            crowd.begin(f"child-{len(budget.parts)}", shell)

        assert len(budget.parts) > Item.CHILDREN.program // 8
        assert all(part.limit[item] >= item.least for part in budget.parts for item in Item)


def test_a_wish_that_cannot_be_met() -> None:
    """No child gets more than its starter has left, and of the attempt nothing is left; the system has more."""
    with theatre() as stage:
        crowd = Crowd(stage)
        shell = crowd.begin("shell")
        before = list(shell.environment.budget.given)

        assert refusal(crowd.begin, "child", shell, HANDLES=1024) == Refusal.OVER_BUDGET
        assert refusal(crowd.begin, "shell", shell, HANDLES=99) == Refusal.NAME_TAKEN
        assert (shell.environment.budget.given, shell.environment.budget.parts) == (before, set())
        assert crowd.begin("other", HANDLES=3000).environment.budget.limit[Item.HANDLES] == 3000


@pytest.mark.parametrize("item", [99, len(Item)])
def test_an_item_there_is_none_of(item: int) -> None:
    """A limit of no item is a wrong argument."""
    with theatre() as stage:
        root = Crowd(stage).root
        create = traps.EnvironmentCreate(root.handles[0], "child", PROGRAM, limits=((item, 1),))

        assert refusal(root.sys.environment_create, create) == Refusal.BAD_ARGUMENT
        assert refusal(root.sys.charge, root.thread, item, 1) == Refusal.BAD_ARGUMENT


def test_orphans_are_their_grandparents() -> None:
    """A program that ends before its children leaves them, and their cost, to its own payer: it gains nothing."""
    with theatre() as stage:
        crowd = Crowd(stage)
        shell = crowd.begin("shell")
        parent = crowd.begin("parent", shell)
        orphan = crowd.begin("orphan", parent, keeps=True)
        crowd.end(parent)
        budget = shell.environment.budget
        counted = [budget.used[item] for item in (Item.CHILDREN, Item.RESTARTS, Item.KEPT)]

        assert counted == [1, 1, len("child")]
        assert [budget.given[item] for item in DIVIDED] == [
            orphan.environment.budget.limit[item] for item in DIVIDED
        ]
        crowd.end(orphan)
        assert (budget.used[Item.CHILDREN], sum(budget.given)) == (0, 0)


def test_a_child_that_is_restarted_counts_on() -> None:
    """Between its death and its successor a child costs what it cost; the successor has its budget."""
    with theatre() as stage:
        crowd = Crowd(stage)
        shell = crowd.begin("shell")
        child = crowd.begin("child", shell, keeps=True, HANDLES=33)
        stage.kill(child)
        budget = shell.environment.budget
        between = budget.used[Item.RESTARTS]
        heir = stage.heir(child)

        assert (between, budget.used[Item.RESTARTS]) == (1, 1)
        assert heir.environment.budget.limit[Item.HANDLES] == 33
        assert heir.environment.budget.used[Item.HANDLES] == 1


@pytest.mark.parametrize("steps", [300])
def test_families(steps: int, seed: int) -> None:
    """Whatever trees are grown and felled, parent and descendants hold no more than the parent was given."""
    chance = random.Random(f"{seed}/families")
    serial, rooted = 0, (1000, 900, 800)
    top = [Budget(f"top-{n}", [limit] * len(Item)) for n, limit in enumerate(rooted)]
    living = list(top)

    def total(budget: Budget, item: Item) -> int:
        return budget.used[item] + sum(total(part, item) for part in budget.parts)

    for _ in range(steps):
        budget, item = chance.choice(living), chance.choice(DIVIDED)
        match chance.choice(("grow", "grow", "charge", "charge", "end")):
            case "grow":
                serial += 1
                wished = {item: chance.randrange(40)} if chance.random() < 0.5 else {}
                costs = {Item.CHILDREN: 1, Item.RESTARTS: chance.randrange(2)}
                with suppress(Refused):
                    living.append(budget.divide(f"b{serial}", wished, costs))
            case "charge":
                with suppress(Refused):
                    budget.charge(item, chance.randrange(50))
            case "end" if budget not in top:
                for each in Item:
                    own = sum(part.costs.get(each, 0) for part in budget.parts)
                    budget.release(each, budget.used[each] - own)
                budget.end()
                living.remove(budget)

    for budget in living:
        assert all(total(budget, item) <= budget.limit[item] for item in DIVIDED)
        assert all(budget.given[item] == sum(part.limit[item] for part in budget.parts) for item in DIVIDED)
    for budget in reversed(living[len(top) :]):
        budget.end()
    assert all(not any(budget.given) and not budget.parts for budget in top)


# ------------------------------------------------------------------------------------------------------- offers


def answering(stage: Theatre) -> tuple[Puppet, Puppet, Puppet]:
    """A server, and two programs that are bound to it."""
    crowd = Crowd(stage)
    server = stage.puppet("server", holds=("ram",))
    programs = [crowd.begin(name) for name in ("hog", "innocent")]
    for program in programs:
        for ticket in program.sys.bind(server.thread)[1]:
            program.host.close_descriptor(ticket)
    return server, programs[0], programs[1]


def test_an_answer_counts_against_its_receiver() -> None:
    """A server's offer to a program bound to it counts in the program's budget; otherwise in the maker's."""
    with theatre() as stage:
        server, hog, _ = answering(stage)
        offer(server, server.handles[0], hog, READ)
        offer(hog, hog.handles[0], server, READ)
        used = [puppet.environment.budget.used[Item.OFFERS] for puppet in (server, hog)]

        assert used == [0, 2]


def test_a_crowd_that_accepts_nothing() -> None:
    """Programs that never take what they are offered fill no server's table, and cost an innocent no offer."""
    with theatre() as stage:
        server, hog, innocent = answering(stage)
        first = offer(server, server.handles[0], innocent, READ)
        for _ in range(3 * Item.OFFERS.program):
            offer(server, server.handles[0], hog, READ)

        assert server.environment.table.used == 2 + Item.OFFERS.program
        assert accept(innocent, server, first).rights == READ


def test_the_oldest_of_who_has_most_falls() -> None:
    """Another maker's flood makes its own offers fall, and not the few of a server to the same receiver."""
    with theatre() as stage:
        server, hog, innocent = answering(stage)
        for ticket in innocent.sys.bind(hog.thread)[1]:
            innocent.host.close_descriptor(ticket)
        first = offer(server, server.handles[0], innocent, READ)
        flood = [offer(hog, hog.handles[0], innocent, READ) for _ in range(2 * Item.OFFERS.program)]

        assert innocent.environment.budget.used[Item.OFFERS] == Item.OFFERS.program
        assert refusal(accept, innocent, hog, flood[0]) == Refusal.NO_SUCH_OFFER
        assert accept(innocent, hog, flood[-1]).rights == accept(innocent, server, first).rights == READ


def test_offers_expire() -> None:
    """An offer that nobody took in time is none, and counts no more when it is asked for or the next is made."""
    with theatre() as stage:
        server, hog, innocent = answering(stage)
        old = [offer(server, server.handles[0], each, READ) for each in (hog, innocent)]
        stage.pass_time(OFFER_LIFE_NS / MS)
        new = offer(server, server.handles[0], hog, READ)

        assert refusal(accept, innocent, server, old[1]) == Refusal.NO_SUCH_OFFER
        assert refusal(server.sys.inspect, old[0]) == Refusal.STALE_HANDLE
        assert [each.environment.budget.used[Item.OFFERS] for each in (hog, innocent)] == [1, 0]
        assert accept(hog, server, new).rights == READ


def test_no_offers_at_all() -> None:
    """An environment that may have no offer is refused its first."""
    with theatre() as stage:
        crowd = Crowd(stage)
        miser = crowd.begin("miser", OFFERS=0)

        assert refusal(offer, miser, miser.handles[0], crowd.root, READ) == Refusal.OVER_BUDGET


# ------------------------------------------------------------------------ what servers and the kernel hold


def test_upcalls_are_bounded() -> None:
    """Messages of the kernel that a program does not read are kept up to its limit, then dropped and counted."""
    with theatre() as stage:
        crowd = Crowd(stage)
        hog = crowd.begin("hog", UPCALLS=FEW)
        while not stage.kernel.kip.counter(Counter.UPCALLS_DROPPED):
            stage.kernel.exposure.tell(hog.environment, Label.REVOKED, (1,))

        assert len(hog.environment.backlog) == FEW


@pytest.mark.parametrize("ends", ["server", "client"])
def test_charges_are_void_when_either_ends(ends: str) -> None:
    """A server's charge to a program counts until it changes it, or one of them ends."""
    with theatre() as stage:
        crowd = Crowd(stage)
        server, client = stage.puppet("server", holds=("factory",)), crowd.begin("client", keeps=True)
        server.sys.charge(client.thread, Item.WAITS, 5)
        server.sys.charge(client.thread, Item.WAITS, 3)
        budget = client.environment.budget
        during = budget.used[Item.WAITS]
        stage.kill({"server": server, "client": client}[ends])

        assert (during, budget.used[Item.WAITS]) == (3, 0)


def test_only_servers_charge() -> None:
    """A program cannot use up another's budget, nor can a server for what it does not hold."""
    with theatre() as stage:
        crowd = Crowd(stage)
        hog, innocent = crowd.begin("hog"), crowd.begin("innocent")

        assert refusal(hog.sys.charge, innocent.thread, Item.WAITS, 1) == Refusal.NO_PRIVILEGE
        assert refusal(crowd.root.sys.charge, innocent.thread, Item.HANDLES, 1) == Refusal.BAD_ARGUMENT


def test_alarms_go_with_their_program() -> None:
    """A revocation with a deadline is dropped when its caller has ended."""
    with theatre() as stage:
        crowd = Crowd(stage)
        hog = crowd.begin("hog")
        more = [hog.sys.derive(hog.handles[0], READ) for _ in range(Item.ALARMS.program)]
        for handle in (*more, more[0]):
            hog.sys.revoke(handle, 1_000_000)
        alarms = [c.deadline for c in hog.caps if isinstance(c.deadline, VirtualAlarm)]
        crowd.end(hog)

        assert len(alarms) == Item.ALARMS.program
        assert all(alarm.callback is None for alarm in alarms)


def test_names_of_the_dead_and_of_many() -> None:
    """One program cannot fill the table of names, whatever it registers and however often."""
    with theatre() as stage:
        crowd = Crowd(stage)
        hog = crowd.begin("hog")
        refused = 0
        for n in range(MAX_NAMES):
            try:
                crowd.root.sys.name_publish(crowd.root.handles[0], f"n{n}", hog.thread)
            except TrapRefused:
                refused += 1

        assert refused == MAX_NAMES - Item.NAMES.program
        assert crowd.begin("innocent").alive


def test_budgets_of_servers() -> None:
    """A server has the limits that the topology says, and those of a server else; an unknown item is a mistake."""
    ram = ServerConfig("tests.kernel.idle_server:Idle", 96, 1, holds=("ram",), budget={"handles": 99})
    with simulated(Topology(MachineConfig(memory="1 MiB"), server={"ram": ram})) as system:
        system.machine.drive(system.supervisor, limit=system.machine.clock.now())
        [limit] = [e.budget.limit for e in system.kernel.environments if e.name == "ram"]

        assert (limit[Item.HANDLES], limit[Item.NAMES]) == (99, Item.NAMES.server)
    with pytest.raises(TopologyError, match="no budget counts hands"):
        check(Topology(server={"ram": msgspec.structs.replace(ram, budget={"hands": 1})}))

"""Random walks over capabilities and offers, each step compared with a model of a few lines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.abi.errors import Refusal
from kernel.abi.rights import ALL_RIGHTS, Kind, Rights
from libexo.errors import TrapRefused
from tests.kernel.invariants import rights_grow
from tests.kernel.puppets import Puppet, Theatre, theatre

ACTORS = 3
MOST = ALL_RIGHTS & ~Rights.EXECUTE


class Step(NamedTuple):
    """One step: its actor, its object among the possible ones, its partner."""

    what: str
    actor: int
    pick: int
    other: int
    rights: int
    grant: bool


@dataclass(eq=False)
class Node:
    """A capability, or an offer, as the model has it."""

    holder: int
    rights: int
    kind: Kind
    parent: "Node | None"
    handle: int
    receiver: int | None = None
    """Of an offer: for whom."""
    grant: bool = False
    spared: int = 0
    """Rights that its parent lost by being granted, when this one had been made already: it may have them still."""


class Walk:
    """The model, the puppets it is compared with, and the steps."""

    def __init__(self, stage: Theatre) -> None:
        self.stage = stage
        self.births = 0
        self.nodes: list[Node] = []
        self.actors = [self.born(number) for number in range(ACTORS)]

    def born(self, number: int) -> Puppet:
        self.births += 1
        puppet = self.stage.puppet(f"actor-{self.births}", holds=("ram",) if number == 0 else ())
        self.nodes += [Node(number, int(ALL_RIGHTS), Kind.RAM, None, handle) for handle in puppet.handles]
        return puppet

    def of(self, holder: int) -> list[Node]:
        return [node for node in self.nodes if node.holder == holder]

    def below(self, node: Node) -> list[Node]:
        """The derivatives of *node*, offers included."""
        children = [child for child in self.nodes if child.parent is node]
        return [*children, *(deeper for child in children for deeper in self.below(child))]

    def take(self, *taken: Node) -> None:
        self.nodes = [node for node in self.nodes if node not in taken]

    def step(self, step: Step) -> None:
        """Do one step, in the kernel and in the model, and compare."""
        nodes = self.nodes if step.what == "accept" else self.of(step.actor)
        if step.what == "die":
            self.die(step.actor)
        elif nodes:
            deed: Callable[[Step, Node], None] = getattr(self, step.what)
            deed(step, nodes[step.pick % len(nodes)])
        self.compare()

    def expect(self, refused: Refusal | None, trap: Callable[[], int]) -> int | None:
        """Do *trap*; return its result when nothing was to be refused, and was not."""
        result, found = None, None
        try:
            result = trap()
        except TrapRefused as refusal:
            found = refusal.refusal
        assert found == refused
        return result

    # -------------------------------------------------------------------------------------------------- steps

    def derive(self, step: Step, node: Node) -> None:
        refused = None
        if node.receiver is not None:
            refused = Refusal.WRONG_KIND
        elif step.rights & ~node.rights:
            refused = Refusal.MISSING_RIGHT
        made = self.expect(refused, lambda: self.actors[step.actor].sys.derive(node.handle, step.rights))
        if made is not None:
            self.nodes.append(Node(step.actor, step.rights, node.kind, node, made))

    def carve(self, step: Step, node: Node) -> None:
        refused = None
        if node.receiver is not None or node.kind is not Kind.RAM:
            refused = Refusal.WRONG_KIND
        elif not node.rights & Rights.CONTROL:
            refused = Refusal.MISSING_RIGHT
        made = self.expect(refused, lambda: self.actors[step.actor].sys.carve(node.handle, 1).extent)
        if made is not None:
            rights = int(node.rights | Rights.EXECUTE)
            self.nodes.append(Node(step.actor, rights, Kind.EXTENT, node, made))

    def offer(self, step: Step, node: Node) -> None:
        refused = None
        if node.receiver is not None:
            refused = Refusal.WRONG_KIND
        elif (step.rights | Rights.TRANSFER) & ~node.rights:
            refused = Refusal.MISSING_RIGHT
        elif not step.rights:
            refused = Refusal.BAD_ARGUMENT
        maker, to = self.actors[step.actor], self.actors[step.other].thread
        made = self.expect(
            refused, lambda: maker.sys.transfer(node.handle, to, step.rights, grant=step.grant)
        )
        if made is not None:
            offer = Node(step.actor, step.rights, node.kind, node, made, step.other, step.grant)
            self.nodes.append(offer)

    def accept(self, step: Step, node: Node) -> None:
        rights = node.rights & step.rights
        refused = None
        if node.receiver != step.actor:
            refused = Refusal.NO_SUCH_OFFER
        elif not rights:
            refused = Refusal.BAD_ARGUMENT
        taker, maker = self.actors[step.actor], self.actors[node.holder].thread
        got = self.expect(refused, lambda: taker.sys.accept(maker, node.handle, step.rights).handle)
        if got is None:
            return
        self.take(node)
        assert node.parent is not None
        if not node.grant:
            self.nodes.append(Node(step.actor, rights, node.kind, node.parent, got))
            return
        moved = node.parent
        self.take(*(each for each in self.nodes if each.parent is moved and each.receiver is not None))
        for child in [each for each in self.nodes if each.parent is moved]:
            child.spared |= moved.rights & ~rights
        moved.holder, moved.rights, moved.handle = step.actor, rights, got

    def drop(self, step: Step, node: Node) -> None:
        self.actors[step.actor].sys.drop(node.handle)
        self.take(node, *self.below(node))

    def revoke(self, step: Step, node: Node) -> None:
        refused = Refusal.WRONG_KIND if node.receiver is not None else None
        below = self.below(node)
        count = self.expect(refused, lambda: self.actors[step.actor].sys.revoke(node.handle)[0])
        if count is not None:
            assert count == len(below)
            self.take(*below)

    def die(self, actor: int) -> None:
        self.stage.kill(self.actors[actor])
        for node in self.of(actor):
            self.take(node, *self.below(node))
        self.take(*(node for node in self.nodes if node.receiver == actor))
        self.actors[actor] = self.born(actor)

    # ------------------------------------------------------------------------------------------------ compared

    def compare(self) -> None:
        """Every actor has what the model says, with the rights and the holders it says."""
        for number, actor in enumerate(self.actors):
            nodes = {node.handle: node for node in self.of(number)}
            assert set(actor.sys.inventory()) == set(nodes)
            for handle, node in nodes.items():
                shown = actor.sys.inspect(handle)
                children = [n for n in self.nodes if n.parent is node and n.receiver is None]
                holders = sorted((self.actors[child.holder].thread, child.rights) for child in children)
                assert (shown.rights, shown.kind) == (node.rights, node.kind)
                assert sorted((holder.thread, holder.rights) for holder in shown.holders) == holders
            grown = rights_grow(actor.caps, lambda c, nodes=nodes: nodes[c.handle].spared)  # type: ignore[misc]
            assert grown == []


STEPS = st.builds(
    Step,
    st.sampled_from(["derive", "carve", "offer", "offer", "offer", "accept", "accept", "accept"])
    | st.sampled_from(["drop", "revoke", "die"]),
    st.integers(0, ACTORS - 1),
    st.integers(0, 50),
    st.integers(0, ACTORS - 1),
    st.sampled_from([0, Rights.READ, Rights.READ | Rights.TRANSFER, MOST, MOST, ALL_RIGHTS]).map(int),
    st.booleans(),
)


@settings(max_examples=60)
@given(st.lists(STEPS, min_size=10, max_size=40))
def test_random_walks(steps: list[Step]) -> None:
    """Whatever is carved, derived, offered, accepted, dropped and revoked, the kernel has what the model has.

    Nobody has a right that what it was derived from did not have then; nor has not now, but for a grant since.
    """
    with theatre() as stage:
        walk = Walk(stage)
        for step in steps:
            walk.step(step)

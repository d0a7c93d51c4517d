"""Extents that cannot pay for a ring, and a full host: nothing has changed, and nothing is left over."""

import pytest

from hwmodel.machine import Exhausted
from hwmodel.simulated.machine import SimulatedMachine
from hwmodel.simulated.memory import SimulatedBacking
from kernel.abi.errors import Refusal
from kernel.abi.limits import FRAME_SIZE, MAX_RING_FRAMES, MIN_RING_FRAMES
from kernel.abi.rights import ALL_RIGHTS, Rights
from tests.kernel.puppets import Theatre, ram_of, refusal, theatre, unbound
from tests.kernel.rings import FRAMES, bound, carve, mapped, pair

# ------------------------------------------------------------------------------------------------ what it takes


def test_only_whole_extents_pay() -> None:
    """A handle that names nothing, nothing any more, no extent, or one without the rights, is refused as that."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carve(a)
        stale = a.sys.derive(extent, 0)
        a.sys.drop(stale)
        weak = [a.sys.derive(extent, ALL_RIGHTS & ~right) for right in (Rights.WRITE, Rights.READ)]
        names = [4000, stale, a.handles[0], *weak]

        assert [refusal(a.sys.bind, b.thread, 0, name) for name in names] == [
            Refusal.BAD_HANDLE,
            Refusal.STALE_HANDLE,
            Refusal.WRONG_KIND,
            *[Refusal.MISSING_RIGHT] * 2,
        ]


@pytest.mark.parametrize(
    ("frames", "refused"),
    [
        (MIN_RING_FRAMES - 1, True),
        (MIN_RING_FRAMES, False),
        (MAX_RING_FRAMES, False),
        (MAX_RING_FRAMES + 1, True),
    ],
)
def test_sizes(frames: int, refused: bool) -> None:  # noqa: FBT001 - a column of the table
    """An extent is neither too small for control words and two directions, nor larger than anybody needs."""
    with theatre(ram_of(MAX_RING_FRAMES + 10)) as stage:
        a, b = stage.pair()
        extent = carve(a, frames)
        if refused:
            assert refusal(a.sys.bind, b.thread, 0, extent) == Refusal.BAD_ARGUMENT
        else:
            assert len(bound(a, b, extent).memory) == frames * FRAME_SIZE


def test_nobody_else_holds_it() -> None:
    """An extent with a second capability, or an offer of it, cannot pay; without them it can."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carve(a)
        copies = [a.sys.derive(extent, int(Rights.READ)), a.sys.transfer(extent, b.thread, int(Rights.READ))]
        held = []
        for copy in copies:
            held.append(refusal(a.sys.bind, b.thread, 0, extent))
            a.sys.drop(copy)
        given = a.sys.transfer(extent, b.thread, int(Rights.READ))
        theirs = b.sys.accept(a.thread, given).handle
        held.append(refusal(a.sys.bind, b.thread, 0, extent))
        b.sys.drop(theirs)

        assert held == [Refusal.RING_MEMORY] * 3
        assert bound(a, b, extent).memory


def test_one_extent_one_ring() -> None:
    """Memory of a ring pays for no second binding, to any thread."""
    with theatre() as stage:
        p = pair(stage)

        assert refusal(p.a.sys.bind, p.b.thread, 0, p.extent) == Refusal.RING_MEMORY
        assert refusal(p.a.sys.bind, p.a.thread, 0, p.extent) == Refusal.RING_MEMORY


@pytest.mark.parametrize("receiver", ["nobody", "gone", "not on the list"])
def test_another_refusal_leaves_the_extent(receiver: str) -> None:
    """When the binding is refused, the extent keeps its contents and its mappings."""
    with theatre() as stage:
        b, c = stage.puppet("b"), stage.puppet("c")
        a = stage.puppet("a", holds=("ram",), may_bind=[c.thread >> 32])
        thread = {"nobody": 0, "gone": c.thread, "not on the list": b.thread}[receiver]
        stage.kill(*([c] if receiver == "gone" else []))
        extent = carve(a)
        view = mapped(a, extent)
        view[0] = 9
        refusal(a.sys.bind, thread, 0, extent)

        assert (view[0], a.sys.map_extent(extent)[0].count, a.environment.outgoing) == (9, FRAMES, {})


# --------------------------------------------------------------------------------------- when the host is full


def exhaust(monkeypatch: pytest.MonkeyPatch, what: type, method: str, lent: int) -> None:
    """Let *method* of *what* succeed *lent* times, and then find the host full."""
    ask, left = getattr(what, method), [None] * lent

    def lend(self: object, *arguments: object, **named: object) -> object:
        if not left:
            raise Exhausted("none left")
        left.pop()
        return ask(self, *arguments, **named)

    monkeypatch.setattr(what, method, lend)


LENT = [
    (SimulatedMachine, "ticket", 1),
    (SimulatedMachine, "bell", 0),
    (SimulatedMachine, "bell", 1),
    (SimulatedMachine, "endpoint", 0),
    (SimulatedBacking, "seal", 0),
]


@pytest.mark.parametrize(("what", "method", "lent"), LENT)
def test_a_full_host_changes_nothing(
    what: type, method: str, lent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the host does not lend, nothing is left over, and the extent keeps contents and mappings."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carve(a)
        view = mapped(a, extent)
        view[0] = 9
        before = len(stage.machine.open_descriptors())
        exhaust(monkeypatch, what, method, lent)
        refused = refusal(a.sys.bind, b.thread, 0, extent)
        monkeypatch.undo()

        assert (refused, a.environment.outgoing, b.environment.first.incoming) == (Refusal.HOST_FULL, {}, {})
        assert (len(stage.machine.open_descriptors()), view[0]) == (before, 9)
        assert bound(a, b, extent).memory


def test_a_full_host_at_the_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A binding whose memory the host does not lend its receiver ends, and its sender is told; others are taken."""
    with theatre() as stage:
        a, b = stage.pair()
        ring = bound(a, b, carve(a))
        plain, tickets = a.sys.bind(b.thread)
        a.connect(plain.address)
        exhaust(monkeypatch, SimulatedBacking, "descriptor", 0)
        arrived, given = b.sys.incoming()
        monkeypatch.undo()
        for puppet, descriptors in ((a, tickets), (b, given)):
            for descriptor in descriptors:
                puppet.host.close_descriptor(descriptor)

        assert ([each.token for each in arrived], len(given)) == ([plain.token], 3)
        assert list(a.environment.outgoing) == [plain.token]
        assert a.told() == [unbound(b, ring.token)]


def test_nothing_is_left_open() -> None:
    """A ring binding costs the kernel an end point, tickets and doorbell ends until they are taken, then a look."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = carve(a)
        before = kernel_descriptors(stage)
        binding, given = a.sys.bind(b.thread, 0, extent)
        during = kernel_descriptors(stage), len(stage.machine.endpoints)
        a.connect(binding.address)
        _, theirs = b.sys.incoming()
        after = kernel_descriptors(stage), len(stage.machine.endpoints)
        for puppet, descriptors in ((a, given), (b, theirs)):
            for descriptor in descriptors:
                puppet.host.close_descriptor(descriptor)

        assert (during, after) == ((before + 4, 1), (before + 1, 0))


def kernel_descriptors(stage: Theatre) -> int:
    return sum(descriptor.owner == "kernel" for descriptor in stage.machine.open_descriptors())

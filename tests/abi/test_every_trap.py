"""Every trap with every argument wrong in turn: a refusal its class declares, or a fault, and life goes on."""

from collections.abc import Iterator

import msgspec
import pytest

from kernel.abi import traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.limits import MAX_TRAP_BYTES
from tests.abi.world import GARBAGE, NUMBER, World, refusal_of
from tests.kernel.puppets import theatre

TRAPS = list(traps.TRAPS.values())
FIELDS = [(trap, at) for trap in TRAPS for at in range(len(trap.__struct_fields__))]
HANDLES = [trap for trap in TRAPS if trap.needs is not None]


def name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)


@pytest.fixture
def world() -> Iterator[World]:
    with theatre() as stage:
        made = World(stage)
        made.renew()
        yield made
        made.check()


def fault_of(world: World) -> int:
    """Return what the caller ended with."""
    world.stage.settle()
    assert not world.caller.alive
    return world.caller.environment.fault


@pytest.mark.parametrize("trap", TRAPS, ids=name)
def test_right(world: World, trap: type[traps.Trap]) -> None:
    """With right arguments the trap is done."""
    answer = world.send(trap, world.arguments(trap))

    assert answer is not None
    assert refusal_of(answer) is None


@pytest.mark.slow
@pytest.mark.parametrize(("trap", "at"), FIELDS, ids=name)
def test_wrong(world: World, trap: type[traps.Trap], at: int) -> None:
    """Whatever stands in one argument, the caller gets a declared refusal, or the fault of a malformed trap."""
    for value in [*GARBAGE, *world.wrong_names()]:
        arguments = world.arguments(trap)
        arguments[at] = value
        if trap is traps.Supply and value is True:
            continue  # it is quiet, and not answered
        answer = world.send(trap, arguments)
        if answer is None:
            assert fault_of(world) == Fault.MALFORMED_TRAP, value
        elif (refused := refusal_of(answer)) is not None:
            assert refused in trap.refusals, (value, Refusal(refused))
            continue
        world.check()
        world.renew()


@pytest.mark.parametrize("trap", HANDLES, ids=name)
def test_wrong_handles(world: World, trap: type[traps.Trap]) -> None:
    """A handle that is zero, foreign, stale, of another kind, too weak, or an offer is refused as what it is."""
    kind, rights = trap.needs or (None, 0)

    def refused(handle: int) -> int | None:
        answer = world.send(trap, [handle, *world.arguments(trap)[1:]])
        return refusal_of(answer) if answer is not None else None

    assert [refused(handle) for handle in (0, 4000)] == [Refusal.BAD_HANDLE] * 2
    assert refused(world.stale) == Refusal.STALE_HANDLE
    for capability in [c for c in world.caller.caps if kind is not None and c.resource.kind is not kind]:
        assert refused(capability.handle) == Refusal.WRONG_KIND
    for capability in [c for c in world.caller.caps if c.resource.kind is kind and rights & ~c.rights]:
        assert refused(capability.handle) == Refusal.MISSING_RIGHT
    for offer in world.offers:
        assert refused(offer) == (None if trap.takes_offers else Refusal.WRONG_KIND)


@pytest.mark.parametrize("trap", TRAPS, ids=name)
def test_too_few_fields(world: World, trap: type[traps.Trap]) -> None:
    """A trap whose required fields are cut off is none."""
    needed = len(trap.__struct_fields__) - len(trap.__struct_defaults__)
    for count in range(needed):
        answer = world.send(trap, world.arguments(trap)[:count])

        assert (answer, fault_of(world)) == (None, Fault.MALFORMED_TRAP)
        world.renew()


@pytest.mark.parametrize("trap", TRAPS, ids=name)
def test_too_many_fields(world: World, trap: type[traps.Trap]) -> None:
    """A trap with more fields than it has is none."""
    answer = world.send(trap, [*world.arguments(trap), 0])

    assert (answer, fault_of(world)) == (None, Fault.MALFORMED_TRAP)


@pytest.mark.parametrize("trap", TRAPS, ids=name)
def test_too_long(world: World, trap: type[traps.Trap]) -> None:
    """A trap with something behind it that makes it too long is not read."""
    data = msgspec.msgpack.encode([NUMBER[trap], *world.arguments(trap)])

    assert world.caller.raw(data.ljust(MAX_TRAP_BYTES + 1, b"\0")) is None
    assert fault_of(world) == Fault.TOO_LONG


@pytest.mark.parametrize("trap", TRAPS, ids=name)
def test_extra_descriptors(world: World, trap: type[traps.Trap]) -> None:
    """Descriptors that a trap does not take end the caller; what takes some refuses those without a role."""
    answer = world.send(trap, world.arguments(trap), descriptors=3)

    if trap.takes_descriptors:
        assert answer is not None
        assert refusal_of(answer) == Refusal.BAD_DESCRIPTORS
    else:
        assert (answer, fault_of(world)) == (None, Fault.EXTRA_DESCRIPTORS)

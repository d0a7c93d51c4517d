"""Invariants of reservations: who has one holds it or was given it, and nothing is reserved twice, or lost."""

from collections.abc import Iterator
from fractions import Fraction

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.limits import MAX_RESERVATIONS, RESERVABLE_US
from kernel.capability import Capability
from kernel.kernel import Kernel
from kernel.reservation import Reservation


def of_reservations(kernel: Kernel, capabilities: list[Capability]) -> Iterator[str]:
    """Yield a line for each invariant that is broken."""
    held: dict[Reservation, int] = {}
    for capability in capabilities:
        if isinstance(capability.resource, Reservation):
            held[capability.resource] = held.get(capability.resource, 0) + 1
    for processor in kernel.processors:
        reserved = processor.reserved
        mine = [each for each in held if each.of is reserved]
        total = sum((each.rate for each in mine), reserved.whole.rate)
        if total != Fraction(RESERVABLE_US, 100_000):
            yield f"{processor} reserves {total}, with {mine}"
        for each in mine:
            if each.held != held[each]:
                yield f"{each} counts {each.held} capabilities, has {held[each]}"
            if each.rate < 0 or each.runtime < 0 or each._parts > MAX_RESERVATIONS:
                yield f"{each} gave more than it has"
            if each.environment is not None and reserved.bound.get(each.environment) is not each:
                yield f"{each} does not know that it is bound"
        for environment, each in reserved.bound.items():
            if each not in held or each.environment is not environment:
                yield f"{environment} runs by {each}, which nobody holds, or which is another's"
            if not environment.alive or environment.cpu != reserved.number:
                yield f"{environment} runs by {each}"
        for member in processor._members.values():
            body = member.environment.body
            assert isinstance(body, SimulatedBody)
            runs = not member.asleep and not body.paused
            current = processor._current, processor._ended and processor._ended[0]
            if runs and member.environment.alive and member not in current:
                yield f"{member.environment} runs out of turn"
        if reserved.running is not None and (processor._current is None or reserved.running not in held):
            yield f"{processor}: the slice of {reserved.running} is nobody's"

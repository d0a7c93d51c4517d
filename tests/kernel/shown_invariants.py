"""What must be true of the exposed table of extents between any two traps."""

from collections.abc import Iterator, Mapping

from kernel.abi.kip import PLAN_HEAD, PLAN_SIZE, PLAN_SLICE, PLANS, holders_shown
from kernel.capability import Capability
from kernel.frames import Extent
from kernel.kernel import Kernel
from libexo.kip import Holding, Kip


def of_extents(kernel: Kernel, extents: Mapping[Extent, list[Capability]]) -> Iterator[str]:
    """Each extent has its row, and is found by its first frame; while a job works on one, its pages may change."""
    rows = {row.first: row for row in Kip(kernel.kip._buffer).extents()}
    for extent, holders in extents.items():
        row = rows.pop(extent.first, None)
        held = [Holding(c.holder.number, int(c.rights)) for c in extent._capabilities]
        pager = extent.owner.holder.number if extent.owner is not None else -1
        resident = row.resident if row is not None and extent.locked else extent.resident
        told = (extent.first, extent.count, extent.pages, resident, pager, len(holders))
        if row != (*told, tuple(held[: holders_shown(extent.count)])):
            yield f"the KIP shows another {extent}: {row}"
        tops = [c for c in holders if c.parent is None or c.parent.resource is not extent]
        if kernel.frames.extents.get(extent.first) is not extent or tops != [extent.root]:
            yield f"{extent} is not found by its first frame, or by its first capability"
    if rows:
        yield f"the KIP shows extents that are not there: {rows}"


def of_pieces(extent: Extent, holders: list[Capability]) -> Iterator[str]:
    """Each capability is to whole pieces of memory, and each piece but the first is paid for."""
    *starts, end = extent.pieces._starts
    if starts[0] or [*starts, end] != sorted({*starts, extent.pages}) or len(starts) != len(extent.pieces):
        yield f"{extent} is in pieces from {starts}"
    if len(extent._payers) != len(starts) - 1:
        yield f"{extent} has {len(starts)} pieces, and {len(extent._payers)} pay for them"
    ends = {*starts, extent.pages}
    for capability in holders:
        span = extent.span(capability)
        if span.start not in ends or span.stop not in ends:
            yield f"{capability} is to part of a piece"


def of_plans(kernel: Kernel) -> Iterator[str]:
    """The KIP shows the plans, who runs, and whose slice goes on afterwards."""
    for processor in kernel.processors:
        at = PLANS + processor.number * PLAN_SIZE
        core, count, running, interrupted, _ = PLAN_HEAD.unpack_from(kernel.kip._buffer, at)
        start = at + PLAN_HEAD.size
        table = bytes(kernel.kip._buffer[start : start + count * PLAN_SLICE.size])
        current = processor._current
        turn = processor._interrupted
        later = processor._lender or (turn.member if turn is not None else None)
        expected = (
            processor.core,
            *(each.environment.number + 1 if each else 0 for each in (current, later)),
        )
        if (core, running, interrupted) != expected:
            yield f"{processor} shows core and runners {(core, running, interrupted)}, not {expected}"
        if list(PLAN_SLICE.iter_unpack(table)) != [(e.number, us) for e, us in processor._plan.slices]:
            yield f"{processor} shows another plan"

"""The event ring: the last of what happened, for anybody to read."""

from kernel.abi.errors import Refusal
from kernel.abi.events import RECORD, TRACE_SIZE, Event
from kernel.abi.limits import FRAME_SIZE, TRACE_RECORDS
from kernel.abi.traps import TRAPS, Bind, Inventory, Protection
from tests.kernel.pagers import Paging
from tests.kernel.puppets import Theatre, refusal, theatre

NUMBER = {trap: number for number, trap in TRAPS.items()}


def records(stage: Theatre) -> list[tuple[int, ...]]:
    """Read the ring as a reader would: count, then the records of the last round, oldest first."""
    ring = stage.machine.published["trace"].buffer
    written = int.from_bytes(ring[:8], "little")
    numbers = range(max(0, written - TRACE_RECORDS), written)
    return [RECORD.unpack_from(ring, FRAME_SIZE + n % TRACE_RECORDS * RECORD.size) for n in numbers]


def test_record_layout() -> None:
    """A record is 32 bytes: time, event, spare, environment, and two words; the ring has whole pages."""
    packed = RECORD.pack(1, Event.BOUND, 0, 3, 4, 5)

    assert packed.hex() == "0100000000000000060000000300000004000000000000000500000000000000"
    assert (RECORD.size, TRACE_SIZE) == (32, FRAME_SIZE + 32 * TRACE_RECORDS)


def test_a_life() -> None:
    """Creation, start, traps with their refusals, and the end are recorded in order."""
    with theatre() as stage:
        a = stage.puppet()
        a.sys.inventory()
        refusal(a.sys.bind, 0)
        stage.kill(a)

        assert [(r[1], r[4], r[5]) for r in records(stage)] == [
            (Event.CREATED, a.thread, 0),
            (Event.STARTED, a.body.pid, 0),
            (Event.TRAP, NUMBER[Inventory], 0),
            (Event.TRAP, NUMBER[Bind], Refusal.NO_SUCH_THREAD),
            (Event.ENDED, 256 - 9, 0),
        ]


def test_paging() -> None:
    """A page fault, what the pager supplies, and what it evicts are recorded: page, count, the object's frame."""
    with theatre() as stage:
        paging = Paging(stage)
        program, pager = paging.program(), paging.pager.environment.number
        before, user, frame = len(records(stage)), program.puppet.environment.number, paging.object.first
        program.touch(2, write=True)
        paging.supply(2, count=2)
        paging.pager.sys.protect(paging.handle, 2, 2, Protection.GUARD)
        paging.pager.sys.evict(paging.handle, 2, 2)

        found = [(r[1], *r[3:]) for r in records(stage)[before:] if r[1] != Event.TRAP]
        assert found == [
            (Event.PAGE_FAULT, user, 2 | 1 << 32, frame),
            (Event.SUPPLIED, pager, 2 | 2 << 32, frame),
            (Event.EVICTED, pager, 2 | 2 << 32, frame),
        ]


def test_the_ring_wraps() -> None:
    """After a full round the oldest are gone, and the newest are all there."""
    with theatre() as stage:
        for n in range(TRACE_RECORDS + 10):
            stage.kernel.exposure.trace.record(Event.SWITCHED, 0, n)

        assert [r[4] for r in records(stage)] == list(range(10, TRACE_RECORDS + 10))


def test_times_never_go_back() -> None:
    """Records carry the machine's time, in order."""
    with theatre() as stage:
        a = stage.puppet()
        for _ in range(3):
            stage.pass_time(1)
            a.sys.inventory()
        times = [r[0] for r in records(stage)]

        assert times == sorted(times)
        assert times[-1] == stage.machine.clock.now()

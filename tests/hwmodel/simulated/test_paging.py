"""Paged memory on the simulated machine: an access that finds no page waits, and the kernel hears of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hwmodel.failures import Failures, HostFailure
from hwmodel.machine import AddressSpace, Body, Exhausted, PageFault, do
from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.memory import SimulatedBacking
from kernel.abi.limits import FRAME_SIZE
from tests.hwmodel.simulated.rig import Rig, rig

PAGES = 4
Step = Callable[[AddressSpace, SimulatedBacking, PageFault], object]


def touch(body: SimulatedBody, view: memoryview, page: int, *, write: bool = False) -> None:
    """Access *page*, however long it takes."""
    while (ready := body.touch(view, page * FRAME_SIZE, write=write)) is not None:
        body.wait(ready, None)


def watch(body: SimulatedBody, view: memoryview) -> None:
    """Have all of *view* paged."""
    told: list[object] = []
    body.table.watch(body.address(view), PAGES * FRAME_SIZE, told.append, writable=True)
    assert told == [True]


def accessor(
    r: Rig, backing: SimulatedBacking, accesses: list[tuple[int, bool]], *, watched: bool = True
) -> SimulatedBody:
    """Start a program that maps *backing*, has it watched, and makes *accesses*."""

    def program(body: SimulatedBody) -> None:
        view = body.map(backing.descriptor(writable=True), PAGES * FRAME_SIZE, writable=True)
        if watched:
            watch(body, view)
        for page, write in accesses:
            touch(body, view, page, write=write)

    return r.launch(program)


@contextmanager
def paged(answer: Step, accesses: list[tuple[int, bool]], **options: object) -> Iterator[Rig]:
    """Run a program that makes *accesses*, whose faults *answer* resolves."""
    with rig(**options) as r:
        backing = r.machine.ram.carve(0, 1, zero=True, pages=PAGES)

        def on_fault(body: Body, fault: PageFault) -> None:
            assert body.space is not None
            answer(body.space, backing, fault)

        r.recorder.on_fault = on_fault
        accessor(r, backing, accesses)
        r.run()
        yield r


def kinds(r: Rig) -> list[tuple[object, ...]]:
    """What the supervisor heard of faults and ends: page, write, protected; or the status."""
    first = 1 << 32
    return [
        ((what[1] - first) // FRAME_SIZE, *what[2:]) if what[0] == "faulted" else what[1:]  # type: ignore[operator]
        for what in r.recorder.said
        if what[0] in ("faulted", "ended")
    ]


def fill(space: AddressSpace, backing: SimulatedBacking, fault: PageFault) -> None:
    """Supply the page, writable only if it was a write."""
    backing._region.present.add((fault.address - (1 << 32)) // FRAME_SIZE)
    space.place(fault.address, FRAME_SIZE, fail, writable=fault.write or fault.protected)


def fail(full: Exhausted | None) -> None:
    """Raise what was told."""
    raise full or AssertionError("it cannot be")


def test_a_fault_waits_for_its_page() -> None:
    """A load of an absent page is a fault; so is the first store to one that was not placed writable; then none."""
    with paged(fill, [(2, False), (2, False), (2, True), (2, True), (1, True), (1, True)]) as r:
        assert kinds(r) == [(2, False, False), (2, True, True), (1, True, False), (0,)]


def test_nobody_answers() -> None:
    """Where nobody resolves it, the program waits without end, and a kill ends it."""
    with paged(lambda *_: None, [(0, False)]) as r:
        assert kinds(r) == [(0, False, False)]
        r.machine.bodies[0].kill()
        r.run()
        assert kinds(r)[1:] == [(-9,)]


def test_an_absent_page_cannot_be_placed() -> None:
    """What nobody stored is not there to be shown: the answer says so, and the program waits on."""
    answers: list[object] = []
    with paged(lambda s, _b, f: s.place(f.address, FRAME_SIZE, answers.append, writable=False), [(0, False)]):
        assert answers == [None]


def test_poison_is_a_bus_error() -> None:
    """A poisoned page ends the access in SIGBUS."""
    with paged(lambda s, _b, f: s.poison(f.address, FRAME_SIZE, fail), [(3, False)]) as r:
        assert kinds(r) == [(3, False, False), (-7,)]


def test_a_wake_alone_is_a_fault_again() -> None:
    """Who is woken tries again, and finds what is there now."""
    heard: list[PageFault] = []

    def answer(space: AddressSpace, backing: SimulatedBacking, fault: PageFault) -> None:
        heard.append(fault)
        if len(heard) == 1:
            space.wake(fault.address, FRAME_SIZE)
        else:
            fill(space, backing, fault)

    with paged(answer, [(0, False)]) as r:
        assert kinds(r) == [(0, False, False)] * 2 + [(0,)]


def test_what_nobody_watches_becomes_a_page() -> None:
    """A mapper that is not watched makes pages of zeros, in the memory of all; they are punched like others."""
    with rig() as r:
        backing = r.machine.ram.carve(0, 1, zero=True, pages=PAGES)
        accessor(r, backing, [(1, False), (3, True)], watched=False)
        r.run()
        assert backing._region.present == {1, 3}
        do(backing.punch(0, PAGES))
        assert backing._region.present == set()
        assert kinds(r) == [(0,)]


def test_punched_pages_fault_again() -> None:
    """A punched page is absent for who had it, and what was in it is gone."""
    with rig() as r:
        backing = r.machine.ram.carve(0, 1, zero=True, pages=PAGES)
        seen: list[int] = []

        def program(body: SimulatedBody) -> None:
            view = body.map(backing.descriptor(writable=True), PAGES * FRAME_SIZE, writable=True)
            watch(body, view)
            for _ in range(2):
                touch(body, view, 0, write=True)
                seen.append(view[0])
                view[0] = 7
                do(backing.punch(0, 1))

        def on_fault(body: Body, fault: PageFault) -> None:
            assert body.space is not None
            fill(body.space, backing, fault)

        r.recorder.on_fault = on_fault
        r.launch(program)
        r.run()
        assert (seen, kinds(r)) == ([0, 0], [(0, True, False)] * 2 + [(0,)])


def test_memory_that_is_taken() -> None:
    """Cutting wakes nobody; who is woken then finds a bus error."""
    with paged(lambda *_: None, [(0, False)]) as r:
        body = r.machine.bodies[0]
        body.table._watched[0].mapping.region.revoke()
        r.run()
        assert kinds(r) == [(0, False, False)]
        body.table.wake(1 << 32, FRAME_SIZE)
        r.run()
        assert kinds(r)[1:] == [(-7,)]


@pytest.mark.parametrize("call", ["UFFDIO_CONTINUE", "UFFDIO_POISON"])
def test_calls_fail(call: str) -> None:
    """Each call of the host's can be made to fail: nothing has changed, and it can be made again."""
    failed: list[str] = []

    def answer(space: AddressSpace, backing: SimulatedBacking, fault: PageFault) -> None:
        act: Callable[[], object] = (
            (lambda: space.poison(fault.address, FRAME_SIZE, fail))
            if call == "UFFDIO_POISON"
            else (lambda: fill(space, backing, fault))
        )
        try:
            act()
        except Exhausted as exhausted:
            failed.append(str(exhausted))
            act()

    with paged(answer, [(0, False)], failures=Failures(calls=[HostFailure(1, 12, call)])) as r:
        assert len(failed) == 1
        assert kinds(r)[0] == (0, False, False)
        assert kinds(r)[1] == ((-7,) if call == "UFFDIO_POISON" else (0,))

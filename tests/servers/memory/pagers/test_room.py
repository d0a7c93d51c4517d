"""Room in the swap file: a family leaves some to others, and scattered room is room."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.abi.ids import USER_BASE, thread_id
from kernel.abi.limits import FRAME_SIZE, MAX_NAME
from libexo import vm
from libexo.environment import Environment
from libexo.errors import ExoError, IpcError, RemoteError
from libexo.estate import Estate
from libexo.testing import System, Task
from servers.memory.api import LEAST_FRAMES, Pager
from servers.memory.pagers.server import _ESTATE_FRAMES, MOST_OBJECTS, _Kept
from servers.memory.pagers.slots import MOST_PIECES, Place, Slots, StoreFull, check_left, check_quota
from servers.memory.policy import QuotaExceeded
from tests.servers import rig
from tests.servers.memory.pagers.swapping import Paper, content, swapping, use, used

SMALL = LEAST_FRAMES + 1
"""Pages of the smallest memory that needs slots."""


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), max_size=60))
@settings(deadline=None, max_examples=200)
def test_what_is_free_can_be_had(history: list[tuple[int, int]]) -> None:
    """Whatever was taken and given back, so many slots as are free can be had, and nobody has another's."""
    slots, held = Slots(200), list[list[tuple[int, int]]]()
    for count, chance in history:
        if held and chance < 4:
            slots.give(held.pop(chance * len(held) // 10))
        elif count > slots.free:
            with pytest.raises(StoreFull, match=f"{count} pages asked for, {slots.free} of 200 are free"):
                slots.find(count)
        else:
            held.append(slots.find(count))
            slots.mark(held[-1])
            assert sum(length for _, length in held[-1]) == count
        all_held = [
            slot for pieces in held for start, length in pieces for slot in range(start, start + length)
        ]
        assert len(set(all_held)) == len(all_held) == 200 - slots.free
        assert slots.pieces == sum(map(len, held))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=12), st.data())
def test_a_place_in_pieces(gaps: list[tuple[int, int]], data: st.DataObject) -> None:
    """Each page has a slot and a mark of its own, and parts of a run are those whose slots lie side by side."""
    pieces, slot = [], 0
    for gap, length in gaps:
        pieces.append((slot + gap, length))
        slot += gap + length
    expected = [slot for start, length in pieces for slot in range(start, start + length)]
    marks = bytearray(slot)
    place = Place(pieces, memoryview(marks), len(expected))
    first = data.draw(st.integers(0, len(expected) - 1))
    run = range(first, data.draw(st.integers(first + 1, len(expected))))

    assert [place.slot(page) for page in range(len(expected))] == expected
    parts = list(place.side_by_side(run))
    assert [page for part in parts for page in part] == list(run)
    for part in parts:
        assert place.slot(part[-1]) - place.slot(part[0]) == len(part) - 1
    for page in run:
        place.marks[page] = 7
        assert place.marks[page] == marks[expected[page]] == 7
    assert marks.count(7) == len(run)


def test_what_a_family_leaves() -> None:
    """It has no more than its quota, and near the end no more than it leaves."""
    check_quota("pages", 40, 10, 50)
    with pytest.raises(QuotaExceeded, match="40 of 50 pages are the caller's family's, 11 more"):
        check_quota("pages", 40, 11, 50)
    check_left("pages", 70, 10, 22, 96)
    check_left("pages", 3, 3, 12, 96)
    with pytest.raises(
        QuotaExceeded, match="70 pages are the caller's family's, 11 more asked for, 22 of 96 free"
    ):
        check_left("pages", 70, 11, 22, 96)


def test_what_a_successor_must_know_fits() -> None:
    """As many objects as there may be, in as many pieces, with the longest names, fit into the estate."""
    name, large = "x" * MAX_NAME, 1 << 18
    pieces = [[(1 << 30, large)] * (MOST_PIECES // MOST_OBJECTS) for _ in range(MOST_OBJECTS)]
    thread = thread_id(USER_BASE, (1 << 32) - 1)
    kept = [
        _Kept(1 << 40, 1 << 40, 1 << 31, large, large, "random", 64, each, thread, thread, (name, name))
        for each in pieces
    ]
    Estate(memoryview(bytearray(_ESTATE_FRAMES * FRAME_SIZE))).store(msgspec.msgpack.encode(kept))


def grab(
    env: Environment, pages: int, frames: int = LEAST_FRAMES, why: str = "pages of the swap file"
) -> list[int]:
    """Take memory of so many pages until there is none, for that reason; return what it is called."""
    made, pager = [], Pager.connect(env)
    while True:
        try:
            made.append(pager.paged(pages, frames).first)
        except RemoteError as error:
            if error.kind != "QuotaExceeded" or why not in str(error):
                raise
            return made


def hold(system: System, pages: int, name: str, *, scatter: bool = False) -> Task:
    """Have a program take all the swap it can get, and keep it; or every second memory of it."""

    def hostile(env: Environment) -> None:
        made = grab(env, pages)
        if scatter:
            for first in made[1::2]:
                Pager.connect(env).release(first)
        ready.append(len(made))
        env.thread.sleep(1000)

    ready: list[int] = []
    task = use(system, hostile, name)
    system.run(until=lambda: bool(ready))
    assert ready[0] > 1
    return task


def test_whoever_takes_what_it_can(seed: int) -> None:
    """Families that fill the swap file leave room to the next, and each page of it finds its place as it leaves."""

    def honest(env: Environment) -> None:
        paper = Paper(env, 14, LEAST_FRAMES, around=1)
        for turn in range(1, 4):
            for page in range(14):
                paper.write(page, turn * 100 + page)
            assert [paper.read(page) for page in range(14)] == [
                content(turn * 100 + page) for page in range(14)
            ]
        [usage] = [each for each in paper.pager.statistics().objects if each.thread == env.thread.id]
        assert (usage.failed, usage.written > 14) == (0, True)
        paper.pager.release(paper.extent.first)

    with swapping(seed) as system:
        for number in range(2):
            hold(system, 14, f"hostile {number}")
            used(system, honest)


def test_room_that_was_scattered(seed: int) -> None:
    """A family that leaves holes only keeps nobody from using them: every byte comes back, from a successor too."""
    draw = random.Random(seed)

    def user(env: Environment) -> None:
        paper = Paper(env, 40, LEAST_FRAMES, around=4)
        expected = [0] * 40
        for turn in range(1, 300):
            page = draw.randrange(40)
            if draw.random() < 0.6:
                paper.write(page, turn)
                expected[page] = turn
            else:
                assert paper.read(page) == content(expected[page])
            if turn == 150:
                half.append(turn)
                env.host.wait((), env.host.now() + 1_000_000_000)
        assert [paper.read(page) for page in range(40)] == [content(number) for number in expected]
        assert Pager.connect(env).clean(paper.extent.first, 0, 40) == [at for at in range(40) if expected[at]]

    def large(env: Environment) -> None:
        Paper(env, 120, LEAST_FRAMES)
        half.append(0)
        env.thread.sleep(1000)

    half: list[int] = []
    with swapping(seed) as system:
        hold(system, SMALL, "hostile", scatter=True)
        use(system, large, "large")
        system.run(until=lambda: len(half) == 1)
        task = use(system, user)
        system.run(until=lambda: len(half) == 2)
        rig.kill(system, "pager")
        system.run(task)
        assert task.error is None


def test_the_last_objects(seed: int) -> None:
    """Families that make as many objects as they can leave some to the next one."""

    def hostile(env: Environment) -> None:
        counts.append(len(grab(env, 1, 1, "swapped objects")))
        env.thread.sleep(1000)

    counts: list[int] = []
    with swapping(seed) as system:
        for number in range(5):
            use(system, hostile, f"hostile {number}")
            system.run(until=lambda at=number: len(counts) > at)  # type: ignore[misc]
        assert counts[:3] == [64, 64, 64]
        assert all(counts)


def test_a_killed_pager_is_asked_again(seed: int) -> None:
    """What a family has is counted by a successor as by the pager: it gets no more by a kill."""

    def user(env: Environment) -> None:
        grab(env, 14)
        ready.append(True)
        env.host.wait((), env.host.now() + 1_000_000_000)
        for _ in range(3):
            try:
                assert grab(env, 14) == []
            except (IpcError, ExoError):
                env.lookup("pager", 30)
            else:
                return

    ready: list[bool] = []
    with swapping(seed) as system:
        task = use(system, user)
        system.run(until=lambda: bool(ready))
        rig.kill(system, "pager")
        system.run(task)
        assert task.error is None


def test_views_stay(seed: int) -> None:
    """A store that is full for one family takes nothing from memory that it has."""

    def user(env: Environment) -> None:
        paper = Paper(env, 20, LEAST_FRAMES, around=1)
        for page in range(20):
            paper.write(page, page)
        grab(env, SMALL)
        for page in range(20):
            assert paper.read(page) == content(page)
        vm.unmap(env, paper.view)

    with swapping(seed) as system:
        used(system, user)

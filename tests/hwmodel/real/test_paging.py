"""Page faults of real processes, without a process: what is asked of the host, and when it is left alone."""

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwmodel.machine import Exhausted, PageFault
from hwmodel.real import paging
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.libc import address_of
from hwmodel.real.meeting import Meeting
from hwmodel.real.paging import CONTINUE, POISON, REGISTER, WAKE, WRITEPROTECT, RealSpace
from kernel.abi.limits import FRAME_SIZE

ROOT = Path(__file__).parents[3]
AT = 1 << 32
FAULT = struct.Struct("<B7xQQ8x")


class Nobody:
    """A body nobody meets."""

    pid, core = 0, -1


NOBODY = Nobody()


class Desk:
    """A loop, a lane and a host: it writes down what is called, and says what it is told to."""

    def __init__(self) -> None:
        self.called: list[int] = []
        self.answers: dict[int, list[tuple[int, int]]] = {}
        """By call: the error of each, and what it says is done."""
        self.watched: dict[int, Callable[[int], None]] = {}

    def watch(self, number: int, ready: Callable[[int], None]) -> None:
        self.watched[number] = ready

    def unwatch(self, number: int) -> None:
        self.watched.pop(number, None)

    def control(self, _number: int, call: int, memory: "ctypes.Array[ctypes.c_char]") -> int:
        self.called.append(call)
        failed, done = self.answers.get(call, []).pop(0) if self.answers.get(call) else (0, 0)
        if call in (CONTINUE, POISON):
            struct.pack_into("<q", memory, 24, done)
        return failed

    def post(self, work: Callable[[], object]) -> None:
        work()

    tell = when_done = post
    number = 0

    def close(self) -> None:
        """It has no thread."""


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk()
    monkeypatch.setattr(paging, "control", made.control)
    return made


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """A pipe in a userfaultfd's place."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(writing)


@pytest.fixture
def space(desk: Desk, ends: tuple[int, int]) -> Iterator[RealSpace]:
    made = RealSpace(RealDescriptor(ends[0]), desk, desk, Meeting(desk))  # type: ignore[arg-type]
    assert watch(made, 8 * FRAME_SIZE) is True
    desk.called.clear()
    yield made
    made.close()


def watch(space: RealSpace, size: int, at: int = AT, *, writable: bool = True) -> object:
    """Have a range watched; return what was told of it."""
    told: list[object] = []
    space.watch(at, size, told.append, writable=writable)
    return told[0]


def place(space: RealSpace, count: int = 1, *, writable: bool = False) -> object:
    """Show pages; return what was told of it, True where it was nothing."""
    told: list[object] = []
    space.place(AT, count * FRAME_SIZE, told.append, writable=writable)
    return told[0] if told else True


def poison(space: RealSpace) -> object:
    """Poison a page; the same."""
    told: list[object] = []
    space.poison(AT, FRAME_SIZE, told.append)
    return told[0] if told else True


def test_messages(desk: Desk, space: RealSpace, ends: tuple[int, int]) -> None:
    """Each fault is told with its page; what is no fault, or not there any more, is nothing."""
    told: list[PageFault] = []
    space.open(NOBODY, told.append)
    ready = desk.watched[ends[0]]
    ready(1)
    for kind, flags, address in ((0x12, 0, AT + 5), (0x13, 0, 0), (0x12, 1, AT + FRAME_SIZE), (0x12, 3, AT)):
        os.write(ends[1], FAULT.pack(kind, flags, address))
    ready(1)

    assert told == [(AT, False, False), (AT + FRAME_SIZE, True, False), (AT, True, True)]


def test_a_run_that_is_there_in_part(desk: Desk, space: RealSpace) -> None:
    """The host stops at a page that is seen already: that one is woken, or unprotected, and the rest is shown."""
    desk.answers = {CONTINUE: [(errno.EAGAIN, FRAME_SIZE), (errno.EEXIST, -errno.EEXIST), (0, 0)]}
    assert place(space, 3) is True
    assert desk.called == [CONTINUE, CONTINUE, WAKE, CONTINUE]
    desk.called.clear()
    desk.answers = {CONTINUE: [(errno.EEXIST, 0)]}
    assert place(space, writable=True) is True
    assert desk.called == [CONTINUE, WRITEPROTECT]


def test_what_place_cannot_show(desk: Desk, space: RealSpace) -> None:
    """A page that is not in the memory is said to be absent; what the program unmapped is nobody's affair."""
    for error, told in ((errno.EFAULT, type(None)), (errno.ENOENT, bool), (errno.ENOMEM, Exhausted)):
        desk.answers = {CONTINUE: [(error, 0)]}
        assert type(place(space)) is told
        desk.answers = {CONTINUE: []}


def test_what_cannot_be_watched(desk: Desk, space: RealSpace) -> None:
    """Where nothing of the kind is mapped the answer is no; a full host says so."""
    desk.answers = {REGISTER: [(errno.EINVAL, 0), (errno.ENOMEM, 0), (errno.ESRCH, 0)]}
    assert [type(watch(space, FRAME_SIZE)) for _ in range(3)] == [bool, Exhausted, bool]


def test_poison_over_a_mark(desk: Desk, space: RealSpace) -> None:
    """The mark of a protected page that is gone is taken away first; a page that is there is protected again."""
    desk.answers = {POISON: [(errno.EEXIST, 0)]}
    assert poison(space) is True
    assert desk.called == [POISON, WRITEPROTECT, POISON]
    desk.called.clear()
    desk.answers = {POISON: [(errno.EEXIST, 0)] * 2}
    assert poison(space) is None
    assert desk.called == [POISON, WRITEPROTECT, POISON, WRITEPROTECT, WAKE]
    desk.answers = {POISON: [(errno.ENOMEM, 0)]}
    assert isinstance(poison(space), Exhausted)


def test_poison_where_memory_was_cut(desk: Desk, space: RealSpace) -> None:
    """Every access there ends in SIGBUS anyhow: who waits is woken."""
    desk.answers = {POISON: [(errno.EFAULT, 0)]}
    assert poison(space) is True
    assert desk.called == [POISON, WAKE]


def test_only_what_is_writable_is_protected(desk: Desk, space: RealSpace) -> None:
    """A range that was ended in part, or watched for reading, is not."""
    space.unwatch(AT + 2 * FRAME_SIZE, 2 * FRAME_SIZE)
    watch(space, FRAME_SIZE, AT + 6 * FRAME_SIZE, writable=False)
    desk.called.clear()
    told: list[object] = []
    for page in range(8):
        space.protect(AT + page * FRAME_SIZE, FRAME_SIZE, told.append)
    desk.answers = {WRITEPROTECT: [(errno.ENOMEM, 0)]}
    space.protect(AT, FRAME_SIZE, told.append)

    assert desk.called == [WRITEPROTECT] * 6
    assert [type(each) for each in told] == [Exhausted]


def test_settled(desk: Desk, space: RealSpace) -> None:
    """What was asked before is done then; of a program that ended nothing is waited for."""
    done: list[int] = []
    place(space)
    space.settled(lambda: done.append(len(desk.called)))
    space.close()
    space.settled(lambda: done.append(-1))

    assert done == [1, -1]


def test_after_its_end(desk: Desk, space: RealSpace) -> None:
    """Nothing is asked of the host any more, and nothing fails."""
    space.wake(AT, FRAME_SIZE)
    space.close()
    desk.called.clear()
    space.unwatch(AT, FRAME_SIZE)
    space.protect(AT, FRAME_SIZE, fail)
    space.age(AT, FRAME_SIZE, fail)
    assert poison(space) is True
    assert isinstance(watch(space, FRAME_SIZE), Exhausted)

    assert (desk.called, desk.watched) == ([], {})


def test_what_is_seen_nevertheless(space: RealSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host does not say which pages it took from view: its page table is looked at, by a byte a page."""
    asked: list[tuple[int, int]] = []

    def page_out(_process: int, address: int, size: int) -> int:
        asked.append((address, size))
        return 0

    monkeypatch.setattr(paging, "page_out", page_out)
    monkeypatch.setattr(NOBODY, "pid", os.getpid())
    space.open(NOBODY, bool)
    with mmap.mmap(-1, 3 * FRAME_SIZE) as memory:
        memory[FRAME_SIZE] = 1
        told: list[bytes | Exhausted] = []
        space.age(address_of(memory), 3 * FRAME_SIZE, told.append)
        assert (told, asked) == ([bytes([0, 1, 0])], [(address_of(memory), 3 * FRAME_SIZE)])


def test_a_host_that_pages_nothing_out(space: RealSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not allow is told; that the program ended or unmapped is no failure, and no page is unseen."""
    numbers = [errno.EPERM, errno.ENOSYS, errno.ESRCH, errno.EINVAL, errno.ENOMEM]
    space.open(NOBODY, bool)
    monkeypatch.setattr(paging, "page_out", lambda *_: numbers.pop(0))
    monkeypatch.setattr(os, "pidfd_open", lambda _: os.open(os.devnull, os.O_RDONLY))
    told: list[bytes | Exhausted] = []
    while numbers:
        space.age(AT, 2 * FRAME_SIZE, told.append)
    assert [type(each) for each in told[:2]] == [Exhausted] * 2
    assert told[2:] == [b"\1\1"] * 3


def fail(full: object) -> None:
    """Raise what was told."""
    raise AssertionError(full)


def test_no_page_is_copied() -> None:
    """No call puts a page into one program that is not in the memory all share: UFFDIO_COPY, ZEROPAGE, MOVE."""
    calls = (REGISTER, paging.UNREGISTER, WAKE, WRITEPROTECT, CONTINUE, POISON)
    assert {call & 0xFF for call in calls} == {0, 1, 2, 6, 7, 8}
    folders = ("kernel", "hwmodel", "libexo", "servers", "exo")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in sources if "UFFDIO_COPY" in path.read_text(encoding="utf-8")] == []

"""Unmap and MemoryControl on the registers of the calling thread, and the functions made of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kernel.abi.limits import MAX_BATCH
from kernel.programs import Factory
from libexo import l4
from libexo.host import current
from libexo.l4 import memory
from libexo.l4.format.registers import Registers
from tests.kernel.puppets import Theatre, theatre
from tests.libexo.l4.spaces import BASE, PAGE, THERE, Side, enter, fpage, send

R, W, RW, NONE = l4.Readable, l4.Writable, l4.ReadWriteOnly, l4.NoAccess
FLUSH = 1 << 6


@pytest.fixture
def stage(registers: Registers) -> Iterator[Theatre]:
    with theatre() as made:
        yield made


@contextmanager
def calling(side: Side) -> Iterator[None]:
    """Have X.2 calls come from *side*."""
    side.puppet.host.environment = side.puppet.env
    current.put(side.puppet.host)
    try:
        yield
    finally:
        current.put(None)


def pair(stage: Theatre) -> tuple[Side, Side]:
    """Two spaces; the first has three pages, shared with the second."""
    a, b = enter(stage, 2)
    for n in range(3):
        a.carve(BASE + n * PAGE)
    send(a, b, l4.MapItem(fpage(BASE, 4), THERE))
    return a, b


def reads(side: Side) -> list[bool]:
    return [side.reads(THERE + n * PAGE) is not None for n in range(3)]


def test_the_control_word(stage: Theatre, registers: Registers) -> None:
    """Row 1.10: bits 5..0 are the number of fpages minus one; they come back in their registers with a status."""
    a, b = pair(stage)
    a.space.store(BASE, b"x")
    pages = [fpage(BASE + n * PAGE) for n in range(3)]
    registers.mr[:3] = [int(page) for page in pages]
    with calling(a):
        memory.Unmap(1)

    assert reads(b) == [False, False, True]
    assert registers.mr[:3] == [int(page) for page in pages]  # all were shared with all rights
    assert a.extents == 3


def test_the_flush_bit(stage: Theatre, registers: Registers) -> None:
    """Row 1.10: bit 6 takes it from the caller's own space, too."""
    a, b = pair(stage)
    registers.mr[0] = int(fpage(BASE))
    with calling(a):
        memory.Unmap(FLUSH)

    assert (reads(b), a.extents, a.reads(BASE)) == ([False, True, True], 2, None)


def test_the_control_word_of_64_fpages(stage: Theatre, registers: Registers) -> None:
    """All 64 message registers may hold fpages, MR0 included; bits above the sixth mean nothing."""
    a, b = pair(stage)
    registers.mr[63] = int(fpage(BASE + 2 * PAGE))
    with calling(a):
        memory.Unmap(63 | 1 << 7)

    assert (reads(b), a.extents) == ([True, True, False], 3)


def test_unmap_and_flush_by_name(stage: Theatre) -> None:
    """UnmapFpage and Flush take one fpage, UnmapFpages and FlushFpages several."""
    a, b = pair(stage)
    with calling(a):
        memory.UnmapFpage(fpage(BASE))
        one = reads(b)
        memory.UnmapFpages([fpage(BASE), fpage(BASE + PAGE)])
        two = reads(b), a.extents
        memory.Flush(fpage(BASE))
        three = a.extents
        memory.FlushFpages([fpage(BASE + PAGE), fpage(BASE + 2 * PAGE)])

    assert (one, two, three) == ([False, True, True], ([False, False, True], 3), 2)
    assert (reads(b), a.extents) == ([False] * 3, 0)


def test_get_status(stage: Theatre) -> None:
    """GetStatus takes nothing, whatever rights its fpage has; the accesses it tells of are forgotten."""
    a, b = enter(stage, 2)
    a.carve(BASE)
    a.space.store(BASE, b"x")
    with calling(a):
        seen = [memory.GetStatus(fpage(BASE)) for _ in range(2)]
        send(a, b, l4.MapItem(fpage(BASE, rights=R), THERE))
        shared = memory.GetStatus(fpage(BASE))

    assert [(l4.WasReferenced(s), l4.WasWritten(s), l4.WaseXecuted(s)) for s in seen] == [
        (True, True, False),
        (False, False, False),
    ]
    assert (l4.Rights(shared), l4.Address(shared), b.reads(THERE)) == (R, BASE, b"x")


@pytest.mark.parametrize("count", [0, 65])
def test_how_many_fpages(stage: Theatre, count: int) -> None:
    """1 to 64 fpages fit into the message registers."""
    (a,) = enter(stage, 1)
    with calling(a):
        for take in (memory.UnmapFpages, memory.FlushFpages):
            with pytest.raises(ValueError, match=r"is not in 1\.\.64"):
                take([l4.Nilpage] * count)
        with pytest.raises(ValueError, match=r"is not in 1\.\.64"):
            memory.Set_PageAttributes([l4.Nilpage] * count, [0] * 4)


def privileged(stage: Theatre) -> Side:
    """A space whose environment may create environments, among many other capabilities."""
    side = Side(stage.puppet("root", holds=("ram", "factory")))
    side.carve(BASE)
    return side


def test_memory_control_needs_privilege(stage: Theatre, registers: Registers) -> None:
    """Row 1.13, error 1: only an environment that may create others may set attributes, even the default one."""
    (a,) = enter(stage, 1)
    with calling(a):
        refused = memory.Set_PageAttribute(fpage(BASE), memory.DefaultMemory), l4.ErrorCode()
    with calling(privileged(stage)):
        done = memory.Set_PageAttribute(fpage(BASE), memory.DefaultMemory)

    assert (refused, done) == ((0, l4.ErrNoPrivilege), 1)


def test_a_weaker_factory_is_no_privilege(stage: Theatre) -> None:
    """A capability to create environments without the right to use it gives no privilege."""
    root = privileged(stage)
    weak = Side(stage.puppet("weak"))
    offer = root.sys.transfer(root.puppet.handles[1], weak.thread, 16)
    weak.accept(root, offer, 31)

    assert memory.privileged(root.puppet.env)
    assert not memory.privileged(weak.puppet.env)


def test_privilege_among_many_capabilities(stage: Theatre) -> None:
    """However many capabilities come before it, the one that counts is found."""
    side = Side(stage.puppet("many", holds=("ram",)))
    for _ in range(MAX_BATCH + 5):
        side.sys.derive(side.puppet.handles[0], R)
    before = memory.privileged(side.puppet.env)
    stage.system.give(side.puppet.task, Factory())

    assert (before, memory.privileged(side.puppet.env)) == (False, True)


@pytest.mark.parametrize(("attribute", "result"), [(0, 1), (1, 1), (2, 0), (4, 0), (5, 0), (8, 0), (99, 0)])
def test_attributes(stage: Theatre, registers: Registers, attribute: int, result: int) -> None:
    """Row 1.13, error 5: default and write-back are what the host does; it can be told no other."""
    with calling(privileged(stage)):
        done = memory.Set_PageAttribute(fpage(BASE), attribute)

    assert (done, registers.error_code) == (result, 0 if result else l4.ErrInvalidParam)


def test_an_fpage_chooses_its_attribute(stage: Theatre, registers: Registers) -> None:
    """The low two bits of each fpage select one of the four attributes; nil fpages are skipped."""
    with calling(privileged(stage)):
        attributes = [0, 99, 1, 99]
        good = memory.Set_PageAttributes(
            [fpage(BASE, rights=0), fpage(BASE, rights=2), l4.Nilpage], attributes
        )
        wrong = [memory.Set_PageAttributes([fpage(BASE, rights=n)], attributes) for n in (1, 3)]

    assert (good, wrong, registers.error_code) == (1, [0, 0], l4.ErrInvalidParam)


@pytest.mark.parametrize(("control", "result"), [(63, 1), (64, 0), (1 << 63, 0)])
def test_the_count_of_memory_control(stage: Theatre, registers: Registers, control: int, result: int) -> None:
    """Row 1.13: the control word is the number of fpages minus one, and nothing else: 64 and above is error 5."""
    with calling(privileged(stage)):
        done = memory.MemoryControl(control, [0, 0, 0, 0])

    assert (done, registers.error_code) == (result, 0 if result else l4.ErrInvalidParam)


def test_four_attributes(stage: Theatre) -> None:
    """MemoryControl takes four attributes, no more and no fewer."""
    with calling(privileged(stage)), pytest.raises(ValueError, match="number of attributes"):
        memory.MemoryControl(0, [0])

"""The kernel interface page under the names of X.2."""

from collections.abc import Callable

import pytest

from kernel.abi.kip import KERNEL_ID, VERSION, X2, Head, kip_size
from kernel.abi.topology import MachineConfig, Topology
from libexo import l4
from libexo.environment import Environment
from libexo.kip import Kip
from libexo.testing import simulated

TOPOLOGY = Topology(MachineConfig(memory="1 MiB", cpus=(0, 1)))
FIELDS: list[tuple[Callable[[Kip], int], int]] = [
    (l4.ApiVersion, 0x8405_0000),
    (l4.ApiFlags, 4),
    (l4.KernelId, KERNEL_ID),
    (l4.KernelSupplier, int.from_bytes(b"EXO ", "little")),
    (l4.NumProcessors, 2),
    (l4.NumMemoryDescriptors, 4),
    (l4.PageSizeMask, 0x1000),
    (l4.PageRights, 6),
    (l4.ThreadIdBits, 12),
    (l4.ThreadIdSystemBase, 64),
    (l4.ThreadIdUserBase, 96),
    (l4.ReadPrecision, 1),
    (l4.SchedulePrecision, 50),
    (l4.UtcbAreaSizeLog2, 12),
    (l4.UtcbAreaSize, 4096),
    (l4.UtcbAlignmentLog2, 10),
    (l4.UtcbSize, 1024),
    (l4.KipAreaSizeLog2, 19),
    (l4.KipAreaSize, 1 << 19),
]


def changed(words: dict[int, int] | None = None) -> Kip:
    """A page as a kernel lays it out, with some words, by their index, changed."""
    with simulated(TOPOLOGY) as system:
        page = memoryview(bytearray(system.machine.published["kip"].buffer))
    for word, value in (words or {}).items():
        page.cast("Q")[word] = value
    return Kip(page)


@pytest.mark.parametrize(("accessor", "expected"), FIELDS)
def test_fields(accessor: Callable[[Kip], int], expected: int) -> None:
    """Each function reads its field of the page it is given."""
    assert accessor(changed()) == expected


def test_the_constants_of_the_fields() -> None:
    """The constants of version and flags have the names of X.2."""
    kip = changed()

    assert l4.ApiVersion(kip) >> 24 == l4.APIVERSION_X2 == 0x84
    assert l4.ApiFlags(kip) & 3 == l4.APIFLAG_LE == 0
    assert l4.ApiFlags(kip) >> 2 == l4.APIFLAG_64BIT == 1
    assert kip.word(X2.MAGIC * 8) == l4.MAGIC


def test_version_and_date() -> None:
    """The version has its three parts, and the date year, month and day."""
    kip = changed()
    major, minor, patch = VERSION

    assert l4.KernelVersion(kip) == major << 24 | minor << 16 | patch
    assert l4.KernelVersionString(kip) == f"exokernel {major}.{minor}.{patch}"
    assert l4.KernelGenDate(kip) == (2026, 11, 22)


def test_features() -> None:
    """Features are counted from 0, and behind the last there is none."""
    kip = changed()

    assert [l4.Feature(kip, n) for n in (0, 1, -1)] == ["exokernel", None, None]


def test_memory_descriptors() -> None:
    """RAM is one conventional range from 0; its last byte is told; there is no descriptor behind the last."""
    kip = changed()
    ranges = [l4.MemoryDesc(kip, n) for n in range(4)]
    physical = [m for m in ranges if m is not None and not l4.IsMemoryDescVirtual(m)]
    first, _, tables = physical

    assert (l4.MemoryDescType(first), l4.MemoryDescLow(first), l4.MemoryDescHigh(first)) == (
        l4.ConventionalMemoryType,
        0,
        (1 << 20) - 1,
    )
    assert l4.MemoryDescType(tables) == l4.BootLoaderSpecificMemoryType + 16 * 1
    assert l4.MemoryDesc(kip, 4) is l4.MemoryDesc(kip, -1) is None


def test_processor_descriptors() -> None:
    """A processor's frequencies are read in kHz, external first in the page; there is one for each processor."""
    second = 0x380 // 8 + 4
    kip = changed({second: 100_000, second + 1: 2_600_000})
    descriptor = l4.ProcDesc(kip, 1)

    assert descriptor is not None
    assert l4.ProcDescExternalFreq(descriptor) == 100_000
    assert l4.ProcDescInternalFreq(descriptor) == 2_600_000
    assert l4.ProcDesc(kip, 2) is l4.ProcDesc(kip, -1) is None


@pytest.mark.parametrize("at", [-8, 4, kip_size(256)])
def test_what_is_no_word_of_the_page(at: int) -> None:
    """A place outside the page, or between two words, is a wrong argument."""
    with pytest.raises(ValueError, match="has no word at"):
        changed().word(at)


@pytest.mark.parametrize("at", [-1, kip_size(256)])
def test_text_outside_the_page(at: int) -> None:
    """Text is read within the page only."""
    with pytest.raises(ValueError, match="outside"):
        changed().text(at)


def test_a_program_reads_its_systems_page() -> None:
    """Without a page, the functions read that of the calling program's system."""

    def program(env: Environment) -> None:
        version, flags, kernel, kip = l4.KernelInterface()

        assert kip is l4.GetKernelInterface() is env.kip
        assert (version, flags, kernel) == (l4.ApiVersion(), l4.ApiFlags(), l4.KernelId())
        assert (l4.HasFeature("exokernel"), l4.HasFeature("exo"), l4.HasFeature("")) == (True, False, False)
        assert l4.Feature(None, 0) == "exokernel"
        assert l4.NumProcessors() == env.kip.head(Head.CPU_COUNT)
        assert l4.ProcDesc(None, 0) == (0, 0)
        assert l4.MemoryDesc(None, 4) is None

    with simulated(TOPOLOGY) as system:
        system.spawn(program)
        system.run()

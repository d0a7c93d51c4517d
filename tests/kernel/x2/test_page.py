"""The X.2 half of the kernel interface page: every field bit for bit, as L4 X.2 has it."""

import struct
import tomllib
from pathlib import Path

import pytest

from kernel.abi import traps
from kernel.abi.kip import BOOT, BOOT_SIZE, FEATURES, GENERATED, MEMORY_DESC, VERSION, Head, kip_size
from kernel.abi.limits import FRAME_SIZE, MAX_CPUS
from kernel.abi.topology import BootConfig, MachineConfig, Topology
from tests.kernel.puppets import Theatre, ram_of, theatre

ROOT = Path(__file__).parents[3]
FRAMES = 8
HEAD = {
    0: "4c 34 e6 4b 00 00 00 00",  # L4 0xE6 K
    1: "00 00 05 84 00 00 00 00",  # version 0x84, subversion 5 (X.2)
    2: "04 00 00 00 00 00 00 00",  # little endian, 64 bits
    3: "40 02 00 00 00 00 00 00",  # the kernel descriptor is at 0x240
    21: "04 00 00 00 80 05 00 00",  # four memory descriptors at 0x580
    42: "01 28 0c 00 00 00 00 00",  # UTCB 1 << 10 bytes, aligned so; area at least 1 << 12 bytes
    43: "13 00 00 00 00 00 00 00",  # the KIP fits into 1 << 19 bytes
    46: "00 80 07 00 00 00 00 00",  # the boot records are at 0x78000
    47: "80 03 00 00 00 00 00 00",  # processor descriptors at 0x380
    48: "01 00 32 00 00 00 00 00",  # clock: read precision 1 us, schedule precision 50 us
    49: "0c 40 00 06 00 00 00 00",  # user base 96, system base 64, 12 bits of thread number
    50: "06 10 00 00 00 00 00 00",  # pages of 4 KiB; rights r and w
    51: "00 00 00 00 00 00 00 50",  # one processor, 32 bytes a descriptor
    52: "26 00 00 00 00 00 00 00",  # SpaceControl, the number of the trap
    53: "25 00 00 00 00 00 00 00",  # ThreadControl
    54: "33 00 00 00 00 00 00 00",  # ProcessorControl
    61: "30 00 00 00 00 00 00 00",  # ThreadSwitch
}
"""Words of the head with the bytes X.2 wants there."""
DESCRIPTORS = range(0x240 // 8, 0x580 // 8 + 8)
"""Words the descriptors may take."""
CALLS = {
    "SpaceControl": 52,
    "ThreadControl": 53,
    "ProcessorControl": 54,
    "ThreadSwitch": 61,
}


def page(stage: Theatre) -> memoryview:
    return stage.machine.published["kip"].buffer


def words(stage: Theatre, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}Q", page(stage), at)


@pytest.mark.parametrize(("word", "expected"), HEAD.items())
def test_x2_head(word: int, expected: str) -> None:
    """The fields of L4 X.2 stand at their words, with their bits."""
    with theatre(ram_of(FRAMES)) as stage:
        assert bytes(page(stage)[8 * word : 8 * word + 8]).hex(" ") == expected


def test_the_rest_of_x2_is_zero() -> None:
    """X.2 fields without a counterpart here are zero: kernel debugger, images, old-style memory ranges."""
    with theatre(ram_of(FRAMES)) as stage:
        found = words(stage, 0, 256)

        assert [n for n, word in enumerate(found) if word and n not in (*HEAD, *DESCRIPTORS)] == []


def test_the_first_half_is_x2s_alone() -> None:
    """The descriptors of a machine with every processor there can be end before the head of our own."""
    assert MEMORY_DESC + 4 * 16 <= Head.ABI_LEVEL * 8
    with theatre(Topology(MachineConfig(memory="1 MiB", cpus=tuple(range(MAX_CPUS))))) as stage:
        assert words(stage, 51 * 8, 1) == (5 << 60 | MAX_CPUS - 1,)
        assert words(stage, Head.CPU_COUNT * 8, 1) == (MAX_CPUS,)


def test_the_kernel_descriptor() -> None:
    """Id 0x45.1, date, version, supplier in four words; then the version in words, and the features."""
    with theatre() as stage:
        year, month, day = GENERATED
        date = year - 2000 << 9 | month << 5 | day
        supplier = int.from_bytes(b"EXO ", "little")
        major, minor, patch = VERSION
        strings = f"exokernel {major}.{minor}.{patch}\0" + "".join(f"{f}\0" for f in FEATURES) + "\0"

        assert words(stage, 0x240, 4) == (0x45010000, date, major << 24 | minor << 16 | patch, supplier)
        assert bytes(page(stage)[0x260 : 0x260 + len(strings)]) == strings.encode()


def test_the_version_is_the_distributions() -> None:
    """The kernel descriptor and `pyproject.toml` say the same version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert ".".join(map(str, VERSION)) == project["version"]


def test_memory_descriptors() -> None:
    """User addresses are virtual, RAM is conventional; above it the kernel's pages, reserved, or boot tables."""
    with theatre(ram_of(FRAMES)) as stage:
        end = FRAMES * FRAME_SIZE
        last = end + kip_size(FRAMES) - 1

        assert words(stage, 0x580, 8) == (
            *(1 | 1 << 9, (1 << 47) - 1024),
            *(1, end - 1024),
            *(end | 2, last & ~1023),
            *(end + BOOT | 0xE | 1 << 4, end + BOOT + FRAME_SIZE - 1024),
        )


def test_a_machine_says_its_frequencies() -> None:
    """A processor descriptor has external and internal kHz; the simulated machine knows none."""
    with theatre() as stage:
        assert words(stage, 0x380, 4) == (0, 0, 0, 0)
        stage.kernel.kip.show_processor(0, 2_600_000, 100_000)
        assert words(stage, 0x380, 4) == (100_000, 2_600_000, 0, 0)


@pytest.mark.parametrize(("call", "word"), CALLS.items())
def test_calls_that_are_traps(call: str, word: int) -> None:
    """The word of a call that is one trap has that trap's number."""
    with theatre() as stage:
        [number] = words(stage, word * 8, 1)

        assert traps.TRAPS[number].__name__ == call


def test_without_boot_records() -> None:
    """Where the topology wants none, BootInfo is zero, and no range is the boot loader's."""
    plain = ram_of(FRAMES)
    with theatre(Topology(plain.machine, boot=BootConfig(records=False))) as stage:
        assert words(stage, 46 * 8, 1) == (0,)
        assert words(stage, 21 * 8, 1) == (3 | 0x580 << 32,)
        assert not any(page(stage)[BOOT : BOOT + BOOT_SIZE])


def test_boot_records_have_pages_of_their_own() -> None:
    """The records stand on whole pages, between the tables."""
    assert BOOT % FRAME_SIZE == BOOT_SIZE % FRAME_SIZE == 0
    with theatre(ram_of(FRAMES)) as stage:
        stage.kernel.kip.show_records(b"records!")

        assert bytes(page(stage)[BOOT : BOOT + 8]) == b"records!"

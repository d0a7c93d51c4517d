"""The boot records: their words as X.2 has them, and that whatever is written is read back."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.bootinfo import MAX_COMMANDS, MAX_MODULES
from kernel.abi.kip import BOOT_SIZE
from kernel.x2.records import boot_records

TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=8)


def test_the_words_of_boot_records() -> None:
    """A header of eight words, six for each module, then the command lines: all offsets count from the record."""
    raw = boot_records(["servers/memory", "b"])

    assert struct.unpack_from("<20Q", raw) == (
        *(0x14B0021D, 1, 64 + 2 * 48 + 16 + 8, 64, 2, 0, 0, 0),
        *(1, 1, 48, 0, 0, 96),
        *(1, 1, 48, 0, 0, 64),
    )
    assert raw[160:] == b"servers/memory\0\0b\0\0\0\0\0\0\0"


def test_no_modules() -> None:
    """Where nothing was booted there is a header, of no records."""
    assert struct.unpack("<8Q", boot_records([])) == (0x14B0021D, 1, 64, 64, 0, 0, 0, 0)


@given(TEXTS)
def test_each_record_finds_its_command_line(commands: list[str]) -> None:
    """Whatever the lengths, following the offsets gives the command lines in order, and ends at the size."""
    raw = boot_records(commands)
    _, _, size, at, count = struct.unpack_from("<5Q", raw)
    found = []
    for _ in range(count):
        _, _, following, _, _, offset = struct.unpack_from("<6Q", raw, at)
        found.append(raw[at + offset : raw.index(0, at + offset)].decode())
        at += following

    assert (found, size) == (commands, len(raw))


def test_the_most_there_can_be_fits() -> None:
    """As many modules as are allowed, with command lines as long, fit into the pages for them."""
    each = MAX_COMMANDS // MAX_MODULES
    uneven = [*["x"] * (MAX_MODULES - 1), "x" * (MAX_COMMANDS - 2 * MAX_MODULES + 1)]

    assert len(boot_records(["x" * (each - 1)] * MAX_MODULES)) <= BOOT_SIZE
    assert len(boot_records(uneven)) <= BOOT_SIZE

"""The boot records under the names of X.2."""

import inspect
import re
from collections.abc import Callable

import pytest

from kernel.abi.bootinfo import BootRecord, Efi, Module, Multiboot, SimpleExec
from kernel.abi.kip import BOOT
from kernel.abi.topology import MachineConfig, ServerConfig, Topology
from libexo import l4
from libexo.environment import Environment
from libexo.kip import Kip
from libexo.l4 import boot
from libexo.testing import simulated

IDLE = "tests.kernel.idle_server:Idle"
TOPOLOGY = Topology(
    MachineConfig(memory="1 MiB"),
    server={
        "first": ServerConfig(IDLE, 96, arguments=("maxusers=3", "a b")),
        "second": ServerConfig(IDLE, 99, 1),
    },
)
COMMANDS = [f"{IDLE} maxusers=3 'a b'", IDLE]
KINDS = {
    "Module": (BootRecord.MODULE, Module),
    "SimpleExec": (BootRecord.SIMPLE_EXEC, SimpleExec),
    "EFI": (BootRecord.EFI, Efi),
    "MBI": (BootRecord.MULTIBOOT, Multiboot),
}
READERS = {
    name: function
    for name, function in vars(boot).items()
    if name.partition("_")[0] in KINDS and inspect.isfunction(function) and "_Set_" not in name
}
RECORD = 0x40
"""Where in a page of our own making a record stands: between the words of X.2."""


def commands(kip: Kip | None = None) -> list[str | None]:
    """The command lines, read as a program of X.2 reads them."""
    info = l4.BootInfo(kip)
    assert l4.BootInfo_Valid(info, kip)
    record, found = l4.BootInfo_FirstEntry(info, kip), []
    for _ in range(l4.BootInfo_Entries(info, kip)):
        assert l4.BootRec_Type(record, kip) == l4.BootInfo_Module
        found.append(l4.Module_Cmdline(record, kip))
        record = l4.BootRec_Next(record, kip)
    return found


def page(kind: int, fields: dict[int, int]) -> Kip:
    """A page with one record of *kind* at RECORD, and text at byte 8 behind its 16 words."""
    with simulated(TOPOLOGY) as system:
        raw = memoryview(bytearray(system.machine.published["kip"].buffer))
    words = raw.cast("Q")
    words[RECORD // 8 : RECORD // 8 + 3] = memoryview(
        b"".join(w.to_bytes(8, "little") for w in (kind, 1, 0))
    ).cast("Q")
    for word, value in fields.items():
        words[RECORD // 8 + word] = value
    raw[RECORD + 136 : RECORD + 142] = b"hello\0"
    return Kip(raw)


def test_a_module_for_each_server() -> None:
    """Each server that was booted has a record, in order, with its module and its arguments."""
    with simulated(TOPOLOGY) as system:
        kip = Kip(system.machine.published["kip"].buffer)

        assert commands(kip) == COMMANDS
        assert l4.BootInfo(kip) == BOOT
        assert l4.BootInfo_Size(BOOT, kip) == 64 + 2 * 48 + sum(-(-(len(c) + 1) // 8) * 8 for c in COMMANDS)


def test_a_program_reads_them() -> None:
    """Every program reads the boot records of its system, without a trap."""

    def program(env: Environment) -> list[str | None]:
        return commands()

    with simulated(TOPOLOGY) as system:
        task = system.spawn(program)
        system.run(task)

        assert task.result == COMMANDS


def test_modules_take_no_ram() -> None:
    """A module is a program of the host: start and size are 0."""
    with simulated(TOPOLOGY) as system:
        kip = Kip(system.machine.published["kip"].buffer)
        first = l4.BootInfo_FirstEntry(BOOT, kip)

        assert (l4.Module_Start(first, kip), l4.Module_Size(first, kip)) == (0, 0)


def test_what_is_no_boot_information() -> None:
    """Another magic or another version is not valid."""
    assert not l4.BootInfo_Valid(0, page(1, {}))
    assert not l4.BootInfo_Valid(RECORD, page(l4.BOOTINFO_MAGIC, {1: 2}))
    assert l4.BootInfo_Valid(RECORD, page(l4.BOOTINFO_MAGIC, {1: l4.BOOTINFO_VERSION}))


def field_of(name: str) -> int:
    """The word that a function reads, found by its name."""
    kind, _, what = name.partition("_")
    wanted = "COMMAND" if what == "Cmdline" else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", what).upper()
    return int(KINDS[kind][1][wanted])


@pytest.mark.parametrize("name", [name for name in READERS if not name.endswith("Cmdline")])
def test_each_function_reads_its_word(name: str) -> None:
    """In a record of its kind, wherever it came from, each function reads the word of its name."""
    kind = KINDS[name.partition("_")[0]][0]

    assert READERS[name](RECORD, page(kind, {field_of(name): 0xABC})) == 0xABC


@pytest.mark.parametrize("name", ["Module_Cmdline", "SimpleExec_Cmdline"])
def test_command_lines(name: str) -> None:
    """A command line is found by its offset from the record; an offset of 0 says that there is none."""
    kind = KINDS[name.partition("_")[0]][0]

    assert READERS[name](RECORD, page(kind, {field_of(name): 136})) == "hello"
    assert READERS[name](RECORD, page(kind, {field_of(name): 0})) is None


@pytest.mark.parametrize("name", READERS)
def test_records_of_another_kind(name: str) -> None:
    """A function for another kind of record says what this one is."""
    wrong = BootRecord.MULTIBOOT if name.startswith("Module") else BootRecord.MODULE

    with pytest.raises(ValueError, match=r"at 0x40 is (a module|multiboot information), not "):
        READERS[name](RECORD, page(wrong, {}))
    with pytest.raises(ValueError, match="of type 0x77, not "):
        READERS[name](RECORD, page(0x77, {}))


@pytest.mark.parametrize("write", [l4.SimpleExec_Set_Flags, l4.SimpleExec_Set_Label])
def test_nobody_writes_records(write: Callable[..., object]) -> None:
    """The page is the kernel's to write, so what C programs note down in a record is refused."""
    with pytest.raises(ValueError, match="only the kernel writes"):
        write(RECORD, 1, page(BootRecord.SIMPLE_EXEC, {}))

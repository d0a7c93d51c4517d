"""The wire, byte by byte: what is fixed here is a promise, and changes only with ABI_LEVEL."""

from pathlib import Path

import msgspec
import pytest

from kernel.abi import traps
from kernel.abi.errors import Fault, Numbered, Refusal
from kernel.abi.gate import Attach, Refused, Status, Upcall
from kernel.abi.ids import (
    ANY_THREAD,
    KERNEL_CPUS,
    KERNEL_MEMORY,
    NIL_THREAD,
    handle,
    handle_generation,
    handle_slot,
    show_thread,
    thread_id,
)
from kernel.abi.kip import ENVIRONMENT, NAME, PLAN_HEAD, PLAN_SLICE
from kernel.abi.messages import (
    FpagePart,
    GrantPart,
    IpcCode,
    Label,
    MapPart,
    Packet,
    PacketFlags,
    PacketKind,
    Phase,
    Preemption,
    ShortPart,
    StringPart,
)
from kernel.abi.operators import Operators
from kernel.abi.predicates import Operator, Term
from kernel.abi.program import Program, Role
from kernel.abi.rights import Kind, Rights
from libexo.errors import IpcError

TESTS = Path(__file__).parents[1]
THREAD = thread_id(0x61, 3)
PROGRAM = Program(3, ("/bin/true", "x"), (("K", "v"),), (1,))
RECORDS: list[tuple[object, str]] = [
    (traps.KernelInterface(), "9101"),
    (traps.Batch((traps.Inventory(), traps.Drop(5))), "9202929145924305"),
    (
        traps.EnvironmentCreate(1, "a", PROGRAM, 0, keeps=True, succeeds=2, may_bind=(96,)),
        "9b1001a161950392a92f62696e2f74727565a1789192a14ba1769101c200c3029160000090",
    ),
    (traps.EnvironmentDestroy(1, 16, "a"), "94110110a161"),
    (traps.EnvironmentSignal(1, 15), "9312010f"),
    (traps.NamePublish(1, "a", THREAD), "941301a161cf0000006100000003"),
    (traps.Charge(THREAD, 9, 5), "9415cf00000061000000030905"),
    (traps.BootInfo(1), "921401"),
    (traps.Incoming(5), "922005"),
    (traps.Bind(THREAD, 5), "9421cf00000061000000030500"),
    (traps.Identify(bytes(range(16)), 5), "9322c410000102030405060708090a0b0c0d0e0f05"),
    (traps.Unbind(bytes(16)), "9323c410" + "00" * 16 + "00"),
    (traps.Acknowledge(THREAD, (7,)), "9324cf00000061000000039107"),
    (
        traps.ThreadControl(THREAD, 5, 6, 7, 8, PROGRAM),
        "9725cf000000610000000305060708950392a92f62696e2f74727565a1789192a14ba1769101c2",
    ),
    (traps.WaitPage(5), "922705"),
    (traps.Sends(5, 6), "93280506"),
    (traps.WakeWhen(1, ((Term(2, 3, Operator.MORE, 5),),), 6), "942901919195020304050006"),
    (traps.SpaceControl(THREAD, 1, 2, 3, 4), "9626cf000000610000000301020304"),
    (traps.ThreadSwitch(1, THREAD, 500), "953001cf0000006100000003cd01f400"),
    (traps.Plan(1, (traps.Slice(THREAD, 500),)), "9431019192cf0000006100000003cd01f400"),
    (traps.Migrate(1, THREAD), "933201cf0000006100000003"),
    (traps.ProcessorControl(1, 2, 3, 4, 2), "96330102030402"),
    (traps.Expire(1, THREAD), "933401cf0000006100000003"),
    (traps.Derive(1, 31), "9540011fff00"),
    (traps.Transfer(1, THREAD, 20, grant=True), "954101cf000000610000000314c3"),
    (traps.Revoke(0x10001, 1000), "9642ce00010001cd03e8ff0000"),
    (traps.Drop(1), "924301"),
    (traps.Inspect(1), "924401"),
    (traps.Inventory(), "9145"),
    (traps.Accept(THREAD, 5), "9446cf0000006100000003051f"),
    (traps.Carve(1, 16), "96500110ffc3c2"),
    (traps.MapExtent(1), "93510100"),
    (traps.Limit(1, 16), "93520110"),
    (traps.ObjectCreate(65536, 4, 8), "9753ce000100000408ffce000f424000"),
    (traps.Window(65537, 4096, 1, 2), "9554ce00010001cd10000102"),
    (traps.Supply(65536, 3, 2), "9555ce000100000302c2"),
    (traps.Evict(65536, 3), "9456ce000100000301"),
    (traps.Protect(65536, 0, 8, 2), "9557ce00010000000802"),
    (traps.InterruptBind(1), "936001c3"),
    (traps.InterruptMask(1, masked=False), "936101c2"),
    (Upcall(KERNEL_MEMORY, Label.REVOKED, (7,), "", 5), "95cf0000004200000001cf0000fffffffffbd09107a005"),
    (Refused(Refusal.STALE_HANDLE, "handle 0x1"), "9211aa68616e646c6520307831"),
    (Attach("a", b"\x01\x02"), "92a161c4020102"),
    (Operators((0, 5), 5, b"\x03"), "9392000505c40103"),
    (Packet(PacketKind.TAKEN, 9), "99040900909000000000"),
    (
        Packet(PacketKind.CALL, 1, 0x40, (1, 2), (StringPart(3), MapPart(4), GrantPart(5)), 7, 1, 9, 10),
        "99020140920102939201039202049203050701090a",
    ),
    (
        Packet(PacketKind.SEND, 1, 0, (), (FpagePart(((0, 4096, 6),)),)),
        "9901010090919205919300cd10000600000000",
    ),
    (Packet(PacketKind.REPLY, 1, 0x40, (), (ShortPart(b"abc"),)), "9903014090919204c40361626300000000"),
]
"""Every record that travels, with its bytes."""
NUMBERS: list[tuple[int, int]] = [
    (thread_id(96), 0x60_00000001),
    (KERNEL_CPUS, 0x43_00000001),
    (handle(3, 2), 0x0002_0003),
    (Label.INTERRUPT, 0xFFFF_FFFF_FFF0),
    (Label.PAGE_FAULT, 0xFFFF_FFFF_FFE0),
    (Label.PREEMPTION, 0xFFFF_FFFF_FFD0),
    (Label.EXCEPTION, 0xFFFF_FFFF_FFB0),
    (Label.SIGMA0, 0xFFFF_FFFF_FFA0),
    (Label.PARTNER_GONE, 0xFFFF_FFFF_FC00),
    (Label.DEATH, 0xFFFF_FFFF_FBF0),
    (Label.REVOKE, 0xFFFF_FFFF_FBE0),
    (Label.MOVED, 0xFFFF_FFFF_FBC0),
]
"""Ids and labels, with their bits."""
TABLES = (
    Refusal,
    Fault,
    Label,
    PacketKind,
    IpcCode,
    Phase,
    Preemption,
    Status,
    Kind,
    Role,
    Rights,
    PacketFlags,
)


@pytest.mark.parametrize(
    ("record", "expected"), RECORDS, ids=[f"{n}-{type(r).__name__}" for n, (r, _) in enumerate(RECORDS)]
)
def test_bytes(record: object, expected: str) -> None:
    """A record has exactly these bytes, and is read back from them."""
    kind = traps.AnyTrap if isinstance(record, traps.Trap) else type(record)

    assert msgspec.msgpack.encode(record).hex() == expected
    assert msgspec.msgpack.decode(bytes.fromhex(expected), type=kind) == record


def test_every_trap_is_here() -> None:
    """The table of bytes has every trap once, and there are at most forty."""
    written = [type(record) for record, _ in RECORDS if isinstance(record, traps.Trap)]

    assert sorted(written, key=str) == sorted(traps.TRAPS.values(), key=str)
    assert len(written) <= 40


@pytest.mark.parametrize(("number", "expected"), NUMBERS)
def test_numbers(number: int, expected: int) -> None:
    """Ids and labels have the layout of L4 X.2, or ours where it has none."""
    assert number == expected


def test_rows() -> None:
    """Rows of the exposed tables have these sizes, with no gap the host's compiler would choose."""
    assert [s.size for s in (ENVIRONMENT, NAME, PLAN_HEAD, PLAN_SLICE)] == [96, 40, 16, 8]
    assert all(s.format.startswith("<") for s in (ENVIRONMENT, NAME, PLAN_HEAD, PLAN_SLICE))


def test_handles_come_apart() -> None:
    """A handle is its generation and its slot."""
    name = handle(0xFFFF, 0xABCD)

    assert (name, handle_slot(name), handle_generation(name)) == (0xABCD_FFFF, 0xFFFF, 0xABCD)


def test_threads_as_people_read_them() -> None:
    """Thread ids are shown as number and version, the two special ones by name."""
    assert [show_thread(t) for t in (thread_id(97, 3), NIL_THREAD, ANY_THREAD)] == ["97.3", "nil", "any"]


def test_error_words() -> None:
    """The X.2 error word has the phase in bit 0 and the code above it."""
    assert [
        IpcError(IpcCode.TIMEOUT, Phase.SEND, "").word,
        IpcError(IpcCode.ABORTED, Phase.RECEIVE, "").word,
    ] == [
        0b0010,
        0b1111,
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_no_number_twice(table: type) -> None:
    """Each number of a table has one name."""
    assert len(table.__members__) == len(set(table.__members__.values()))  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [*Refusal, *Fault], ids=lambda number: number.name)
def test_every_error_says_what_it_means(number: Numbered) -> None:
    """Each refusal and fault has a text, which no other has, as a line for people begins."""
    texts = [other.text for other in (*Refusal, *Fault)]

    assert texts.count(number.text) == 1
    assert number.text[0].islower()
    assert not number.text.endswith(".")


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
def test_every_refusal_is_expected_by_a_test(refusal: Refusal) -> None:
    """For each refusal some test of the kernel brings it about."""
    sources = [path.read_text() for path in (TESTS / "kernel").rglob("test_*.py")]

    assert any(f"Refusal.{refusal.name}" in source for source in sources)


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
def test_every_refusal_belongs_to_somebody(refusal: Refusal) -> None:
    """Each refusal is declared by a trap, or answers an attempt to attach."""
    declared = {each for trap in traps.TRAPS.values() for each in trap.refusals}

    assert refusal in declared | {Refusal.MAY_NOT_ATTACH}

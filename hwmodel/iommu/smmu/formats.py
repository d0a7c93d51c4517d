"""SMMUv3's formats. Source: IHI 0070 chapters 4, 5 and 7.3; reference sheet sections 3.2 to 3.6."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from hwmodel.iommu.codec import Codec, Unsupported
from hwmodel.iommu.layout import ALL_PAGES, Bits, Format, Inputs, MalformedEntry, Values, Violation, bits

COMMAND = 16
"""Bytes of a command."""


class Error(IntEnum):
    """CMDQ_CONS.ERR: why the command queue stopped."""

    CERROR_NONE = 0
    CERROR_ILL = 1
    CERROR_ABT = 2
    CERROR_ATC_INV_SYNC = 3


@dataclass(frozen=True)
class Unit:
    """What a unit has of what decides which commands are legal, by the names of its ID registers."""

    s1p: bool = True
    s2p: bool = True
    hyp: bool = True
    ats: bool = True
    pri: bool = True
    stall: bool = True
    ril: bool = True
    secure: bool = True
    """Whether this is the secure command queue, which alone has commands for EL3."""


UNIT = Unit()
"""A unit that has everything."""


def _malformed(violation: Violation) -> MalformedEntry:
    return MalformedEntry(Error.CERROR_ILL.name, Error.CERROR_ILL, str(violation))


PREFETCH_CFG, PREFETCH_ADDR = 0x01, 0x02
CFGI_STE, CFGI_STE_RANGE, CFGI_CD, CFGI_CD_ALL = 0x03, 0x04, 0x05, 0x06
TLBI_NH_ALL, TLBI_NH_ASID, TLBI_NH_VA, TLBI_NH_VAA = 0x10, 0x11, 0x12, 0x13
TLBI_EL3_ALL, TLBI_EL3_VA = 0x18, 0x1A
TLBI_EL2_ALL, TLBI_EL2_ASID, TLBI_EL2_VA, TLBI_EL2_VAA = 0x20, 0x21, 0x22, 0x23
TLBI_S12_VMALL, TLBI_S2_IPA, TLBI_NSNH_ALL = 0x28, 0x2A, 0x30
ATC_INV, PRI_RESP, RESUME, STALL_TERM, SYNC = 0x40, 0x41, 0x44, 0x45, 0x46

SIG_NONE, SIG_IRQ, SIG_SEV = 0, 1, 2
"""What a SYNC does when it completes."""
PRI_SUCCESS = 2
"""The highest response to a page request."""
C_BAD_STE = 4
"""The event for a stream table entry that is not valid."""

OP = bits("op", 7, 0, default=None)
SID = bits("sid", 63, 32, default=None)
SUBSTREAM = (bits("ssv", 11), bits("ssid", 31, 12))
VMID = bits("vmid", 47, 32)
ASID = bits("asid", 63, 48)
RANGE = (bits("num", 16, 12), bits("scale", 24, 20), bits("ttl", 73, 72), bits("tg", 75, 74))
LEAF = bits("leaf", 64, default=1)
ADDRESS = bits("addr", 127, 76, shift=12)
INTERMEDIATE = bits("addr", 119, 76, shift=12)


def _check_range(values: Values) -> None:
    if values["tg"] and not values["num"] | values["scale"] | values["ttl"]:
        raise Violation("a range with num, scale and ttl all 0 is reserved")


def _check_sync(values: Values) -> None:
    if values["cs"] > SIG_SEV:
        raise Violation("cs 3 is reserved")


def _check_span(values: Values) -> None:
    if values["size"] > ALL_PAGES:
        raise Violation(f"size is {values['size']}: {ALL_PAGES} is everything")


def _check_response(values: Values) -> None:
    if values["resp"] > PRI_SUCCESS:
        raise Violation("resp 3 is reserved")


def _tagged(name: str, tags: str, address: Bits | None = None) -> Format:
    """Return the format of an invalidation by those of the *tags* vmid and asid, and by a range from *address*.

    All of them have both tags; the one that does not count must be 0.
    """

    def check(values: Values) -> None:
        stray = [tag for tag in ("vmid", "asid") if values[tag] and tag not in tags]
        if stray:
            raise Violation(f"{name} has no {stray[0]}: it must be 0")
        if address:
            _check_range(values)

    ranged = (*RANGE, address, LEAF) if address else ()
    return Format(name, COMMAND, (OP, VMID, ASID, *ranged), check)


def _plain(name: str, *parts: Bits) -> Format:
    return Format(name, COMMAND, (OP, *parts))


COMMANDS: Mapping[int, Format] = {
    PREFETCH_CFG: _plain("CMD_PREFETCH_CONFIG", SID, *SUBSTREAM),
    PREFETCH_ADDR: _plain("CMD_PREFETCH_ADDR", SID, *SUBSTREAM, bits("size", 68, 64), ADDRESS),
    CFGI_STE: _plain("CMD_CFGI_STE", SID, LEAF),
    CFGI_STE_RANGE: _plain("CMD_CFGI_STE_RANGE", bits("sid", 63, 32), bits("range", 68, 64)),
    CFGI_CD: _plain("CMD_CFGI_CD", SID, bits("ssid", 31, 12), LEAF),
    CFGI_CD_ALL: _plain("CMD_CFGI_CD_ALL", SID),
    TLBI_NH_ALL: _tagged("CMD_TLBI_NH_ALL", "vmid"),
    TLBI_NH_ASID: _tagged("CMD_TLBI_NH_ASID", "vmid asid"),
    TLBI_NH_VA: _tagged("CMD_TLBI_NH_VA", "vmid asid", ADDRESS),
    TLBI_NH_VAA: _tagged("CMD_TLBI_NH_VAA", "vmid", ADDRESS),
    TLBI_EL3_ALL: _tagged("CMD_TLBI_EL3_ALL", ""),
    TLBI_EL3_VA: _tagged("CMD_TLBI_EL3_VA", "", ADDRESS),
    TLBI_EL2_ALL: _tagged("CMD_TLBI_EL2_ALL", ""),
    TLBI_EL2_ASID: _tagged("CMD_TLBI_EL2_ASID", "asid"),
    TLBI_EL2_VA: _tagged("CMD_TLBI_EL2_VA", "asid", ADDRESS),
    TLBI_EL2_VAA: _tagged("CMD_TLBI_EL2_VAA", "", ADDRESS),
    TLBI_S12_VMALL: _tagged("CMD_TLBI_S12_VMALL", "vmid"),
    TLBI_S2_IPA: _tagged("CMD_TLBI_S2_IPA", "vmid", INTERMEDIATE),
    TLBI_NSNH_ALL: _tagged("CMD_TLBI_NSNH_ALL", ""),
    ATC_INV: Format(
        "CMD_ATC_INV",
        COMMAND,
        (OP, SID, *SUBSTREAM, bits("g", 9), bits("size", 69, 64), ADDRESS),
        _check_span,
    ),
    PRI_RESP: Format(
        "CMD_PRI_RESP",
        COMMAND,
        (OP, SID, *SUBSTREAM, bits("prg_index", 72, 64), bits("resp", 77, 76)),
        _check_response,
    ),
    RESUME: _plain("CMD_RESUME", SID, bits("resp", 13, 12), bits("stag", 79, 64)),
    STALL_TERM: _plain("CMD_STALL_TERM", SID),
    SYNC: Format(
        "CMD_SYNC",
        COMMAND,
        (
            OP,
            bits("cs", 13, 12),
            bits("msh", 23, 22),
            bits("msiattr", 27, 24),
            bits("msidata", 63, 32),
            bits("msiaddr", 119, 66, shift=2),
        ),
        _check_sync,
    ),
}
"""By opcode. Reserved fields must be 0: of the two ways the manual allows (4.1.5) this is the one that tells."""

STAGE_1 = {CFGI_CD, CFGI_CD_ALL, TLBI_NH_ALL, TLBI_NH_ASID, TLBI_NH_VA, TLBI_NH_VAA}
STAGE_2 = {TLBI_S12_VMALL, TLBI_S2_IPA}
HYPERVISOR = {TLBI_EL2_ALL, TLBI_EL2_ASID, TLBI_EL2_VA, TLBI_EL2_VAA}
MONITOR = {TLBI_EL3_ALL, TLBI_EL3_VA}
STALLS = {RESUME, STALL_TERM}

STRUCTURES = (
    Format(
        "event",
        32,
        (
            bits("type", 7, 0, default=None),
            bits("ssv", 11),
            bits("ssid", 31, 12),
            bits("sid", 63, 32),
            bits("stag", 79, 64),
            bits("stall", 95),
            bits("PnU", 97),
            bits("InD", 98),
            bits("RnW", 99),
            bits("NSIPA", 102),
            bits("S2", 103),
            bits("CLASS", 105, 104),
            bits("TTRnW", 108),
            bits("addr", 191, 128),
            bits("ipa", 243, 204, shift=12),
        ),
    ),
    Format(
        "stream-table-entry",
        64,
        (
            bits("V", 0, default=1),
            bits("config", 3, 1, default=6),
            bits("s1fmt", 5, 4),
            bits("s1contextptr", 51, 6, shift=6),
            bits("s1cdmax", 63, 59),
            bits("s1dss", 65, 64),
            bits("s1stalld", 91),
            bits("eats", 93, 92),
            bits("strw", 95, 94),
            bits("shcfg", 109, 108, default=1),
            bits("vmid", 143, 128),
            bits("t0sz", 165, 160),
            bits("sl0", 167, 166),
            bits("ir0", 169, 168, default=1),
            bits("or0", 171, 170, default=1),
            bits("sh0", 173, 172, default=3),
            bits("tg", 175, 174),
            bits("ps", 178, 176),
            bits("aa64", 179, default=1),
            bits("endi", 180),
            bits("affd", 181),
            bits("ptw", 182, default=1),
            bits("hd", 183),
            bits("ha", 184),
            bits("s2s", 185),
            bits("s2r", 186, default=1),
            bits("s2ttb", 243, 196, shift=4),
        ),
        error="C_BAD_STE",
        code=C_BAD_STE,
    ),
)
"""In memory, by their names."""


def _refuse_unsupported(values: Values, unit: Unit) -> None:
    opcode = values["op"]
    missing = (
        (opcode in STAGE_1 and not unit.s1p)
        or (opcode in STAGE_2 and not unit.s2p)
        or (opcode in HYPERVISOR and not unit.hyp)
        or (opcode in MONITOR and not unit.secure)
        or (opcode in STALLS and not unit.stall)
        or (opcode == ATC_INV and not unit.ats)
        or (opcode == PRI_RESP and not unit.pri)
    )
    if missing:
        raise Unsupported(f"the unit has no {COMMANDS[opcode].name}")
    if not unit.ril and any(values.get(name) for name in ("num", "scale", "ttl", "tg")):
        raise Violation("the unit has no invalidation by range: num, scale, ttl and tg must be 0")


def _for_device(values: Values) -> Values:
    """Return *values* of a SYNC that stores a message as to device memory (attribute 1), if they do not say."""
    return {"msiattr": 1, **values} if values.get("msiaddr") else values


CODEC = Codec(OP, COMMANDS, STRUCTURES, (COMMAND,), _malformed, _refuse_unsupported, _for_device)


def encode(inputs: Inputs, unit: Unit = UNIT) -> bytes:
    """Return the bytes of a command (which has an ``op``), or of a structure.

    ``leaf`` is 1 where it is not given; so is ``msiattr`` (device memory) of a SYNC with an address to store at.
    Raises MalformedEntry, which names CERROR_ILL, for what *unit* would refuse.
    """
    return CODEC.encode(inputs, unit)


def decode(data: bytes, structure: str | None = None, unit: Unit = UNIT) -> Values:
    """Return the fields of a command of 16 bytes, or of a *structure*.

    Raises MalformedEntry as `encode` does; ValueError for a wrong length, or a structure there is not.
    """
    return CODEC.decode(data, structure, unit)

"""VT-d's formats. Source: reference sheet sections 1.3, 1.5 and 1.7, after drivers, emulators and datasheets."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from hwmodel.iommu.codec import Codec, Unsupported
from hwmodel.iommu.layout import (
    Bits,
    Format,
    Inputs,
    MalformedEntry,
    OrderedPages,
    Values,
    Violation,
    bits,
    split,
)

NARROW, WIDE = 16, 32
"""Bytes of a descriptor, by IQA.DW."""


class Mode(IntEnum):
    """RTADDR.TTM: which tables devices are looked up in."""

    LEGACY = 0
    SCALABLE = 1
    ABORT = 3


class Error(IntEnum):
    """IQERCD.IQEI: why the invalidation queue stopped."""

    TAIL = 1
    FETCH = 2
    TYPE = 3
    RESERVED = 4
    WIDTH = 5
    ALIGNMENT = 6
    MODE = 7


MEANINGS: Mapping[Error, str] = {
    Error.TAIL: "tail out of range",
    Error.FETCH: "fetch failed",
    Error.TYPE: "invalid type",
    Error.RESERVED: "reserved field",
    Error.WIDTH: "invalid width",
    Error.ALIGNMENT: "tail misaligned",
    Error.MODE: "invalid table mode",
}


@dataclass(frozen=True)
class Unit:
    """What a unit has, as far as it decides which descriptors are legal; the names are those of CAP and ECAP."""

    mode: Mode = Mode.SCALABLE
    mamv: int = 18
    psi: bool = True
    dt: bool = True
    ir: bool = True
    mhmv: int = 15
    pds: bool = True


UNIT = Unit()
"""A unit that has everything."""


def malformed(error: Error, why: str) -> MalformedEntry:
    """Return the refusal of a descriptor: an invalidation queue error."""
    return MalformedEntry(f"IQE (IQERCD.IQEI={error.value}, {MEANINGS[error]})", error, why)


TYPE = split("type", (3, 0), (11, 9), default=None)
GRANULARITY = bits("granularity", 5, 4)
DID = bits("did", 31, 16)
PASID = bits("pasid", 51, 32)
PFSID = split("pfsid", (15, 12), (63, 52))
SID = bits("sid", 47, 32)
ADDRESS = (bits("am", 69, 64), bits("ih", 70), bits("addr", 127, 76, shift=12))

CONTEXT, IOTLB, DEVICE_TLB, INTERRUPTS, WAIT, PASID_IOTLB, PASIDS, PASID_DEVICE_TLB, PAGE_GROUP = range(1, 10)
GLOBAL, DOMAIN, SELECTED = 1, 2, 3
"""Granularities of types 1 and 2; the last is a device, or pages."""

LEGAL_GRANULARITIES: Mapping[int, tuple[int, ...]] = {
    CONTEXT: (GLOBAL, DOMAIN, SELECTED),
    IOTLB: (GLOBAL, DOMAIN, SELECTED),
    PASID_IOTLB: (2, 3),
    PASIDS: (0, 1, 3),
}


def _check_granularity(values: Values) -> None:
    if values["granularity"] not in LEGAL_GRANULARITIES[values["type"]]:
        raise Violation(f"type {values['type']} has no granularity {values['granularity']}")


def _descriptor(name: str, *parts: Bits | OrderedPages, granular: bool = False) -> Format:
    return Format(name, NARROW, (TYPE, *parts), _check_granularity if granular else lambda values: None)


DESCRIPTORS: Mapping[int, Format] = {
    CONTEXT: _descriptor(
        "context-cache invalidate", GRANULARITY, DID, SID, bits("fm", 49, 48), granular=True
    ),
    IOTLB: _descriptor(
        "IOTLB invalidate", GRANULARITY, bits("dw", 6), bits("dr", 7), DID, *ADDRESS, granular=True
    ),
    DEVICE_TLB: _descriptor(
        "device-TLB invalidate", bits("max_pending", 20, 16), SID, PFSID, OrderedPages(64)
    ),
    INTERRUPTS: _descriptor(
        "interrupt-entry-cache invalidate",
        bits("index_selective", 4),
        bits("im", 31, 27),
        bits("iidx", 47, 32),
    ),
    WAIT: _descriptor(
        "invalidation wait",
        bits("IF", 4),
        bits("SW", 5),
        bits("FN", 6),
        bits("PD", 7),
        bits("status_data", 63, 32),
        bits("status_addr", 127, 66, shift=2),
    ),
    PASID_IOTLB: _descriptor("PASID-IOTLB invalidate", GRANULARITY, DID, PASID, *ADDRESS, granular=True),
    PASIDS: _descriptor("PASID-cache invalidate", GRANULARITY, DID, PASID, granular=True),
    PASID_DEVICE_TLB: _descriptor(
        "PASID-device-TLB invalidate",
        bits("max_pending", 8, 4),
        bits("sid", 31, 16),
        PFSID,
        PASID,
        bits("global", 64),
        OrderedPages(75),
    ),
    PAGE_GROUP: _descriptor(
        "page-group response",
        bits("pasid_present", 4),
        bits("pdp", 5),
        bits("response", 15, 12),
        bits("rid", 31, 16),
        PASID,
        bits("lpig", 66),
        bits("index", 75, 67),
    ),
}
"""By type."""

STRUCTURES = (
    Format(
        "root-entry",
        16,
        (bits("P", 0, default=1), bits("CTP", 63, 12, shift=12)),
        error="fault reason 0xa",
        code=0xA,
    ),
    Format(
        "context-entry",
        16,
        (
            bits("P", 0, default=1),
            bits("FPD", 1),
            bits("TT", 3, 2),
            bits("SLPTPTR", 63, 12, shift=12),
            bits("AW", 66, 64),
            bits("ignored", 70, 67),
            bits("DID", 87, 72),
        ),
        error="fault reason 0xb",
        code=0xB,
    ),
    Format(
        "fault-record",
        16,
        (
            bits("FI", 63, 12, shift=12),
            bits("SID", 79, 64),
            bits("T2", 92),
            bits("PRIV", 93),
            bits("EXE", 94),
            bits("PP", 95),
            bits("FR", 103, 96),
            bits("PASID", 123, 104),
            bits("AT", 125, 124),
            bits("T", 126),
            bits("F", 127, default=1),
        ),
    ),
)
"""In memory and registers, by their names."""


def _refuse_unsupported(values: Values, unit: Unit) -> None:
    """Raise what *unit* has not: a type, a size, a drain."""
    kind = values["type"]
    missing = (kind == DEVICE_TLB and not unit.dt) or (kind == INTERRUPTS and not unit.ir)
    if missing or (kind > WAIT and unit.mode is Mode.LEGACY):
        raise Unsupported(f"the unit has no {DESCRIPTORS[kind].name} in mode {unit.mode.name.lower()}")
    if kind == IOTLB and values["granularity"] == SELECTED and (not unit.psi or values["am"] > unit.mamv):
        raise Violation(
            f"am is {values['am']}, and the unit flushes pages up to {unit.mamv if unit.psi else 'none'}"
        )
    if kind == INTERRUPTS and values["index_selective"] and values["im"] > unit.mhmv:
        raise Violation(f"im is {values['im']}, and the unit has masks up to {unit.mhmv}")
    if kind == WAIT and values["PD"] and not unit.pds:
        raise Violation("the unit drains no page requests")


def _malformed(violation: Violation) -> MalformedEntry:
    return malformed(Error.TYPE if isinstance(violation, Unsupported) else Error.RESERVED, str(violation))


def _size(values: Values) -> int:
    return WIDE if values["type"] > WAIT or values.get("PD") else NARROW


CODEC = Codec(TYPE, DESCRIPTORS, STRUCTURES, (NARROW, WIDE), _malformed, _refuse_unsupported, size=_size)


def encode(inputs: Inputs, unit: Unit = UNIT) -> bytes:
    """Return the bytes of a descriptor (which has a ``type``), or of a structure.

    Descriptors that only a 256-bit queue has, types 6 and up and waits for page requests, have 32 bytes; others 16.
    Raises MalformedEntry, which names IQE and the code in IQERCD, for what *unit* would refuse.
    """
    return CODEC.encode(inputs, unit)


def decode(data: bytes, structure: str | None = None, unit: Unit = UNIT) -> Values:
    """Return the fields of a descriptor of 16 or 32 bytes, or of a *structure*.

    Raises MalformedEntry as `encode` does; ValueError for a wrong length, or a structure there is not.
    """
    return CODEC.decode(data, structure, unit)

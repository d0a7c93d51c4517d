"""AMD-Vi's formats. Source: reference sheet sections 2.2 to 2.6, after drivers and emulators."""

from collections.abc import Mapping
from dataclasses import dataclass

from hwmodel.iommu.codec import Codec, Unsupported
from hwmodel.iommu.layout import Format, Inputs, MalformedEntry, SizedPages, Values, Violation, bits, split

COMMAND = 16
"""Bytes of a command."""
ILLEGAL_DEV_TABLE_ENTRY, IO_PAGE_FAULT, DEV_TAB_HARDWARE_ERROR, PAGE_TAB_HARDWARE_ERROR = 1, 2, 3, 4
ILLEGAL_COMMAND_ERROR, COMMAND_HARDWARE_ERROR, IOTLB_INV_TIMEOUT = 5, 6, 7
"""Codes of events."""


@dataclass(frozen=True)
class Unit:
    """What a unit has of the extended features that decide which commands are legal, by their names."""

    ia: bool = True
    ppr: bool = True
    pref: bool = True


UNIT = Unit()
"""A unit that has everything."""


def _malformed(violation: Violation) -> MalformedEntry:
    return MalformedEntry("ILLEGAL_COMMAND_ERROR", ILLEGAL_COMMAND_ERROR, str(violation))


OP = bits("op", 63, 60, default=None)
DEVICE = bits("devid", 15, 0, default=None)
PASID = bits("pasid", 51, 32)
GUEST = bits("gn", 66)

WAIT, DEVICE_ENTRY, PAGES, IOTLB_PAGES, INTERRUPT_TABLE, PREFETCH, PAGE_RESPONSE, ALL = range(1, 9)

COMMANDS: Mapping[int, Format] = {
    WAIT: Format(
        "COMPLETION_WAIT",
        COMMAND,
        (
            OP,
            bits("s", 0),
            bits("i", 1),
            bits("f", 2),
            bits("store_addr", 51, 3, shift=3),
            bits("store_data", 127, 64),
        ),
    ),
    DEVICE_ENTRY: Format("INVALIDATE_DEVTAB_ENTRY", COMMAND, (OP, DEVICE)),
    PAGES: Format(
        "INVALIDATE_IOMMU_PAGES",
        COMMAND,
        (
            OP,
            bits("pasid", 19, 0),
            bits("domid", 47, 32, default=None),
            bits("pde", 65),
            GUEST,
            SizedPages(),
        ),
    ),
    IOTLB_PAGES: Format(
        "INVALIDATE_IOTLB_PAGES",
        COMMAND,
        (
            OP,
            DEVICE,
            split("pasid", (55, 48), (23, 16), (59, 56)),
            bits("maxpend", 31, 24),
            bits("queue_id", 47, 32),
            GUEST,
            bits("type", 69, 68),
            SizedPages(),
        ),
    ),
    INTERRUPT_TABLE: Format("INVALIDATE_INTERRUPT_TABLE", COMMAND, (OP, DEVICE)),
    PREFETCH: Format(
        "PREFETCH_IOMMU_PAGES",
        COMMAND,
        (OP, DEVICE, bits("pfcount", 31, 24), PASID, GUEST, bits("inval", 68), SizedPages()),
    ),
    PAGE_RESPONSE: Format(
        "COMPLETE_PPR_REQUEST",
        COMMAND,
        (OP, DEVICE, PASID, GUEST, bits("tag", 104, 96), bits("status", 111, 108)),
    ),
    ALL: Format("INVALIDATE_IOMMU_ALL", COMMAND, (OP,)),
}
"""By opcode; 9 and 10 are for virtual IOMMUs, which this is not."""

CODE = bits("code", 63, 60, default=None)


def _event() -> Format:
    """Return the format of all events; those about commands leave most of it 0."""
    flags = (
        ("GN", 48),
        ("NX", 49),
        ("US", 50),
        ("I", 51),
        ("PR", 52),
        ("RW", 53),
        ("PE", 54),
        ("RZ", 55),
        ("TR", 56),
    )
    return Format(
        "event",
        16,
        (
            CODE,
            bits("devid", 15, 0),
            bits("pasid", 19, 16),
            bits("domid", 47, 32),
            *(bits(flag, at) for flag, at in flags),
            bits("type", 58, 57),
            bits("address", 127, 64),
        ),
    )


STRUCTURES = (
    _event(),
    Format(
        "device-table-entry",
        32,
        (
            bits("V", 0, default=1),
            bits("TV", 1, default=1),
            bits("HAD", 8, 7),
            bits("mode", 11, 9),
            bits("root", 51, 12, shift=12),
            bits("PPR", 52),
            bits("GPRP", 53),
            bits("GIOV", 54),
            bits("GV", 55),
            bits("GLX", 57, 56),
            bits("IR", 61, default=1),
            bits("IW", 62, default=1),
            bits("domid", 79, 64),
            split("GCR3", (60, 58), (95, 80), (127, 107)),
            bits("I", 96),
            bits("SE", 97),
            bits("SA", 98),
            bits("IoCtl", 100, 99),
            bits("Cache", 101),
            bits("SD", 102),
            bits("EX", 103),
            bits("SysMgt", 105, 104),
            bits("SATS", 106),
            bits("IV", 128),
            bits("IntTabLen", 132, 129),
            bits("IG", 133),
            bits("IntTabRoot", 179, 134, shift=6),
            bits("GPM", 183, 182),
            bits("InitPass", 184),
            bits("EIntPass", 185),
            bits("NMIPass", 186),
            bits("HPTMode", 187),
            bits("IntCtl", 189, 188),
            bits("Lint0", 190),
            bits("Lint1", 191),
            bits("vImuEn", 207),
            bits("GDeviceID", 223, 208),
            bits("GuestID", 239, 224),
            bits("AttrV", 246),
            bits("Mode0FC", 247),
            bits("SnoopAttr", 255, 248),
        ),
        error="ILLEGAL_DEV_TABLE_ENTRY",
        code=ILLEGAL_DEV_TABLE_ENTRY,
    ),
)
"""In memory, by their names."""


def _refuse_unsupported(values: Values, unit: Unit) -> None:
    missing = {ALL: not unit.ia, PAGE_RESPONSE: not unit.ppr, PREFETCH: not unit.pref}
    if missing.get(values["op"]):
        raise Unsupported(f"the unit has no {COMMANDS[values['op']].name}")


def _for_guest(values: Values) -> Values:
    """Return *values* with the flag that the PASID counts, if they name one and do not say."""
    return {"gn": 1, **values} if values.get("pasid") else values


CODEC = Codec(OP, COMMANDS, STRUCTURES, (COMMAND,), _malformed, _refuse_unsupported, _for_guest)


def encode(inputs: Inputs, unit: Unit = UNIT) -> bytes:
    """Return the bytes of a command (which has an ``op``), or of a structure.

    ``size`` is in bytes; a range becomes the smallest block that holds it. ``gn`` is 1 where a PASID other than 0
    is named and ``gn`` is not. Raises MalformedEntry, which names
    ILLEGAL_COMMAND_ERROR, for what *unit* would refuse.
    """
    return CODEC.encode(inputs, unit)


def decode(data: bytes, structure: str | None = None, unit: Unit = UNIT) -> Values:
    """Return the fields of a command of 16 bytes, or of a *structure*.

    Raises MalformedEntry as `encode` does; ValueError for a wrong length, or a structure there is not.
    """
    return CODEC.decode(data, structure, unit)

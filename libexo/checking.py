"""Checks of values against their declared types, before they are sent.

A trap that does not decode ends its caller, and a server returns a request that does not decode. Here the error is
raised at the line that made the mistake: what was encoded is decoded as its receiver will do it, so what
passes here passes there. That costs a tenth of a microsecond or two, less than checking the values one by one.
"""

import re
from collections.abc import Callable, Sequence

import msgspec

from kernel.abi import traps
from kernel.abi.gate import UNDECODABLE
from kernel.abi.limits import MAX_TRAP_BYTES, MAX_TRAP_DESCRIPTORS
from libexo.errors import BadArgument, TrapArgument

ENCODE = msgspec.msgpack.Encoder().encode
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""Errors of encoding: a lone surrogate, a number of more than 64 bits, a cycle, a type that msgpack lacks."""
_PLACE = re.compile(r"\$\[(\d+)\]")
_SHOWN = 60
"""Characters of a wrong value that are shown."""
_DECODE = {kind: msgspec.msgpack.Decoder(kind).decode for kind in traps.TRAPS.values()}
_CARRYING = {kind for kind in traps.TRAPS.values() if kind.takes_descriptors}


def encode_arguments(
    operation: str, names: Sequence[str], decode: Callable[[bytes], object], values: tuple[object, ...]
) -> bytes:
    """Return the *values* of the arguments of a call, encoded. Raises BadArgument: its server would refuse them.

    *decode* is the server's decoder.
    """
    data = b""
    try:
        data = ENCODE(values)
        decode(data)
    except (*UNDECODABLE, *UNENCODABLE) as error:
        raise BadArgument(f"{operation}: {_tell(error, names, values, 0, data)}") from error
    return data


def encode_trap(trap: traps.Trap, descriptors: int = 0) -> bytes:
    """Return *trap*, which carries *descriptors*, encoded. Raises TrapArgument: the kernel would end its caller."""
    kind = type(trap)
    if descriptors and (kind not in _CARRYING or descriptors > MAX_TRAP_DESCRIPTORS):
        takes = f"at most {MAX_TRAP_DESCRIPTORS}" if kind in _CARRYING else "none"
        raise TrapArgument(f"{kind.__name__}: {descriptors} descriptors, it takes {takes}")
    data = b""
    try:
        data = ENCODE(trap)
        _DECODE[kind](data)
    except (*UNDECODABLE, *UNENCODABLE) as error:
        names = trap.__struct_fields__
        told = _tell(error, names, [getattr(trap, name) for name in names], 1, data)
        raise TrapArgument(f"{kind.__name__}: {told}") from error
    if len(data) > MAX_TRAP_BYTES:
        raise TrapArgument(f"{kind.__name__}: {len(data)} bytes, a trap has at most {MAX_TRAP_BYTES}")
    return data


def _tell(error: Exception, names: Sequence[str], values: Sequence[object], offset: int, data: bytes) -> str:
    """Name the one of *values* that *error* is about; the first is at *offset* of the encoded *data*."""
    if not data:
        found = next((at for at, value in enumerate(values) if not _is_encodable(value)), -1)
        why = f"cannot be sent: {error}"
    else:
        place = _PLACE.search(str(error))
        found = int(place[1]) - offset if place is not None else -1
        why = str(error).partition(" - at `")[0]
    if not 0 <= found < len(names):
        return why
    return f"{names[found]} = {show(values[found])}: {why}"


def _is_encodable(value: object) -> bool:
    try:
        ENCODE(value)
    except UNENCODABLE:
        return False
    return True


def show(value: object) -> str:
    """Return *value* as an error shows it, whatever it is."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - any code may have been passed
        return f"a {type(value).__name__} whose repr raises {type(error).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"

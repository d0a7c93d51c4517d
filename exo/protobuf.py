"""Protocol buffers, written: https://protobuf.dev/programming-guides/encoding. Fields by number, nothing read."""

_VARINT, _FIXED64, _BYTES = 0, 1, 2


def varint(value: int) -> bytes:
    """Return *value* in groups of seven bits, the lowest first; a negative one has 64."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field: int, value: int) -> bytes:
    """Return a field of an integer, a truth or a member of an enumeration."""
    return varint(field << 3 | _VARINT) + varint(value)


def fixed(field: int, value: int) -> bytes:
    """Return a field of 64 bits."""
    return varint(field << 3 | _FIXED64) + value.to_bytes(8, "little")


def text(field: int, value: str) -> bytes:
    """Return a field of text."""
    return message(field, value.encode())


def message(field: int, *parts: bytes) -> bytes:
    """Return a field that holds a message of *parts*."""
    data = b"".join(parts)
    return varint(field << 3 | _BYTES) + varint(len(data)) + data

"""The boot records, written: the modules that the boot loader booted. Layout: `kernel.abi.bootinfo`."""

import struct
from collections.abc import Sequence

from kernel.abi.bootinfo import BOOT_HEADER, BOOT_MAGIC, BOOT_VERSION, MODULE_WORDS, BootRecord

_WORD = 8
_MODULE = struct.Struct(f"<{MODULE_WORDS}Q")


def boot_records(commands: Sequence[str]) -> bytes:
    """Return the records of modules with these command lines, in order.

    A module is a program of the host, forked into an environment: none of it is in RAM, so its start and
    its size are 0.
    """
    texts = [_padded(command) for command in commands]
    size = BOOT_HEADER.size + len(texts) * _MODULE.size + sum(map(len, texts))
    parts = [BOOT_HEADER.pack(BOOT_MAGIC, BOOT_VERSION, size, BOOT_HEADER.size, len(texts))]
    to_text = len(texts) * _MODULE.size
    for text in texts:
        parts.append(_MODULE.pack(BootRecord.MODULE, BOOT_VERSION, _MODULE.size, 0, 0, to_text))
        to_text += len(text) - _MODULE.size
    return b"".join([*parts, *texts])


def _padded(text: str) -> bytes:
    """Return *text* with a zero byte behind it, in whole words."""
    raw = text.encode(errors="replace") + b"\0"
    return raw + bytes(-len(raw) % _WORD)

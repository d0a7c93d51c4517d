"""An estate: a little state of a server that outlives it.

The kernel keeps the capabilities of a dead server for its successor, and memory with them. An estate is one
extent in which a server stores its promises; its successor finds it among its capabilities. Two slots are
written in turn, each with a sequence number and a checksum, so a kill in the middle of a write loses nothing.
"""

import struct
import zlib
from typing import TYPE_CHECKING

from kernel.abi.rights import Kind
from libexo.errors import ExoError

if TYPE_CHECKING:
    from libexo.environment import Environment

_HEAD = struct.Struct("<QII")
"""Sequence, length, CRC-32 of the sequence and the content."""


class Estate:
    """The surviving state of the calling server: one blob of bytes."""

    def __init__(self, view: memoryview, after: "Estate | None" = None) -> None:
        """Keep the state in *view*, memory of an extent of one's own; it replaces *after*."""
        self._slots = (view[: len(view) // 2], view[len(view) // 2 :])
        stored = [int(_HEAD.unpack_from(slot)[0]) for slot in self._slots if _valid(slot)]
        self.sequence: int = max(stored, default=after.sequence if after is not None else 0)
        """How often a state was stored, in replaced estates too."""

    def __bool__(self) -> bool:
        """Whether there is any state."""
        return any(_valid(slot) for slot in self._slots)

    @property
    def room(self) -> int:
        """Bytes it can hold."""
        return len(self._slots[0]) - _HEAD.size

    def load(self) -> bytes:
        """Return the last state stored; empty: none was."""
        valid = [slot for slot in self._slots if _valid(slot)]
        if not valid:
            return b""
        latest = max(valid, key=lambda slot: int(_HEAD.unpack_from(slot)[0]))
        return _content(latest)

    def store(self, state: bytes) -> None:
        """Replace the state. Raises ExoError when it does not fit."""
        if len(state) > self.room:
            raise ExoError(f"the estate holds {self.room} bytes, not {len(state)}")
        self.sequence += 1
        slot = self._slots[self.sequence % 2]
        slot[_HEAD.size : _HEAD.size + len(state)] = state
        _HEAD.pack_into(slot, 0, self.sequence, len(state), _checksum(self.sequence, state))


def inherited(environment: "Environment") -> int:
    """Return the handle of the extent a predecessor left, or 0.

    The largest, if there are several: the predecessor died while it moved to a larger one.
    """
    extents = environment.sys.holdings(Kind.EXTENT)
    return max(((each.count, handle) for handle, each in extents.items()), default=(0, 0))[1]


def _content(slot: memoryview) -> bytes:
    _, length, _ = _HEAD.unpack_from(slot)
    return bytes(slot[_HEAD.size : _HEAD.size + length])


def _valid(slot: memoryview) -> bool:
    sequence, length, crc = _HEAD.unpack_from(slot)
    fits = bool(sequence) and length <= len(slot) - _HEAD.size
    return fits and _checksum(sequence, _content(slot)) == crc


def _checksum(sequence: int, state: bytes) -> int:
    return zlib.crc32(state, sequence & 0xFFFF_FFFF)

"""A log that is read while it is written: it may be rotated, or cut, at any time."""

import os
from pathlib import Path

from exo.system import Trouble

MOST = 1 << 20
"""Bytes read at once: a program that writes faster than we read does not hold us for ever."""


class Follower:
    """Reads the additions to the file at *path*."""

    def __init__(self, path: Path) -> None:
        """Begin at the beginning of the file."""
        self.path = path
        self._number = -1
        self._at = 0

    def read(self) -> bytes:
        """Return what was written since the last time. Raises Trouble when we may not read it."""
        data = self._rest()
        if not data and self._is_begun_anew():
            self.close()
            data = self._rest()
        return data

    def close(self) -> None:
        """Close the file."""
        if self._number >= 0:
            os.close(self._number)
        self._number, self._at = -1, 0

    def _rest(self) -> bytes:
        try:
            if self._number < 0:
                self._number = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            data = os.pread(self._number, MOST, self._at)
        except PermissionError:
            raise Trouble(f"{self.path} belongs to another user: be root, or that user, to read it") from None
        except FileNotFoundError:
            return b""
        self._at += len(data)
        return data

    def _is_begun_anew(self) -> bool:
        """Whether the file we read was rotated, or cut."""
        if self._number < 0:
            return False
        ours = os.fstat(self._number)
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return False
        return not os.path.samestat(ours, now) or ours.st_size < self._at

"""Lines for the operator, written by a thread of its own: a slow reader delays nobody.

The descriptor may be a pipe that is full, a terminal that is stopped, a file on a disk without room. It is
shared with other processes, so it is not made non-blocking. Lines that do not fit into the queue, or cannot be
written, are counted, and their number is written as soon as something can be written again.
"""

import contextlib
import os
import threading
from collections import deque

from kernel.abi.logs import MAX_LOG, OLDER

QUEUE_BYTES = 64 << 10
"""Bytes that may wait to be written; a line that does not fit is lost."""
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Writer:
    """Writes lines to a descriptor, never letting the caller wait."""

    def __init__(self, descriptor: int, path: str | None = None, limit: int = MAX_LOG) -> None:
        """Write to *descriptor*.

        If that is the file *path*, the file is rotated after *limit* bytes, one older file is kept beside it, and
        standard output follows.
        """
        self._descriptor = descriptor
        self._path = path
        self._limit = limit
        self._size = os.fstat(descriptor).st_size if path is not None else 0
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._lost = 0
        """Lines that did not fit since the last one that did."""
        self._failed = 0
        """Lines that could not be written since the last one that could."""
        self._is_closed = False
        self._changed = threading.Condition()
        # A daemon: a write that never returns does not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Have *line* written; it is lost, and counted, when too much waits already."""
        data = f"{line}\n".encode(errors="backslashreplace")
        with self._changed:
            if self._waiting + len(data) > QUEUE_BYTES:
                self._lost += 1
            else:
                self._put(self._apology() + data)
                self._changed.notify()

    def close(self, timeout: float) -> None:
        """Wait until everything is written, for at most *timeout* seconds."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _put(self, data: bytes) -> None:
        self._waiting += len(data)
        self._lines.append(data)

    def _apology(self) -> bytes:
        """Return the line that says how many were lost here; empty: none was."""
        lost, self._lost = self._lost, 0
        return _lost_lines(lost, "nobody read them in time")

    def _work(self) -> None:
        while data := self._next():
            self._write(data)

    def _next(self) -> bytes:
        """Return the next bytes to write, waiting for them; empty: the end."""
        with self._changed:
            while not self._lines:
                if self._lost:
                    return self._apology()
                if self._is_closed:
                    return b""
                self._changed.wait()
            data = self._lines.popleft()
            self._waiting -= len(data)
            return data

    def _write(self, data: bytes) -> None:
        try:
            rest = _lost_lines(self._failed, "they could not be written") + data
            if self._path is not None and self._size + len(rest) > self._limit:
                self._begin_anew(self._path)
            while rest:
                written = os.write(self._descriptor, rest)
                self._size += written
                rest = rest[written:]
            self._failed = 0
        except OSError:  # no room, or no reader; told with the next line that can be written
            self._failed += data.count(b"\n")

    def _begin_anew(self, path: str) -> None:
        """Put the file aside, and let the descriptor be one of a new file."""
        with contextlib.suppress(OSError):
            os.replace(path, path + OLDER)
        number = os.open(path, FLAGS, 0o640)
        os.dup2(number, self._descriptor)
        if self._descriptor != 1:
            os.dup2(number, 1)
        os.close(number)
        self._size = 0


def _lost_lines(count: int, why: str) -> bytes:
    return f"{count} lines of this log were lost: {why}\n".encode() if count else b""

"""The logs of programs that have no streams of their own.

Such a program writes into a pipe. The nursery reads it, and appends to the log of the program's name. So a log is
bounded, and a program that writes too fast waits at the pipe. Readers of the log delay nobody.

The work is bounded, too: a turn reads each of a few pipes once, and the next turn comes a while later. So a program
that writes without end, in small pieces or large, is read as often as any other, and the nursery mostly rests.
"""

import contextlib
import fcntl
import os
import select
import shutil
import time
from dataclasses import dataclass

from kernel.abi.logs import FOLDER, KEPT, MAX_ALL_LOGS, MAX_ENDED_LOGS, MAX_LOG, MIN_LOG, OLDER, log_file

PIPE_BYTES = 16 << 10
"""Bytes a program may have written and nobody read: also one pipe's part of a turn."""
PIPES_PER_TURN = 16
TURN_EVERY = 0.004
"""Seconds from one turn to the next: a program writes 4 MB a second into its log at most, all together 64."""
MOST_READS = 64
"""Bytes of the largest pipe that a program can make of its own, 1 MiB."""
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Log:
    """The log of one name, of all programs that bear it."""

    def __init__(self, path: str) -> None:
        """Go on with the files that are there."""
        self.path = path
        self.size = _size(path)
        self.older = _size(path + OLDER)
        self.lost = 0
        """Bytes that could not be written since the last one that could."""
        self.writers = 0
        self._number = -1

    @property
    def kept(self) -> int:
        """Bytes of it that are kept."""
        return self.size + self.older

    def append(self, data: bytes, limit: int) -> None:
        """Write *data*; rotate first if the log would exceed *limit* bytes."""
        if self.size and self.size + len(data) > limit:
            self._begin_anew()
        try:
            if self._number < 0:
                self._number = os.open(self.path, FLAGS, 0o640)
            if self.lost:
                note = f"[{self.lost} bytes of this log were lost: they could not be written]\n".encode()
                self.size += os.write(self._number, note)
                self.lost = 0
            written = os.write(self._number, data)
        except OSError:  # a full disk: the loss is noted when there is room
            written = 0
        self.size += written
        self.lost += len(data) - written

    def _begin_anew(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path + OLDER)
            self.older, self.size = self.size, 0

    def close(self) -> None:
        """Close the file."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def remove(self) -> None:
        """Remove its files."""
        self.close()
        for path in (self.path, self.path + OLDER):
            with contextlib.suppress(OSError):
                os.unlink(path)


@dataclass
class Stream:
    """The output of one program to its log."""

    log: Log
    reading: int
    """Our end of the pipe, -1 once it is closed."""


class Logs:
    """All logs of a system, and the pipes they are written through."""

    def __init__(self, folder: str) -> None:
        """Keep the logs in *folder*."""
        self._folder = folder
        self._logs: dict[str, Log] = {}
        """By the names of their files. Logs without a writer are ordered by when they lost it."""
        self._total = 0
        self._streams: dict[int, Stream] = {}
        self._epoll = select.epoll()
        self._next = 0.0
        """When the next turn may be."""
        self._own = self._log("nursery.log")
        self._own.writers = 1

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to write down."""
        return self._epoll.fileno()

    def open(self, name: str) -> tuple[Stream, int]:
        """Return a stream of the log of *name*, and the end to write to. Raises OSError."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)  # each end has flags of its own
        with contextlib.suppress(OSError):  # beyond the host's bound for pipes it is smaller
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._epoll.register(reading, select.EPOLLIN)
        stream = Stream(self._log(log_file(name)), reading)
        stream.log.writers += 1
        stream.log.append(b"", MAX_LOG)  # so that the file exists, even without output
        self._streams[reading] = stream
        return stream, writing

    def turn(self) -> None:
        """Write down waiting output: of a bounded number of pipes, each in its turn."""
        for reading, _ in self._epoll.poll(0, PIPES_PER_TURN):
            stream = self._streams[reading]
            if self._take(stream) == 0:
                self._close(stream)
        self._next = time.monotonic() + TURN_EVERY

    def rest(self) -> float:
        """Return the seconds until the next turn."""
        return max(0.0, self._next - time.monotonic())

    def finish(self, stream: Stream) -> None:
        """Write down the rest of an ended program's output, and close. Twice is harmless."""
        if stream.reading >= 0:
            for _ in range(MOST_READS):  # other writers are not waited for
                if self._take(stream) <= 0:
                    break
            self._close(stream)

    def close(self) -> None:
        """Write down the rest of all."""
        for stream in list(self._streams.values()):
            self.finish(stream)
        for log in self._logs.values():
            log.close()
        self._epoll.close()

    def _log(self, file: str) -> Log:
        if file not in self._logs:
            self._logs[file] = Log(os.path.join(self._folder, file))
            self._total += self._logs[file].kept
        return self._logs[file]

    def _take(self, stream: Stream) -> int:
        """Write down a pipe's content; return its length: 0 when nobody can write to it, -1 when it is empty."""
        try:
            data = os.read(stream.reading, PIPE_BYTES)
        except BlockingIOError:
            return -1
        if data:
            self._append(stream.log, data, self._limit())
            if self._total > MAX_ALL_LOGS:
                self._trim()
        return len(data)

    def _append(self, log: Log, data: bytes, limit: int) -> None:
        self._total -= log.kept
        log.append(data, limit)
        self._total += log.kept

    def _limit(self) -> int:
        """Return the longest a log may become: with one older file each, all that are written fit together."""
        return min(MAX_LOG, max(MIN_LOG, MAX_ALL_LOGS // (2 * len(self._logs))))

    def _close(self, stream: Stream) -> None:
        self._epoll.unregister(stream.reading)
        del self._streams[stream.reading]
        os.close(stream.reading)
        stream.reading = -1
        log = stream.log
        log.writers -= 1
        if not log.writers:
            log.close()
            file = os.path.basename(log.path)
            self._logs[file] = self._logs.pop(file)  # now the one that ended last
            self._trim()

    def _trim(self) -> None:
        """Remove the logs that ended first, while there are too many, or they are too large."""
        ended = [file for file, log in self._logs.items() if not log.writers]
        while ended and (len(ended) > MAX_ENDED_LOGS or self._total > MAX_ALL_LOGS):
            file = ended.pop(0)
            log = self._logs.pop(file)
            self._total -= log.kept
            log.remove()
            note = f"{file} was removed: logs are bounded, and this one's program ended first\n"
            self._append(self._own, note.encode(), MIN_LOG)
            self._own.close()  # removals are rare: it holds no descriptor meanwhile


def keep(run: str) -> None:
    """Move the logs of the system at *run*, which has ended, beside its run directory.

    If that fails they stay, and the run directory with them, until the next system starts there.
    """
    source, kept = os.path.join(run, FOLDER), run + KEPT
    with contextlib.suppress(OSError):
        shutil.rmtree(kept, ignore_errors=True)
        os.rename(source, kept)


def _size(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except OSError:
        return 0

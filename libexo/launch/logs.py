"""The logs of programs that have no streams of their own.

Such a program writes into a pipe; the nursery reads it, and appends to the log of the program's name. So a log is
bounded, and who writes more than can be taken waits at the pipe. Whoever reads the log delays nobody.

The work is bounded, too: a turn reads each of a few pipes once, and the next comes a while later. So a program that
writes without end, in however small pieces, is read as often as any other, and most of the time the nursery rests.
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
"""What a program may have written and nobody have read: also what one pipe gets of one turn."""
PIPES_PER_TURN = 16
TURN_EVERY = 0.004
"""Seconds from one turn to the next: a program writes 4 MB a second into its log at most, all together 64."""
MOST_READS = 64
"""What the largest pipe holds that a program can make of its own, 1 MiB."""
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Log:
    """The log of one name, over all who bear it."""

    def __init__(self, path: str) -> None:
        """Go on with what is there."""
        self.path = path
        self.size = _size(path)
        self.older = _size(path + OLDER)
        self.lost = 0
        """Bytes that could not be written since the last one that could."""
        self.writers = 0
        self._number = -1

    @property
    def kept(self) -> int:
        """How much of it is kept."""
        return self.size + self.older

    def append(self, data: bytes, limit: int) -> None:
        """Write *data*; begin anew first where it would have more than *limit* bytes."""
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
        except OSError:  # a full disk: nobody waits for that, and the loss is said when there is room
            written = 0
        self.size += written
        self.lost += len(data) - written

    def _begin_anew(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path + OLDER)
            self.older, self.size = self.size, 0

    def close(self) -> None:
        """Hold the file open no longer."""
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
    """What one program writes to its log."""

    log: Log
    reading: int
    """Our end of the pipe, -1 once it is closed."""


class Logs:
    """All logs of a system, and the pipes they are written through."""

    def __init__(self, folder: str) -> None:
        """Keep the logs in *folder*."""
        self._folder = folder
        self._logs: dict[str, Log] = {}
        """By their files' names. Those that nobody writes to any more stand in the order in which that came."""
        self._total = 0
        self._streams: dict[int, Stream] = {}
        self._epoll = select.epoll()
        self._next = 0.0
        """When there may be a turn."""
        self._own = self._log("nursery.log")
        self._own.writers = 1

    def fileno(self) -> int:
        """Return what is readable when there is something to write down."""
        return self._epoll.fileno()

    def open(self, name: str) -> tuple[Stream, int]:
        """Return a stream of the log of *name*, and the end to write to. Raises OSError."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)  # each end has flags of its own
        with contextlib.suppress(OSError):  # over the host's bound for pipes it is smaller already
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._epoll.register(reading, select.EPOLLIN)
        stream = Stream(self._log(log_file(name)), reading)
        stream.log.writers += 1
        stream.log.append(b"", MAX_LOG)  # so that it is there, though nothing may ever be written
        self._streams[reading] = stream
        return stream, writing

    def turn(self) -> None:
        """Write down something of what is there: of a bounded number of pipes, each in its turn."""
        for reading, _ in self._epoll.poll(0, PIPES_PER_TURN):
            stream = self._streams[reading]
            if self._take(stream) == 0:
                self._close(stream)
        self._next = time.monotonic() + TURN_EVERY

    def rest(self) -> float:
        """Return for how many seconds there is to be no turn."""
        return max(0.0, self._next - time.monotonic())

    def finish(self, stream: Stream) -> None:
        """Its program has ended: write down what is left, and close. Twice is harmless."""
        if stream.reading >= 0:
            for _ in range(MOST_READS):  # whoever else still writes there is not waited for
                if self._take(stream) <= 0:
                    break
            self._close(stream)

    def close(self) -> None:
        """Write down what is left of all."""
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
        """Write down what is in a pipe; return how much: 0 when nobody can write to it, -1 for nothing yet."""
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
        """Return how long a log may become: with one older file each, all that are written fit together."""
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
            self._own.close()  # which is rare: it holds no descriptor meanwhile


def keep(run: str) -> None:
    """Move the logs of the system at *run*, which is over, beside its run directory.

    Where that cannot be they stay, and the run directory with them, until the next system starts there.
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

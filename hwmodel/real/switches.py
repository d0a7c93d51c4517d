"""Who came to a core and who left it: the host's record of its context switches, read when somebody asks.

*Theory of operation.* One perf event a core that has a plan. It counts nothing; the host writes each switch of the
core, and each process that begins or ends there, into a ring that we map. Nobody is woken for it: our own switches
would wake us again. So to read costs as much as there were switches, however many programs sleep.

A thread that left and was not preempted waits for something. A program's children count as itself where its signals
go to them too; they are known by where they were forked, or else by their process group, asked once. The ring
drops what it has no room for, and says so: then, and when there is more than a turn should read, nothing
is known until threads come and go again.

The host refuses it to those who may not look at other users' programs (CAP_PERFMON): then nothing is ever known.
"""

import mmap
import os
import struct
from collections.abc import Collection
from time import CLOCK_MONOTONIC, monotonic_ns
from typing import NamedTuple

from hwmodel.machine import Body
from hwmodel.presence import Presence
from hwmodel.real import libc
from hwmodel.real.body import RealBody

PAGES = 32
"""Pages of a ring: some 2,000 switches, as no core makes in 2 ms."""
MOST = PAGES * mmap.PAGESIZE // 2
"""Bytes to read at once: with more there, it is too long ago to matter."""
_IDLE = 0
"""The pid of a core's idle task. That it comes is recorded, as the leaving of another; that it leaves is not."""
_GONE = 1 << 31
"""Numbers from here on are of no process: the host writes -1 for one that was reaped before its last switch."""
MAX_KNOWN = 4096
"""Processes to remember, beside those of programs."""

# linux/perf_event.h
_SOFTWARE, _DUMMY = 1, 9
_TID, _TIME = 1 << 1, 1 << 2
_TASK, _SAMPLE_ID_ALL, _USE_CLOCK, _CONTEXT_SWITCH = 1 << 13, 1 << 18, 1 << 25, 1 << 26
_ATTRIBUTES = struct.Struct("<IIQQQQQ44xi16x")
"""Type, size, config, period, sample type, read format, flags; then nothing but the clock."""
_CLOEXEC = 8
_LOST, _EXIT, _FORK, _SWITCH = 2, 4, 7, 15
_OUT, _PREEMPTED = 1 << 13, 1 << 14
_RECORD = struct.Struct("<IHHIIIIQ")
"""Type, flags, size; of a switch the pid and tid of the other one, then of this one; of a process its pid and its
parent's, its tid and its parent's; the time."""
_HEAD_AT = 1024
"""Where the first page has the end of what is written, and behind it the end of what is read."""


def record(core: int) -> int:
    """Return a descriptor of the record of the switches of *core*. Raises OSError: the host refuses it."""
    flags = _TASK | _SAMPLE_ID_ALL | _USE_CLOCK | _CONTEXT_SWITCH
    attributes = _ATTRIBUTES.pack(
        _SOFTWARE, _ATTRIBUTES.size, _DUMMY, 0, _TID | _TIME, 0, flags, CLOCK_MONOTONIC
    )
    return libc.perf_event(attributes, core, _CLOEXEC)


class Followed(NamedTuple):
    """A body under the plan of the core."""

    body: RealBody
    presence: Presence


class Ring:
    """The memory of one record."""

    def __init__(self, core: int) -> None:
        """Map it. Raises OSError: the host refuses that."""
        number = record(core)
        try:
            self._memory = mmap.mmap(number, (PAGES + 1) * mmap.PAGESIZE)
        finally:
            os.close(number)  # the mapping keeps it
        self._ends = memoryview(self._memory)[_HEAD_AT : _HEAD_AT + 16].cast("Q")

    def take(self) -> bytes | None:
        """Return what was written since the last time; None: it is more than can be read at once."""
        written, read = self._ends
        self._ends[1] = written
        size = written - read
        if size > MOST:
            return None
        room = PAGES * mmap.PAGESIZE
        at = mmap.PAGESIZE + read % room
        piece = self._memory[at : min(at + size, mmap.PAGESIZE + room)]
        return piece + self._memory[mmap.PAGESIZE : mmap.PAGESIZE + size - len(piece)]

    def close(self) -> None:
        """Unmap it."""
        self._ends.release()
        self._memory.close()


class RealSwitches:
    """The switches of one core; see `hwmodel.machine.Switches`."""

    def __init__(self, core: int) -> None:
        """Ask the host for the record."""
        self._followed: dict[int, Followed] = {}
        """By pid."""
        self._known: dict[int, Followed | None] = {}
        """Those followed and their children by pid, and others with None."""
        self._at = 0
        """Until when it is known who had the core, in ns."""
        self._owner = 0
        """The pid of who has it."""
        self._ending: Followed | None = None
        """Whose child has it that has ended, and takes itself down still."""
        self._ring: Ring | None = None
        self.refused = ""
        """Why the host does not tell; empty: it does."""
        try:
            self._ring = Ring(core)
        except OSError as error:
            self.refused = str(error)

    def follow(self, body: Body) -> None:
        """Look at *body* from now on."""
        if self._ring is None or not isinstance(body, RealBody):
            return
        if not self._followed:
            self._ring.take()
        presence = Presence(held=body.paused)
        body.follow(presence)
        self._followed[body.pid] = Followed(body, presence)
        self._known = {pid: each for pid, each in self._known.items() if each}
        self._known[body.pid] = self._followed[body.pid]

    def leave(self, body: Body) -> None:
        """Look at *body* no more."""
        followed = self._followed.pop(body.pid, None)
        if followed is not None:
            followed.body.follow(None)
            self._known = {pid: each for pid, each in self._known.items() if each is not followed}

    def read(self) -> Collection[Body] | None:
        """Take in what was recorded; return who had the core."""
        if self._ring is None:
            return None
        now = monotonic_ns()
        data = self._ring.take()
        came: set[Body] = set()
        if data is None or not self._read(data, came):
            self._owner, self._ending, now = 0, None, monotonic_ns()
            for each in self._followed.values():
                each.presence.lose(now)
            self._known = dict(self._followed)
            return None
        self._lend(self._known.get(self._owner), now)
        return came

    def _lend(self, owner: Followed | None, until: int) -> None:
        """Note that the process that had the core, of *owner* if that is followed, had it *until* then."""
        if owner is not None and self._owner != owner.body.pid:
            owner.presence.lent += max(until - self._at, 0)
        self._at = max(until, self._at)

    def _read(self, data: bytes, came: set[Body]) -> bool:
        """Go through *data*, and add to *came* who had the core. False: something is missing in it."""
        at, known = 0, self._known
        while at < len(data):
            kind, flags, size, pid, tid, own_pid, own_tid, when = _RECORD.unpack_from(data, at)
            at += size
            if kind == _SWITCH:
                if flags & _OUT:
                    self._left(own_pid, own_tid, when, preempted=bool(flags & _PREEMPTED))
                elif pid == _IDLE:
                    self._lend(None, when)
                    pid, tid = own_pid, own_tid
                else:
                    continue  # the other half of the last one
                self._owner = pid
                follows = known[pid] if pid in known else self._learn(pid)
                if follows is not None and follows.presence.came(tid, when):
                    came.add(follows.body)
            elif kind == _FORK:
                self._forked(pid, parent=tid)
            elif kind == _EXIT and pid == own_pid and pid not in self._followed:
                left = known.pop(pid, None)
                self._ending = left if pid == self._owner else None
                self._lend(self._ending, when)
            elif kind == _LOST:
                return False
        return True

    def _left(self, pid: int, thread: int, when: int, *, preempted: bool) -> None:
        """Note that a *thread* of *pid* left the core: *preempted*, or to wait for something."""
        left = self._known[pid] if pid in self._known else self._learn(pid)
        ending, self._ending = self._ending, None
        self._lend(ending or (left if pid == self._owner else None), when)
        if left is not None and preempted:
            left.presence.came(thread, when)
        elif left is not None:
            left.presence.went(thread, when)

    def _learn(self, pid: int) -> Followed | None:
        """Find out once whose child an unknown process is."""
        found = None
        if 0 < pid < _GONE and any(each.body.group for each in self._followed.values()):
            try:
                found = self._followed.get(os.getpgid(pid))
            except OSError:  # it has ended
                found = None
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
            self._known.update(self._followed)
        self._known[pid] = found = found if found is not None and found.body.group else None
        return found

    def _forked(self, pid: int, parent: int) -> None:
        """Note that *parent* has a new child, or a new thread; a program may be followed before that is read."""
        if pid != parent and pid not in self._followed:
            followed = self._known.get(parent)
            self._known[pid] = followed if followed is not None and followed.body.group else None

    def close(self) -> None:
        """Give the record back."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None

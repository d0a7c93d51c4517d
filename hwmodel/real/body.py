"""What an environment is on the real machine: a host process, stopped and continued by signals."""

import contextlib
import os
import signal
import time
from collections.abc import Callable

from hwmodel.machine import Deed, Port, Supervisor, do
from hwmodel.real import affinity
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.loop import close_quietly
from hwmodel.real.port import RealPort

ASLEEP = b"SDI"
"""States of /proc/PID/stat in which a thread waits for something."""


class RealBody:
    """One host process; see `hwmodel.machine.Body`.

    With *group*, signals go to its process group: a foreign program may have children. They cannot leave
    the group (the system call filter refuses it), so stopping or killing it stops or kills them all. Where
    programs may lack that filter, the nursery ends at least those that outlive their parents.
    """

    def __init__(self, port: RealPort, uid: int, *, owned: bool, group: bool, paused: bool) -> None:
        self.port: Port = port
        self._port = port
        self.uid = uid
        self.pid = 0
        self.owned = owned
        self.killed = False
        self.on_discard: Callable[[], None] | None = None
        self._group = group
        self._held = paused
        self._paused = paused
        self._early: list[int] = []
        self._core = -1
        self._process: RealDescriptor | None = None
        self._state = -1
        self._consumed = 0

    def start(self, pid: int, process: RealDescriptor) -> None:
        """It is there, and stands still if it was to start so; do to it what was asked for before."""
        self.pid, self._process = pid, process
        self._clock = ~pid << 3 | 2  # CPUCLOCK_SCHED of a process and all its threads: linux/posix-timers.h
        if self._core >= 0:
            do(self.move(self._core))
        for number in self._early:
            self.signal(number)
        if self.killed:
            self.kill()
        elif self._paused != self._held:
            self.signal(signal.SIGSTOP if self._paused else signal.SIGCONT)

    def open(self, supervisor: Supervisor, ended: Callable[[], None]) -> None:
        """Listen to its gate from now on; call *ended* when its end is closed."""
        self._port.open(self, supervisor, ended)

    def pause(self) -> None:
        """Take its processor away until `resume`."""
        self._paused = True
        if self.pid:
            self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run."""
        self._paused = False
        if self.pid:
            self.signal(signal.SIGCONT)

    def move(self, core: int) -> Deed:
        """Let it run on host *core* only, from now on."""
        self._core = core
        return affinity.move(self.pid, core, group=self._group) if self._process is not None else iter(())

    def signal(self, number: int) -> None:
        """Send host signal *number*; one that has ended, or that we may not signal, does not get it."""
        if self._process is None:
            if not self.pid:
                self._early.append(number)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._group:
                # The group keeps its number until the nursery reaps its leader, which is after `discard`.
                os.killpg(self.pid, number)
            else:
                signal.pidfd_send_signal(self._process.number, number)

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.killed = True
        if self.pid:
            self.signal(signal.SIGKILL)

    def consumed(self) -> int:
        """Return the CPU time it used, in nanoseconds, by the host's own account.

        Of a foreign program's children nothing is counted: the host's clocks are one process's each.
        """
        if self._process is not None:
            # Collected: then what it had used when last asked is all that can be said.
            with contextlib.suppress(OSError):
                self._consumed = time.clock_gettime_ns(self._clock)
        return self._consumed

    def asleep(self) -> bool:
        """Whether its main thread waits for something, rather than runs or wants to.

        While it is paused, nobody can tell: False.
        """
        if self._process is None:
            return False
        try:
            if self._state < 0:
                self._state = os.open(f"/proc/{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            line = os.pread(self._state, 64 + 16, 0)
        except OSError:
            return False
        # The name in front may hold anything, a closing bracket too.
        return line[line.rfind(b")") + 2] in ASLEEP

    def discard(self) -> None:
        """Forget it: its port is closed, its process id and uid may be used again. Twice is harmless."""
        on_discard, self.on_discard = self.on_discard, None
        if on_discard is not None:
            on_discard()
        self.port.close()
        self.consumed()
        if self._process is not None:
            self._process.close()
            self._process = None
        if self._state >= 0:
            close_quietly(self._state)
            self._state = -1

"""An environment on the real machine: a host process, stopped and continued by signals."""

import contextlib
import os
import signal
import time
from collections.abc import Callable

from hwmodel.machine import AddressSpace, Deed, Port, Supervisor, do
from hwmodel.presence import Presence
from hwmodel.real import affinity
from hwmodel.real.activity import WAITING, Children, cpu_time, is_traced, of_threads, read_state
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.paging import RealSpace
from hwmodel.real.port import RealPort
from kernel.abi.program import Activity

_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""Stops a program may handle. While it is paused they wait, as the continue of `resume` would undo them."""


class RealBody:
    """One host process; see `hwmodel.machine.Body`.

    With *group*, signals go to its process group: a foreign program may have children. They cannot leave
    the group (the system call filter refuses it), so stopping or killing it stops or kills them all. Where
    programs may lack that filter, the nursery ends at least those that outlive their parents.
    """

    def __init__(
        self, port: RealPort, uid: int, *, owned: bool, group: bool, paused: bool, core: int = -1
    ) -> None:
        self.port: Port = port
        self._port = port
        self.uid = uid
        self.pid = 0
        self.owned = owned
        self.space: AddressSpace | None = None
        self._faults: RealSpace | None = None
        self.paged = False
        """It asked for that: what its faults come by is to come with its start."""
        self.killed = False
        self.on_discard: Callable[[], None] | None = None
        self.group = group
        self._held = paused
        self.paused = paused
        self.presence: Presence | None = None
        """Whether it wants its core, while the switches of that are followed: see `follow`."""
        self._stopped = False
        """An operator stopped it: it does not run until the operator continues it."""
        self._late: list[int] = []
        """Stops that wait until it runs."""
        self._children: Children | None = None
        self._early: list[int] = []
        self.core = self._begins = core
        """The host core a plan keeps it on; -1: none does."""
        self._process: RealDescriptor | None = None
        self._consumed = self._before = 0

    def page(self, space: RealSpace) -> None:
        """Let its memory be paged by *space*."""
        self.space = self._faults = space

    def start(self, pid: int, process: RealDescriptor) -> None:
        """Note that it is there, not running if it was to start so; do what was asked for before."""
        self.pid, self._process = pid, process
        self._children = Children(pid) if self.group else None
        if self.core != self._begins:
            do(self.move(self.core))
        for number in self._early:
            self._send(number)
        if self.killed:
            self.kill()
        elif self._stopped or self.paused:
            self._send(signal.SIGSTOP)
        elif self._held:
            self._send(signal.SIGCONT)

    def open(self, supervisor: Supervisor, ended: Callable[[], None]) -> None:
        """Listen to its gate, and for its faults, from now on; call *ended* when the gate's end is closed."""
        if self._faults is not None:
            self._faults.open(self, lambda fault: supervisor.faulted(self, fault))
        self._port.open(self, supervisor, ended)

    def follow(self, presence: Presence | None) -> None:
        """Let *presence* say whether it wants its core, and what its children use; None: nobody does."""
        used = self._by_children()
        self.presence = presence
        self._before += used - self._by_children()

    def _by_children(self) -> int:
        """Return the CPU time of a foreign program's children, in ns: by the record of switches, or by looking."""
        if self._children is None:
            return 0
        return self._before + (self.presence.lent if self.presence is not None else self._children.consumed())

    def pause(self) -> None:
        """Take its processor away until `resume`."""
        self.paused = True
        if self.pid:
            self._send(signal.SIGSTOP)
        if self.presence is not None:
            self.presence.hold(time.monotonic_ns())
        elif self._children is not None:
            self._children.refresh()

    def resume(self) -> None:
        """Let it run, unless an operator stopped it."""
        self.paused = False
        if self.presence is not None:
            self.presence.free(time.monotonic_ns())
        if self.pid and not self._stopped:
            self._send(signal.SIGCONT)
            late, self._late = self._late, []
            for number in late:
                self._send(number)

    def move(self, core: int) -> Deed:
        """Let it run on host *core* only, from now on."""
        self.core = core
        return affinity.move(self.pid, core, group=self.group) if self._process is not None else iter(())

    def signal(self, number: int) -> None:
        """Send host signal *number*; stops and continues of a paused body take effect when it is resumed."""
        if number == signal.SIGSTOP:
            self._stopped = True
        elif number == signal.SIGCONT:
            self._stopped = False
            self._late.clear()
        elif number in _STOPS and self.paused:
            self._late.append(number)
            return
        if not self.pid:
            self._early += [] if number in (signal.SIGSTOP, signal.SIGCONT) else [number]
        elif number != signal.SIGCONT or not self.paused:
            self._send(number)

    def _send(self, number: int) -> None:
        """Send host signal *number*; a body that has ended, or that we may not signal, does not get it."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.group:
                # The group keeps its number until the nursery reaps its leader, which is after `discard`.
                os.killpg(self.pid, number)
            else:
                signal.pidfd_send_signal(self._process.number, number)

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.killed = True
        if self.pid:
            self._send(signal.SIGKILL)

    def consumed(self) -> int:
        """Return the CPU time it used, in nanoseconds, by the host's own account.

        That of a foreign program's children is exact by the record of switches; otherwise see `Children`.
        """
        if self._process is not None:
            self._consumed = max(self._consumed, cpu_time(self.pid))  # collected: its last reading remains
        return self._consumed + self._by_children()

    def activity(self) -> Activity:
        """Its activity while nobody pauses it: that of all its threads, and of a foreign program's children."""
        if self._process is None or self.paused:
            return Activity.STOPPED if self._stopped else Activity.RUNS
        state = read_state(f"/proc/{self.pid}/stat")
        if state in b"Tt":
            return Activity.STOPPED if state == b"T" else Activity.TRACED
        if state not in WAITING:
            return Activity.RUNS
        found = of_threads(self.pid)
        if found is Activity.WAITS and self._children is not None and self._children.run():
            return Activity.RUNS
        return found

    def traced(self) -> bool:
        """Whether a debugger has it, running or not."""
        return self._process is not None and is_traced(self.pid)

    def discard(self) -> None:
        """Forget it: its port is closed, its process id and uid may be used again. Twice is harmless."""
        on_discard, self.on_discard = self.on_discard, None
        if on_discard is not None:
            on_discard()
        self.port.close()
        if self._faults is not None:
            self._faults.close()
        self.consumed()
        if self._process is not None:
            self._process.close()
            self._process = None

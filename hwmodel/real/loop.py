"""The loop of the real machine: descriptors by epoll, alarms by one timer descriptor, the host's signals.

It is in the path of every trap, so a turn with nothing but packets costs few system calls besides the packets'
own: due alarms announce themselves as one more readable descriptor.

A turn hands out events until it is late; the rest, and what `soon` put off, is for the next. The CPU time of a turn
is how long others had to wait for it, so it is kept where everybody can read it (`kernel.abi.kip`).
"""

import contextlib
import heapq
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType

from hwmodel.real.errors import lending
from hwmodel.real.libc import Timer
from kernel.abi.kip import TURN_BUCKETS, Head

Watcher = Callable[[int], None]
"""Called with the epoll events of its descriptor."""

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EVENTS_PER_TURN = 64
LATE = 500_000
"""Nanoseconds after which a turn begins nothing more."""
LONGEST, WALL, TRAP, WALLS, TURNS = (
    word - Head.TURN_TRAP
    for word in (
        Head.LONGEST_TURN,
        Head.LONGEST_TURN_WALL,
        Head.LONGEST_TURN_TRAP,
        Head.LONGEST_WALL,
        Head.TURNS,
    )
)
"""Words of the memory given to `measure`."""
IDLE_ALARMS = 256
"""Cancelled alarms that may stay in the heap, beyond as many as there are others."""
GONE = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR
"""The other end has closed, or will send nothing more."""


class LoopAlarm:
    """A call at a given time; see `hwmodel.machine.Alarm`."""

    __slots__ = ("_loop", "callback")

    def __init__(self, loop: "Loop", callback: Callable[[], None]) -> None:
        self._loop = loop
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Cancel the call."""
        if self.callback is not None:
            self.callback = None
            self._loop.forget_alarm()


class Loop:
    """The one wait of the machine, and its clock."""

    def __init__(self) -> None:
        self.now = time.monotonic_ns
        self.closer: Callable[[int], None] = close_quietly
        """Closes a descriptor that another process made, which may take long."""
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._alarms: list[tuple[int, int, LoopAlarm]] = []
        self._cancelled = 0
        """The number of cancelled alarms among them."""
        self._soon: deque[Callable[[], None]] = deque()
        self._left: list[tuple[int, int]] = []
        """Events that the last turn was too late for."""
        self._began = self._used = 0
        self._turns = memoryview(bytearray(8 * (TURNS + TURN_BUCKETS))).cast("Q")
        self._order = 0
        self._timer = Timer()
        self._timer_at = 0
        self._stopping = False
        self.watch(self._timer.descriptor, self._ring)

    def alarm(self, at: int, callback: Callable[[], None]) -> LoopAlarm:
        """Call *callback* once at the time *at* or later; alarms of one time go off in order."""
        alarm = LoopAlarm(self, callback)
        # A counter decides between equal times: first set, first called.
        self._order += 1
        heapq.heappush(self._alarms, (at, self._order, alarm))
        if not self._timer_at or at < self._timer_at:
            self._set_timer(at)
        return alarm

    def forget_alarm(self) -> None:
        """Count a cancelled alarm; it leaves the heap when its time comes, or when there are too many."""
        self._cancelled += 1
        if self._cancelled > IDLE_ALARMS + len(self._alarms) // 2:
            self._alarms = [entry for entry in self._alarms if entry[2].callback is not None]
            heapq.heapify(self._alarms)
            self._cancelled = 0

    def soon(self, callback: Callable[[], None]) -> None:
        """Call *callback* in a later turn: one such call a turn, in order."""
        self._soon.append(callback)

    def late(self) -> bool:
        """Say whether this turn should begin nothing more."""
        return self.now() - self._began > LATE

    def measure(self, words: memoryview) -> None:
        """Keep in *words* how long the turns take; see `kernel.abi.kip.Head.TURN_TRAP`."""
        self._turns = words

    @lending
    def watch(self, descriptor: int, watcher: Watcher, events: int = select.EPOLLIN) -> None:
        """Call *watcher* in every turn in which *descriptor* has one of *events*, or its peer is gone.

        Raises Exhausted.
        """
        self._epoll.register(descriptor, events)
        self._watchers[descriptor] = watcher

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching *descriptor*; comes before closing it. Harmless when it is not watched."""
        if self._watchers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)
            if self._left:
                self._left = [event for event in self._left if event[0] != descriptor]

    def run(self, interrupted: Callable[[], None]) -> None:
        """Run until `stop`; call *interrupted* when the host asks us to end.

        What a watcher raises leaves the loop: it is our bug, and stops the system.
        """
        self._stopping = False
        with self._signals(interrupted):
            turn, poll, soon = self._turn, self._epoll.poll, self._soon
            self._used = time.thread_time_ns()
            while not self._stopping:
                turn(self._left or poll(0 if soon else -1, EVENTS_PER_TURN))

    def _turn(self, events: list[tuple[int, int]]) -> None:
        """Hand out *events* until it is late, then do one thing that was put off; keep how long it took."""
        now, watchers = self.now, self._watchers
        began = self._began = now()
        self._left, left = [], len(events)
        for descriptor, what in events:
            # An earlier watcher of this turn may have ended this one. If its descriptor's number
            # is already another's, that one is called without reason, and finds nothing.
            if (watcher := watchers.get(descriptor)) is not None:
                watcher(what)
            left -= 1
            if left and now() - began > LATE:
                self._left = [event for event in events[-left:] if event[0] in watchers]
                break
        if self._soon and not self.late():
            self._soon.popleft()()
        # One reading serves two turns: what the host used for waiting between them counts, too.
        before, self._used = self._used, time.thread_time_ns()
        used, lasted, turns = self._used - before, now() - began, self._turns
        turns[TURNS + min((used // 1000).bit_length(), TURN_BUCKETS - 1)] += 1
        if used > turns[LONGEST]:
            turns[LONGEST], turns[WALL], turns[TRAP] = used, lasted, turns[0]
        turns[WALLS] = max(turns[WALLS], lasted)

    def stop(self) -> None:
        """Make `run` return after this turn."""
        self._stopping = True

    def close(self) -> None:
        """Close what is ours."""
        self._alarms.clear()
        self._soon.clear()
        self._turns = memoryview(bytearray(self._turns.nbytes)).cast("Q")
        self._watchers.clear()
        self._timer.close()
        self._epoll.close()

    def _ring(self, _events: int) -> None:
        """Make the calls that are due. Those they set for now wait for the next turn."""
        due, last = self.now(), self._order
        while (alarms := self._alarms) and alarms[0][0] <= due and alarms[0][1] <= last and not self.late():
            _, _, alarm = heapq.heappop(alarms)
            callback, alarm.callback = alarm.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                callback()
        while alarms and alarms[0][2].callback is None and not self.late():
            heapq.heappop(alarms)
            self._cancelled -= 1
        self._set_timer(alarms[0][0] if alarms else 0)

    def _set_timer(self, at: int) -> None:
        """Have the timer ring at *at*; 0: not at all. Time zero itself is long past."""
        self._timer_at = at
        self._timer.set(at)

    @contextlib.contextmanager
    def _signals(self, interrupted: Callable[[], None]) -> Iterator[None]:
        """Take the signals that ask us to end in the loop, between two calls and never inside one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        receiving, sending = socket.socketpair()
        with receiving, sending:
            receiving.setblocking(False)
            sending.setblocking(False)

            def taken(_events: int) -> None:
                with contextlib.suppress(BlockingIOError):
                    if any(number in ENDING_SIGNALS for number in receiving.recv(64)):
                        interrupted()

            self.watch(receiving.fileno(), taken)
            wakeup = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
            handlers = {number: signal.signal(number, _note) for number in ENDING_SIGNALS}
            try:
                yield
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, signal.SIG_DFL if handler is None else handler)
                signal.set_wakeup_fd(wakeup)
                self.unwatch(receiving.fileno())


def _note(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor tells of the signal."""


def close_quietly(descriptor: int) -> None:
    """Close *descriptor* and ignore the host's errors."""
    with contextlib.suppress(OSError):
        os.close(descriptor)

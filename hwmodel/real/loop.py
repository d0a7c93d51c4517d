"""The loop of the real machine: descriptors by epoll, alarms by one timer descriptor, the host's signals.

It is in the path of every trap, so a turn with nothing but packets costs one system call beside the
packets' own: due alarms announce themselves as one more readable descriptor.
"""

import contextlib
import heapq
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from hwmodel.real.libc import Timer

Watcher = Callable[[int], None]
"""Called with the epoll events of its descriptor."""

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EVENTS_PER_TURN = 64
GONE = select.EPOLLHUP | select.EPOLLRDHUP | select.EPOLLERR
"""The other end has closed, or will send nothing more."""


class LoopAlarm:
    """A call that will happen; see `hwmodel.machine.Alarm`."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Make it not happen; its place in the heap is given up when its time comes."""
        self.callback = None


class Loop:
    """Waits for everything the machine waits for, and is its clock."""

    def __init__(self) -> None:
        self.now = time.monotonic_ns
        self._epoll = select.epoll()
        self._watchers: dict[int, Watcher] = {}
        self._alarms: list[tuple[int, int, LoopAlarm]] = []
        self._order = 0
        self._timer = Timer()
        self._timer_at = 0
        self._stopping = False
        self.watch(self._timer.descriptor, self._ring)

    def alarm(self, at: int, callback: Callable[[], None]) -> LoopAlarm:
        """Call *callback* once when the time is *at* or later; alarms of one time go off in order."""
        alarm = LoopAlarm(callback)
        # A counter and not the alarm decides between equal times: first set, first called.
        self._order += 1
        heapq.heappush(self._alarms, (at, self._order, alarm))
        if not self._timer_at or at < self._timer_at:
            self._set_timer(at)
        return alarm

    def watch(self, descriptor: int, watcher: Watcher, events: int = select.EPOLLIN) -> None:
        """Call *watcher* in every turn in which *descriptor* has one of *events*, or its peer is gone."""
        self._watchers[descriptor] = watcher
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Wait for *descriptor* no more; comes before closing it. Harmless when it is not watched."""
        if self._watchers.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def run(self, interrupted: Callable[[], None]) -> None:
        """Run until `stop`; call *interrupted* when the host asks us to end.

        What a watcher raises leaves the loop: it is a bug of ours, and stops the system.
        """
        self._stopping = False
        with self._signals(interrupted):
            poll, watchers = self._epoll.poll, self._watchers
            while not self._stopping:
                for descriptor, events in poll(-1, EVENTS_PER_TURN):
                    # An earlier watcher of this turn may have ended this one. If its descriptor's number
                    # is already another's, that one is called for nothing, and finds nothing.
                    if (watcher := watchers.get(descriptor)) is not None:
                        watcher(events)

    def stop(self) -> None:
        """Make `run` return after this turn."""
        self._stopping = True

    def close(self) -> None:
        """Close what is ours."""
        self._alarms.clear()
        self._watchers.clear()
        self._timer.close()
        self._epoll.close()

    def _ring(self, _events: int) -> None:
        """Make the calls that are due. Those which they set for now wait for the next turn."""
        due, alarms = self.now(), self._alarms
        last = self._order
        while alarms and alarms[0][0] <= due and alarms[0][1] <= last:
            _, _, alarm = heapq.heappop(alarms)
            callback, alarm.callback = alarm.callback, None
            if callback is not None:
                callback()
        while alarms and alarms[0][2].callback is None:
            heapq.heappop(alarms)
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
    """Do nothing: that the signal came is in the wake-up descriptor."""


def close_quietly(descriptor: int) -> None:
    """Close *descriptor*, whatever the host has to say about it."""
    with contextlib.suppress(OSError):
        os.close(descriptor)

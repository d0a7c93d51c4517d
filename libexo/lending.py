"""Threads of the host that use an environment: each gets an IPC thread of its own.

An environment's first thread belongs to the thread of the host that attached, or that serves or runs the event
loop: its *owner*. Any other thread of the host (of an executor, of `asyncio.to_thread`, of `threading`) that calls
loop: its *owner*. Any other thread of the host (of an executor, of `asyncio.to_thread`, of `threading`) that calls
a stub is lent an IPC thread, at its first use, and gives it back when it ends. The process server makes one when
none is free, so there are as many as host threads ever used the environment at one time.
The process server is asked before the caller has an IPC thread. It is asked in the name of the first one, over a
separate binding, so that the owner, which may be waiting for ever, is not disturbed.
"""

import threading
from collections import deque

from kernel.abi.gate import Upcall
from libexo.attachment import Attachment
from libexo.errors import ExoError, NoThread
from libexo.ipc import Thread

PATIENCE = 5.0
"""How long the process server may take to make a thread, in seconds."""
_LOOK_AGAIN = 1_000_000


class Lender(Attachment):
    """An attachment whose threads can be lent: `libexo.environment` is one."""

    thread: Thread

    def share(self) -> None:
        """Prepare for several threads of the host."""
        raise NotImplementedError

    def add_thread(self, thread: int) -> Thread:
        """Add *thread*, which the kernel activated here."""
        raise NotImplementedError

    def thread_changed(self, upcall: Upcall) -> None:
        """Note that a thread of this environment was activated, changed or deleted."""
        raise NotImplementedError


class Lending:
    """The lent IPC threads of one environment."""

    def __init__(self, environment: Lender) -> None:
        """Lend none so far."""
        self.asker: Thread | None = None
        """The thread that asks the process server just now, in the name of the first one."""
        self._environment = environment
        self._free: deque[Thread] = deque()
        self._lock = threading.Lock()
        self._is_making = False
        self._activated: dict[int, Upcall] = {}
        """Upcalls of threads that were activated while one was made."""
        self._here = _Here()

    def thread(self) -> Thread:
        """Return the IPC thread of the calling thread of the host. Raises NoThread when it cannot have one."""
        lease = self._here.lease
        if lease is not None:
            return lease.thread
        if self.asker is not None and self._here.asks:
            return self.asker
        with self._lock:
            thread = self._take() or self._make()
        self._here.lease = Lease(self._free, thread)
        return thread

    def takes(self, upcall: Upcall) -> bool:
        """Say whether *upcall*, that a thread was activated, may be about the one that is being made."""
        before, now = upcall.words[:2]
        if self._is_making and not before and now != self._environment.thread.id:
            self._activated[now] = upcall
            return True
        return False

    def _take(self) -> Thread | None:
        """Return a thread that was given back, cleared of its last borrower's state."""
        while self._free:
            thread = self._free.popleft()
            if not thread.core.ended:
                thread.callers.clear()
                thread.core.close_inbox()
                return thread
        return None

    def _make(self) -> Thread:
        environment = self._environment
        self._is_making = self._here.asks = True
        try:
            environment.share()
            self.asker = asker = Thread(environment, environment.thread.id)
            asker.core.share(environment.host.waker())
            try:
                number, utcb = self._ask(asker)
            finally:
                self.asker = None
                for link in asker.core.links.all():
                    asker.core.links.unlink(link)
                asker.close()
        except ExoError as error:
            why = "this thread of the host needs an IPC thread of its own, and the process server made none"
            raise NoThread(f"{why}: {error}") from error
        finally:
            self._is_making = self._here.asks = False
            others, self._activated = self._activated, {}
        thread = environment.add_thread(number)
        thread.local, thread.is_lent = utcb, True
        for upcall in [upcall for made, upcall in others.items() if made != number]:
            environment.thread_changed(upcall)
        return thread

    def _ask(self, asker: Thread) -> tuple[int, int]:
        """Have a thread made; return its id, and the address of its UTCB."""
        host = self._environment.host
        number = self._environment.services.create_thread(PATIENCE)
        end = host.now() + int(PATIENCE * 1e9)
        while number not in self._activated and host.now() < end:
            asker.core.pump_gate(surely=True)  # another strand may have the upcall in hand just now
            if number not in self._activated:
                host.wait(asker.core.outside, host.now() + _LOOK_AGAIN)
        if number not in self._activated:
            raise ExoError("the kernel did not report the new thread")
        return number, self._activated[number].words[4]


class Lease:
    """An IPC thread in use by a thread of the host; it goes back when that has ended."""

    def __init__(self, free: "deque[Thread]", thread: Thread) -> None:
        """Lend *thread*, to be given back to those *free*."""
        self.thread = thread
        self._free = free

    def __del__(self) -> None:
        """Give it back: nothing here waits, or takes a lock."""
        self._free.append(self.thread)


class _Here(threading.local):
    """The calling host thread's state."""

    lease: Lease | None = None
    asks = False
    """It is asking the process server for an IPC thread."""

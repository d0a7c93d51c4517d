"""The environment of the calling program: its gate, its threads, its upcalls."""

import threading
from collections.abc import Callable, Sequence

import msgspec

from kernel.abi.gate import Upcall
from kernel.abi.messages import Label
from libexo import forking, timeouts
from libexo.errors import NotFound
from libexo.host.base import Host
from libexo.ipc import Thread
from libexo.ipc.rendezvous import Rendezvous
from libexo.lending import Lender, Lending

_LOOK_AGAIN = 5_000_000
"""Nanoseconds until a name that is not there yet is looked up again."""

UpcallHandler = Callable[[Upcall], object]
_UPCALL = msgspec.msgpack.Decoder(Upcall)
_FALLS = (Label.PARTNER_GONE, Label.UNBOUND)
"""Upcalls about bindings that fell."""


class Environment(Lender):
    """One environment: everything a program can reach from inside."""

    def __init__(self, host: Host) -> None:
        """Stand on *host*. Raises TrapRefused, GateClosed."""
        super().__init__(host)
        self.on_upcalls = self.distribute
        self._handlers: dict[int, UpcallHandler] = {
            Label.MOVED: lambda upcall: self.views.moved(*upcall.words),
            Label.REVOKED: lambda upcall: self.views.forget(upcall.words[0]),
            Label.REVOKE: self._asked_back,
            Label.THREAD: self.thread_changed,
        }
        self.thread = Thread(self, self.first)
        """The first of its threads."""
        self.threads: dict[int, Thread] = {self.first: self.thread}
        """All threads, by id."""
        self.on_pressure: Callable[[int, float], object] | None = None
        """See `libexo.pressure`."""
        self.lock = threading.Lock()
        """Held while several of them change something, never while waiting."""
        self._owner = threading.get_ident()
        """The host's thread that the first thread belongs to."""
        self.lending = Lending(self)
        if host.lends:
            forking.watch(self)

    def lookup(self, name: str, timeout: float | None = 0, but: int = 0) -> int:
        """Return the id of the thread published under *name*, waiting up to *timeout* seconds. Raises NotFound.

        Thread *but* does not count: it is about to end, and another will have the name.
        """
        deadline = timeouts.after(self.host.now(), timeout)
        while (thread := self.kip.lookup(name)) in (0, but):
            now = self.host.now()
            if deadline is not None and now >= deadline:
                raise NotFound(
                    f"no thread is called {name!r}; there are: {', '.join(sorted(self.kip.names()))}"
                )
            look = now + _LOOK_AGAIN
            self.host.wait((self.gate,), look if deadline is None else min(deadline, look))
            self.current.core.pump_gate()
        return thread

    def on(self, label: int, handler: UpcallHandler) -> None:
        """Call *handler* for upcalls of *label*, in the middle of any IPC, instead of queueing them."""
        self._handlers[label] = handler

    def _asked_back(self, upcall: Upcall) -> None:
        """Give back what heaps only keep ready; what the program uses is its own to give."""
        handle, microseconds, frames = upcall.words
        if not frames:
            for heap in list(self.heaps):
                heap.asked_back(handle)
        elif (wanted := frames - self._trim()) > 0 and self.on_pressure is not None:
            self.on_pressure(wanted, microseconds / 1_000_000)
            self._trim()

    def _trim(self) -> int:
        return sum(heap.trim() for heap in list(self.heaps))

    def distribute(self, upcalls: Sequence[bytes], core: Rendezvous) -> None:
        """Take in *upcalls* that have arrived, in the thread of *core*, and pass on those for others."""
        for data in upcalls:
            upcall = _UPCALL.decode(memoryview(data)[1:])
            handler = self._handlers.get(upcall.label)
            if handler is not None:
                handler(upcall)
                continue
            thread = self.threads.get(upcall.thread, self.thread)
            asker = self.lending.asker
            if asker is not None and thread is self.thread and upcall.label in _FALLS:
                _pass_on(upcall, asker, core)
            _pass_on(upcall, thread, core)

    @property
    def current(self) -> Thread:
        """The calling thread; another thread of the host is lent one (`libexo.lending`). Raises NoThread."""
        first = self.thread
        if first.core.waker is None and (threading.get_ident() == self._owner or not self.host.lends):
            return first  # the lookup costs more than this test
        here = _HERE.thread
        if here is not None and here.environment is self:
            return here
        if threading.get_ident() == self._owner or not self.host.lends:
            return first
        return self.lending.thread()

    def own(self) -> None:
        """Make the calling host thread the first thread's owner: it serves, or runs an event loop."""
        self._owner = threading.get_ident()
        if self.host.lends and threading.active_count() > 1:
            self.share()

    def share(self) -> None:
        """Prepare for several threads of the host."""
        with self.lock:
            self.host.share()
            for known in (self.thread, *self.threads.values()):
                if known.core.waker is None:
                    known.core.share(self.host.waker())

    def forked(self) -> None:
        """Refuse from now on, in a process that was forked from the one of this environment."""
        why = (
            f"this process was forked from one that is environment {self.number}: call libexo.attach() again, "
            "or start it with exo run"
        )
        Process.environment = None
        be(None)
        for thread in {self.thread, *self.threads.values()}:
            for link in thread.core.links.all():
                link.fallen = True
            forking.refuse(thread.core, why)
        for heap in list(self.heaps):  # its memory is shared with the parent; its list of free blocks is not
            forking.refuse(heap, why)
        self.host.forked(why)
        forking.refuse(self, why)

    def start_thread(self, function: Callable[[int], object], sp: int = 0) -> int:
        """Have *function* run as another thread of this environment, with word *sp*; return its thread id.

        The process server creates the thread. Raises RemoteError when it cannot, NotFound when there is none.
        """
        return self.services.start_thread(self.current, function, sp)

    def add_thread(self, thread: int) -> Thread:
        """Add *thread*, which the kernel activated here: from now on several threads share the gate."""
        self.share()
        added = self.threads[thread] = Thread(self, thread)
        added.core.share(self.host.waker())
        return added

    def thread_changed(self, upcall: Upcall) -> None:
        """Note that a thread of this environment was activated, changed or deleted: see `messages.Label.THREAD`."""
        if not self.lending.takes(upcall):
            self.services.thread_changed(upcall)

    def close(self) -> None:
        """Leave the system: close the threads, the gate and the event ring, if nobody mapped that."""
        for thread in {self.thread, *self.threads.values()}:
            thread.close()
        self.close_trace()
        self.host.leave()


def home(thread: Thread) -> Environment:
    """Return the environment of *thread*: its attachment, as the layers above IPC know it."""
    environment = thread.environment
    assert isinstance(environment, Environment)
    return environment


def _pass_on(upcall: Upcall, thread: Thread, core: Rendezvous) -> None:
    """Give *upcall* to *thread*, whose core may be the calling one's."""
    if thread.core is core:
        core.upcall(upcall)
    else:
        thread.core.upcalls.append(upcall)
        thread.wake()


class _Here(threading.local):
    """The running thread, if it is not its environment's first."""

    thread: Thread | None = None


_HERE = _Here()


def here() -> Thread:
    """Return the calling thread, attaching its program if need be."""
    return _HERE.thread or attached().current


def be(thread: Thread | None) -> None:
    """Make *thread* the calling one."""
    _HERE.thread = thread


class Process:
    """The one environment of a real process."""

    environment: Environment | None = None
    attach: Callable[[], Environment]
    """`libexo.attach`, which stands above all that call it from here."""


def attached() -> Environment:
    """Return the calling program's environment, attaching it if need be."""
    return Process.attach()

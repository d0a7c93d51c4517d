"""The environment of the calling program: its gate, its thread, and what the kernel shows to all."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

import msgspec

from kernel.abi.gate import Upcall
from kernel.abi.kip import PAGE_SIZE
from kernel.abi.messages import Label
from libexo import forking, timeouts
from libexo.errors import ExoError, NotFound
from libexo.host import current
from libexo.host.base import Host
from libexo.ipc import Thread
from libexo.kip import Kip
from libexo.lending import Lending
from libexo.rendezvous import Rendezvous
from libexo.standing import Row
from libexo.sys import Sys
from libexo.vm import Views

if TYPE_CHECKING:
    from libexo.heap import Heap

_LOOK_AGAIN = 5_000_000
"""How often a name that is not there yet is looked up again, in ns."""

UpcallHandler = Callable[[Upcall], object]
_UPCALL = msgspec.msgpack.Decoder(Upcall)
_FALLS = (Label.PARTNER_GONE, Label.UNBOUND)
"""What the kernel tells of bindings that fell."""


class Environment:
    """One environment: everything a program can reach from inside."""

    def __init__(self, host: Host) -> None:
        """Stand on *host*: ask the kernel who we are, and map what it shows. Raises TrapRefused, GateClosed."""
        self.host = host
        self.gate = host.gate
        self.sys = Sys(host.gate, host.close_descriptor)
        interface, (kip, page, trace) = self.sys.kernel_interface()
        self.number = interface.environment
        self.areas = interface.utcb_area, interface.kip_area
        """Where X.2 has UTCBs and kernel interface page: nothing can be mapped there."""
        self.kip = Kip(host.map(kip, interface.kip_size, writable=False))
        self.page = host.map(page, PAGE_SIZE, writable=True).cast("Q")
        """The environment page, as words: see `kernel.abi.kip.Page`."""
        self._trace = (trace, interface.trace_size)
        self.views = Views(self)
        self._handlers: dict[int, UpcallHandler] = {
            Label.MOVED: lambda upcall: self.views.moved(upcall.words[0]),
            Label.REVOKED: lambda upcall: self.views.forget(upcall.words[0]),
            Label.REVOKE: lambda upcall: None,
            Label.THREAD: self.thread_changed,
        }
        self.thread = Thread(self, interface.thread)
        """The first of its threads."""
        self.threads: dict[int, Thread] = {interface.thread: self.thread}
        """All of them, by id."""
        self.lock = threading.Lock()
        """Held for what several of them change, never while waiting."""
        self._owner = threading.get_ident()
        """The thread of the host that the first thread is of."""
        self.lending = Lending(self)
        self.heaps: WeakSet[Heap] = WeakSet()
        if host.lends:
            forking.watch(self)

    def row(self, thread: int) -> Row:
        """Return where *thread*, one of its own, says for whom it waits."""
        return Row(self.page, thread)

    def lookup(self, name: str, timeout: float | None = 0, but: int = 0) -> int:
        """Return the id of the thread published under *name*, waiting up to *timeout* seconds. Raises NotFound.

        Thread *but* does not count: it is known to end, and another will have the name.
        """
        deadline = timeouts.after(self.host.now(), timeout)
        while (thread := self.kip.lookup(name)) in (0, but):
            now = self.host.now()
            if deadline is not None and now >= deadline:
                raise NotFound(f"nobody is called {name!r}; there are: {', '.join(sorted(self.kip.names()))}")
            look = now + _LOOK_AGAIN
            self.host.wait((self.gate,), look if deadline is None else min(deadline, look))
            self.current.core.pump_gate()
        return thread

    def on(self, label: Label, handler: UpcallHandler) -> None:
        """Call *handler* for upcalls of *label*, in the middle of whatever IPC is going on, instead of queueing."""
        self._handlers[label] = handler

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
            return first  # to look costs more than to know
        here = _HERE.thread
        if here is not None and here.environment is self:
            return here
        if threading.get_ident() == self._owner or not self.host.lends:
            return first
        return self.lending.thread()

    def own(self) -> None:
        """Have the first thread be that of the calling thread of the host: it serves, or runs an event loop."""
        self._owner = threading.get_ident()
        if self.host.lends and threading.active_count() > 1:
            self.share()

    def share(self) -> None:
        """Be ready for several threads of the host."""
        with self.lock:
            self.host.share()
            for known in (self.thread, *self.threads.values()):
                if known.core.waker is None:
                    known.core.share(self.host.waker())

    def forked(self) -> None:
        """The process was forked from the one that is this environment: it refuses from now on."""
        why = (
            f"this process was forked from one that is environment {self.number}: call libexo.attach() anew, "
            "or start it with exo run"
        )
        _Process.environment = None
        be(None)
        for thread in {self.thread, *self.threads.values()}:
            for link in thread.core.sending.links():
                link.fallen = True
            forking.refuse(thread.core, why)
        for heap in list(self.heaps):  # its memory is shared with the parent, and what is free in it is not
            forking.refuse(heap, why)
        self.host.forked(why)
        forking.refuse(self, why)

    def start_thread(self, function: Callable[[int], object], sp: int = 0) -> int:
        """Have *function* run as another thread of this environment, with word *sp*; return its thread id.

        The process server creates the thread. Raises RemoteError when it cannot, NotFound when there is none.
        """
        from libexo.l4 import start  # noqa: PLC0415 - as in `thread_changed`

        return start.begin(self.current, function, sp)

    def add_thread(self, thread: int) -> Thread:
        """Make *thread*, which the kernel activated here, known: from now on several threads share the gate."""
        self.share()
        added = self.threads[thread] = Thread(self, thread)
        added.core.share(self.host.waker())
        return added

    def thread_changed(self, upcall: Upcall) -> None:
        """A thread of this environment was activated, changed or deleted: see `messages.Label.THREAD`."""
        if self.lending.takes(upcall):
            return
        from libexo.l4 import start  # noqa: PLC0415 - few environments have a second thread

        start.changed(self, upcall)

    def trace(self) -> memoryview:
        """Map the kernel's event ring (layout: `kernel.abi.events`); once."""
        descriptor, size = self._trace
        self._trace = (None, 0)
        if not size:
            raise ExoError("the event ring is mapped already")
        return self.host.map(descriptor, size, writable=False)

    def close(self) -> None:
        """Leave the system: close the threads and the gate."""
        for thread in {self.thread, *self.threads.values()}:
            thread.close()
        self.gate.close()


def _pass_on(upcall: Upcall, thread: Thread, core: Rendezvous) -> None:
    """Give *upcall* to *thread*, whose core may be the calling one's."""
    if thread.core is core:
        core.upcall(upcall)
    else:
        thread.core.upcalls.append(upcall)
        thread.wake()


class _Here(threading.local):
    """The thread that runs, where it is not its environment's first."""

    thread: Thread | None = None


_HERE = _Here()


def here() -> Thread:
    """Return the calling thread, attaching its program if need be."""
    return _HERE.thread or attach().current


def be(thread: Thread | None) -> None:
    """Make *thread* the calling one."""
    _HERE.thread = thread


class _Process:
    """What a real process has one of."""

    environment: Environment | None = None


def attach(run: Path | str | None = None, name: str | None = None) -> Environment:
    """Return the calling program's environment.

    A program that the kernel started has its gate open already (EXO_TRAP_FD). Any other attaches to the
    system at *run* (default: EXO_RUN) under *name*. Called again without arguments, it returns the same one.
    """
    host = current.get()
    if host is not None:
        if host.environment is None:
            host.environment = Environment(host)
        return host.environment
    if _Process.environment is None or run is not None or name is not None:
        _Process.environment = Environment(_real_host(run, name))
        _Process.environment.host.environment = _Process.environment  # where its other strands find it
    return _Process.environment


def _real_host(run: Path | str | None, name: str | None) -> Host:
    from libexo.host import real  # noqa: PLC0415 - not on the simulated machine

    directory = Path(run) if run is not None else run_directory()
    gate = os.environ.get("EXO_TRAP_FD")
    if gate is not None and run is None:
        return real.inherited(int(gate), directory)
    return real.attached(directory, name or f"program-{os.getpid()}")


def run_directory() -> Path:
    """Return the run directory: EXO_RUN, else `exo` under XDG_RUNTIME_DIR, else under /run or /tmp."""
    if directory := os.environ.get("EXO_RUN"):
        return Path(directory)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "exo"
    return Path("/run/exo") if os.getuid() == 0 else Path(f"/tmp/exo-{os.getuid()}")  # noqa: S108

"""The environment of the calling program: its gate, its thread, and what the kernel shows to all."""

import os
from collections.abc import Callable
from pathlib import Path

from kernel.abi.gate import Upcall
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from libexo.errors import ExoError, NotFound
from libexo.host import current
from libexo.host.base import Host
from libexo.ipc import Thread
from libexo.kip import Kip
from libexo.sys import Sys
from libexo.vm import Views

_LOOK_AGAIN = 5_000_000
"""How often a name that is not there yet is looked up again, in ns."""

UpcallHandler = Callable[[Upcall], object]


class Environment:
    """One environment: everything a program can reach from inside."""

    def __init__(self, host: Host) -> None:
        """Stand on *host*: ask the kernel who we are, and map what it shows. Raises TrapRefused, GateClosed."""
        self.host = host
        self.gate = host.gate
        self.sys = Sys(host.gate)
        interface, (kip, page, trace) = self.sys.kernel_interface()
        self.number = interface.environment
        self.kip = Kip(host.map(kip, interface.kip_size, writable=False))
        self.page = host.map(page, FRAME_SIZE, writable=True).cast("Q")
        """The environment page, as words: see `kernel.abi.kip.Page`."""
        self._trace = (trace, interface.trace_size)
        self.views = Views(self)
        self._handlers: dict[int, UpcallHandler] = {
            Label.MOVED: lambda upcall: self.views.moved(upcall.words[0]),
            Label.REVOKED: lambda upcall: self.views.forget(upcall.words[0]),
            Label.REVOKE: lambda upcall: None,
        }
        self.thread = Thread(self, interface.thread)

    def lookup(self, name: str, timeout: float = 0) -> int:
        """Return the id of the thread published under *name*, waiting up to *timeout* seconds. Raises NotFound."""
        deadline = self.host.now() + int(timeout * 1e9)
        while not (thread := self.kip.lookup(name)):
            now = self.host.now()
            if now >= deadline:
                raise NotFound(f"nobody is called {name!r}; there are: {', '.join(sorted(self.kip.names()))}")
            self.host.wait((self.gate,), min(deadline, now + _LOOK_AGAIN))
            self.thread.core.pump_gate()
        return thread

    def on(self, label: Label, handler: UpcallHandler) -> None:
        """Call *handler* for upcalls of *label*, in the middle of whatever IPC is going on, instead of queueing."""
        self._handlers[label] = handler

    def upcall(self, upcall: Upcall) -> bool:
        """Handle *upcall* if it has a handler; False: it is to be received as a message."""
        handler = self._handlers.get(upcall.label)
        if handler is None:
            return False
        handler(upcall)
        return True

    def trace(self) -> memoryview:
        """Map the kernel's event ring (layout: `kernel.abi.events`); once."""
        descriptor, size = self._trace
        self._trace = (None, 0)
        if not size:
            raise ExoError("the event ring is mapped already")
        return self.host.map(descriptor, size, writable=False)

    def close(self) -> None:
        """Leave the system: close the thread and the gate."""
        self.thread.close()
        self.gate.close()


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

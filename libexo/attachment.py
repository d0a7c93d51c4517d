"""An attachment: a program's ground, its traps, and the pages the kernel shows it.

All of libexo below `libexo.environment` needs this and no more.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakSet

from kernel.abi.gate import Upcall
from kernel.abi.kip import PAGE_SIZE
from libexo.errors import ExoError
from libexo.host.base import Host
from libexo.kip import Kip
from libexo.sys import Sys
from libexo.views import Views


class Lent(Protocol):
    """A heap: memory that others may ask for."""

    def asked_back(self, handle: int) -> None:
        """Give back unused memory of *handle*, which its owner asks for."""

    def trim(self) -> int:
        """Give back all unused memory; return the frames given back."""


class Services(Protocol):
    """Services of servers, and of the layers above; `libexo.services` has them."""

    def memory(self) -> Any:  # noqa: ANN401 - a stub, whose interface few below know
        """Return a stub of the memory server."""

    def scheduler(self) -> Any:  # noqa: ANN401 - likewise
        """Return a stub of the scheduler server."""

    def publish(self, name: str) -> None:
        """Have *name* published for the calling thread. Raises NotFound, RemoteError."""

    def start_program(
        self,
        module: str,
        name: str,
        environ: tuple[tuple[str, str], ...],
        *,
        paged: bool,
        budget: dict[str, int],
    ) -> int:
        """Start `python -m` *module* as *name*; return its thread id. Raises NotFound, RemoteError."""

    def kill_program(self, thread: int) -> None:
        """End a program that we started; one that has ended is no error. Raises NotFound, RemoteError."""

    def wait_program(self, thread: int) -> Any:  # noqa: ANN401 - its `Exit`
        """Return how the program of *thread* ended, when it has. Raises NotFound, RemoteError."""

    def create_thread(self, timeout: float | None = None) -> int:
        """Have another thread made, within *timeout* seconds; return its id. Raises NotFound, RemoteError."""

    def switch(self, thread: int) -> None:
        """Give the rest of the slice to *thread*. Raises NotFound, RemoteError."""

    def start_thread(self, pager: Any, function: Callable[[int], object], sp: int) -> int:  # noqa: ANN401 - a stub
        """Have *function* run as another thread, which thread *pager* starts with word *sp*; return its id."""

    def thread_changed(self, upcall: Upcall) -> None:
        """A thread was activated, changed or deleted."""


class Attachment:
    """One program's place in its system."""

    services: Services
    on_upcalls: Callable[[Sequence[bytes], Any], object]
    """Called with the upcalls that one of its threads took out of the gate, and that thread's core."""

    def __init__(self, host: Host) -> None:
        """Attach by *host*: learn the program's ids, and map the kernel's pages. Raises TrapRefused, GateClosed."""
        self.host = host
        self.gate = host.gate
        self.sys = Sys(host.gate, host.close_descriptor)
        interface, (kip, page, trace) = self.sys.kernel_interface()
        self.number = interface.environment
        self.first = interface.thread
        """The first id of its first thread."""
        self.areas = interface.utcb_area, interface.kip_area
        """X.2's areas of UTCBs and kernel interface page: nothing can be mapped there."""
        self.kip = Kip(host.map(kip, interface.kip_size, writable=False))
        self.page = host.map(page, PAGE_SIZE, writable=True).cast("Q")
        """The environment page, as words: see `kernel.abi.kip.Page`."""
        self._trace = (trace, interface.trace_size)
        self.views = Views(host, self.sys)
        self.heaps: WeakSet[Lent] = WeakSet()
        """Heaps in its memory: they refuse in a process that was forked."""

    def close_trace(self) -> None:
        """Map the event ring no more."""
        (descriptor, size), self._trace = self._trace, (None, 0)
        if size:
            self.host.close_descriptor(descriptor)

    def trace(self) -> memoryview:
        """Map the kernel's event ring (layout: `kernel.abi.events`); once."""
        (descriptor, size), self._trace = self._trace, (None, 0)
        if not size:
            raise ExoError("the event ring is mapped already")
        return self.host.map(descriptor, size, writable=False)

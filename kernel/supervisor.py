"""The machine's reports: a packet came through a gate, a body began or ended, the host asks to end."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.errors import Fault
from kernel.gate import Gate
from kernel.kernel import Kernel

if TYPE_CHECKING:
    from hwmodel.machine import Body, Descriptor, PageFault


class Supervisor:
    """Passes each on to the object it concerns."""

    def __init__(self, kernel: Kernel) -> None:
        """Supervise the machine of *kernel*."""
        self._kernel = kernel
        self._environments = kernel.environments
        self._gate = Gate(kernel)
        self.on_stop: Callable[[], None] = kernel.machine.stop
        """Called when the host asks the system to end; the boot loader ends it in order."""
        self.on_attach: Callable[[Body, bytes], None] = lambda body, _data: body.kill()
        """Called when a program wants to attach; the boot loader decides."""

    def trap(self, body: "Body", data: bytes, descriptors: "list[Descriptor]") -> None:
        """A packet came through a gate."""
        caller = self._environments.of(body)
        if caller is None or caller.fault or caller.ending:
            for descriptor in descriptors:
                descriptor.close()
            return
        self._gate.enter(caller, data, descriptors)

    def broke(self, body: "Body", fault: Fault, detail: str) -> None:
        """A program did what none may."""
        caller = self._environments.of(body)
        if caller is not None:
            self._environments.fault(caller, fault, detail)

    def started(self, body: "Body") -> None:
        """A program runs."""
        environment = self._environments.of(body)
        if environment is not None:
            self._environments.started(environment)

    def failed(self, body: "Body", reason: str) -> None:
        """A program could not be started."""
        environment = self._environments.of(body)
        if environment is not None:
            environment.fault, environment.detail = Fault.NOT_STARTED, reason
            self._kernel.exposure.log(f"{environment.name}: {reason}")
            self._environments.end(environment, 127)

    def ended(self, body: "Body", status: int) -> None:
        """A body ended, by itself or not."""
        environment = self._environments.of(body)
        if environment is not None:
            self._kernel.faults.forget(environment, status)
            self._environments.end(environment, status)

    def faulted(self, body: "Body", fault: "PageFault") -> None:
        """A thread of *body* waits for a page."""
        environment = self._environments.of(body)
        if environment is not None:
            self._kernel.faults.arrived(environment, fault)

    def attached(self, body: "Body", data: bytes) -> None:
        """A program started elsewhere wants to attach."""
        self.on_attach(body, data)

    def stop(self) -> None:
        """The host asks the system to end."""
        self.on_stop()

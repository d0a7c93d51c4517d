"""Threads: the ids IPC goes by, and the listening sockets behind them.

A number is reused only with its next version, so an id that was ever valid for one incarnation is never valid
for another. The socket of a number belongs to the kernel: nobody can squat on it, and while a server is being
restarted connections to it wait.
"""

from collections import deque
from typing import TYPE_CHECKING

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import (
    FIRST_PROGRAM,
    ThreadId,
    next_version,
    show_thread,
    thread_id,
    thread_number,
    thread_version,
)
from kernel.abi.limits import MAX_ENVIRONMENTS
from kernel.dispatch import Call, handles
from kernel.errors import Panic, Refused

if TYPE_CHECKING:
    from hwmodel.machine import Endpoint
    from kernel.environment import Environment
    from kernel.kernel import Kernel


class Threads:
    """All threads of environments, by number."""

    def __init__(self, kernel: "Kernel") -> None:
        """Start with none."""
        self._kernel = kernel
        self._living: dict[int, Environment] = {}
        self._versions: dict[int, int] = {}
        self._free = deque(range(FIRST_PROGRAM, FIRST_PROGRAM + MAX_ENVIRONMENTS))
        self._endpoints: dict[int, Endpoint] = {}

    def check_free(self, number: int | None) -> None:
        """Refuse a *number* whose thread lives."""
        if number is not None and (other := self._living.get(number)) is not None:
            raise Refused(Refusal.NAME_TAKEN, f"thread number {number} is {other.name}'s")

    def allocate(self, number: int | None) -> ThreadId:
        """Return the id of a new incarnation of thread *number*, or of any free one."""
        number = self._free.popleft() if number is None else number
        version = self._versions[number] = next_version(self._versions.get(number, -1))
        return thread_id(number, version)

    def renew(self, thread: ThreadId) -> ThreadId:
        """Return the id of the incarnation after *thread*."""
        return self.allocate(thread_number(thread))

    def enter(self, environment: "Environment") -> None:
        """The thread of *environment* can be called from now on."""
        if self._living.setdefault(thread_number(environment.thread), environment) is not environment:
            raise Panic(f"thread {show_thread(environment.thread)} lives twice")

    def leave(self, environment: "Environment") -> None:
        """The thread of *environment* is gone; its number is still kept."""
        self._living.pop(thread_number(environment.thread), None)

    def release(self, environment: "Environment") -> None:
        """The number of *environment*'s thread may be used again."""
        number = thread_number(environment.thread)
        endpoint = self._endpoints.pop(number, None)
        if endpoint is not None:
            endpoint.close()
        if number >= FIRST_PROGRAM:
            self._free.append(number)

    def living(self, thread: int) -> "Environment":
        """Return the environment of *thread*. Raises Refused when it is gone or was restarted."""
        environment = self._living.get(thread_number(thread))
        if environment is not None and environment.thread == thread:
            return environment
        if 0 < thread_version(thread) <= self._versions.get(thread_number(thread), 0):
            raise Refused(Refusal.STALE_THREAD, f"thread {show_thread(thread)}")
        raise Refused(Refusal.NO_SUCH_THREAD, f"thread {show_thread(thread)}")

    def endpoint(self, number: int) -> "Endpoint":
        """Return the listening socket of thread *number*."""
        endpoint = self._endpoints.get(number)
        if endpoint is None:
            endpoint = self._endpoints[number] = self._kernel.machine.endpoint(number)
        return endpoint

    def open_endpoints(self) -> int:
        """Return how many listening sockets there are."""
        return len(self._endpoints)

    def close(self) -> None:
        """Remove every listening socket."""
        for endpoint in self._endpoints.values():
            endpoint.close()
        self._endpoints.clear()


@handles(traps.Endpoint)
def _endpoint(kernel: "Kernel", call: Call[traps.Endpoint]) -> int:
    number = thread_number(call.caller.thread)
    call.gives.append(kernel.threads.endpoint(number).descriptor())
    return number

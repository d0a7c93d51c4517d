"""What X.2 keeps of a thread: its registers, whether it is halted, and what the IPC it is in has come to.

What an IPC does is above this (`libexo.l4.engine.x2`); what it is made of is between the two, and is told of the
thread by its context.
"""

from typing import TYPE_CHECKING, Protocol

from kernel.abi.ids import ANY_LOCAL_THREAD, NIL_THREAD, is_local
from kernel.abi.kip import Head
from kernel.abi.messages import Phase
from libexo.environment import home
from libexo.ipc import READY
from libexo.ipc.operation import Operation
from libexo.l4.engine.copying import Limit
from libexo.l4.format.items import GrantItem
from libexo.l4.format.registers import Registers
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.times import Never, expires

if TYPE_CHECKING:
    from libexo.ipc import Thread
    from libexo.transport.base import Source

READY_NS = int(READY * 1e9)


class Jump(BaseException):
    """The thread goes on elsewhere: an IPC of it was aborted, and its instruction pointer changed."""


class Pager(Protocol):
    """What turns the page faults of a thread into messages: `libexo.l4.engine.paging`."""

    def fault(self, address: int, access: int) -> None:
        """Handle a fault at *address*, for *access* (rights of an fpage)."""

    def limit(self, *, sender: int = Never, receiver: int = Never) -> Limit:
        """Return what handles faults while strings are copied, within the transfer time-outs."""


class Context:
    """The X.2 state of one thread."""

    paging: Pager

    def __init__(self, thread: "Thread", local: int) -> None:
        """Be that of *thread*, whose UTCB is at *local*."""
        self.thread = thread
        self.environment = home(thread)
        self.registers = Registers(
            thread.id, local, lambda: self.environment.kip.processor(self.environment.number)
        )
        self.registers.page = self.environment.page
        row = self.environment.kip.thread(thread.id)
        self.registers.pager = row.pager if row is not None else NIL_THREAD
        self.ip = 0
        self.sp = 0
        self.flags = 0
        self.halted = False
        self.begins = False
        """It has begun at an entry, so it can be sent to another."""
        self.jumps = False
        """Its instruction pointer was changed."""
        self.operation: Operation | None = None
        """The IPC it is in; a page fault in the middle of one is handled by another."""
        self.awaits: int = NIL_THREAD
        """The specifier of the receive in which it sleeps; guarded by the environment's lock."""
        self.delivered: tuple[int, list[int]] | None = None
        """A message that another thread of the environment delivered: sender, message registers."""
        self.grants: list[GrantItem] = []
        """What the message under way grants."""
        self._core = thread.core
        self._host = thread.environment.host

    def ipc(self, to: int, specifier: int, timeouts: int) -> tuple[int, MsgTag]:
        """Do the system call Ipc on the virtual registers; return the sender, nilthread on error, and the tag."""
        raise NotImplementedError

    def stop_if_halted(self) -> None:
        """Stay here while halted; then go where another thread said, if it did."""
        while self.halted:
            self._core.pump_gate()
            if self.halted:
                self.pause()
        if self.jumps:
            raise Jump

    @property
    def phase(self) -> Phase | None:
        """The phase of the IPC it is in, if it is in one."""
        return self.operation.phase if self.operation is not None else None

    @property
    def is_aborted(self) -> bool:
        """Whether another thread aborted that."""
        return self.operation is not None and bool(self.operation.aborted)

    def pause(self, *sources: "Source", deadline: int | None = None) -> None:
        """Wait for news of the kernel, or of another thread of this environment, or of *sources*."""
        core = self._core
        core.sleep((*core.outside, *sources), deadline, core.changes)

    def halt(self) -> None:
        """Stop here until another thread resumes this one."""
        self.halted = True
        self.stop_if_halted()

    def awaits_nobody(self) -> bool:
        """Let no thread deliver a message any longer; return whether one was delivered."""
        with self.environment.lock:
            self.awaits = NIL_THREAD
            return self.delivered is not None

    def clock(self) -> int:
        """Return the system clock, in microseconds since boot."""
        return (self._host.now() - self.environment.kip.head(Head.BOOT_NS)) // 1000

    def deadline(self, time: int) -> int | None:
        """Return when X.2 *time* is over, in ns of the host's clock; zero gives a partner time to wake."""
        at = self.expiry(time)
        return at if at is None else max(at, self._host.now() + READY_NS)

    def expiry(self, time: int) -> int | None:
        """Return when X.2 *time* is over, exactly."""
        at = expires(time, self.clock()) if time != Never else None
        return None if at is None else self.environment.kip.head(Head.BOOT_NS) + at * 1000

    def global_id(self, thread: int) -> int:
        """Return the global id of *thread*, which may be a local one; an unknown local id as it is."""
        if not is_local(thread) or thread == ANY_LOCAL_THREAD:
            return thread
        return next(
            (t.id for t in self.environment.threads.values() if t.engine and t.engine.local == thread), thread
        )

    def local_id(self, thread: int) -> int:
        """Return the local id of *thread* where it is of this environment, else its global one."""
        known = self.environment.threads.get(thread)
        return known.engine.local if known is not None and known.engine is not None else thread

    @property
    def local(self) -> int:
        """The local id of this thread."""
        return self.registers.my_local_id

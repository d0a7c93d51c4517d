"""Environments: the unit of protection. One body on the machine, one uid, one thread, one table of capabilities.

Life: created (its program is being started), ready, dead. However it ends, everything it had returns: frames,
handles, end point, slices, bindings, names, uid. Only an environment that `keeps` leaves its capabilities and
its thread number to a successor. The record of how it ended stays while anybody holds a capability to it.
"""

from collections import deque
from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.ids import ThreadId, thread_number
from kernel.abi.kip import EnvironmentState, Page
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Kind
from kernel.capability import Capability, Table
from kernel.errors import Refused
from kernel.thing import Lasting

if TYPE_CHECKING:
    from hwmodel import machine
    from kernel.bindings import Binding
    from kernel.kernel import Kernel

_REPOSSESSED = FRAME_SIZE // 8 - Page.REPOSSESSED_LIST
_WORD = (1 << 64) - 1


class Environment(Lasting):
    """One environment; also the thing an ENVIRONMENT capability is to."""

    kind = Kind.ENVIRONMENT

    def __init__(self, number: int, name: str, thread: ThreadId, cpu: int, may_bind: frozenset[int]) -> None:
        """Make environment *number* without a body."""
        self.number = number
        self.name = name
        self.thread = thread
        self.cpu = cpu
        self.may_bind = may_bind
        self.keeps = False
        self.table = Table()
        self.frames = 0
        self.outgoing: dict[bytes, Binding] = {}
        self.incoming: dict[bytes, Binding] = {}
        self.backlog: deque[bytes] = deque()
        self.state = EnvironmentState.STARTING
        self.status = 0
        self.fault = 0
        self.detail = ""
        self.started = 0
        self.roles: tuple[int, ...] = ()
        self.descriptors: list[machine.Descriptor] = []
        """What its program was started with, for a successor."""
        self.over = False
        """Its end is done with: from now on only its watchers keep the record."""
        self.watchers: dict[Capability, None] = {}
        self.body: machine.Body
        self.shared: machine.Page
        """The environment page."""
        self.page: memoryview
        """The environment page, as words."""

    def __repr__(self) -> str:
        """Show number, name and state."""
        return f"<Environment {self.number} {self.name} {self.state.name.lower()}>"

    @property
    def uid(self) -> int:
        """The host's user id of the body."""
        return self.body.uid

    @property
    def pid(self) -> int:
        """The host process id of the body, 0 before it is started."""
        return self.body.pid

    @property
    def consumed(self) -> int:
        """CPU time used, in ns, where it runs under a plan; readers ask the host for the others'."""
        return self.body.consumed() if self.cpu >= 0 and self.alive else 0

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.state is not EnvironmentState.DEAD

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return thread, whether it lives, and how it ended."""
        text = f"{self.name}: {self.detail}" if self.detail else self.name
        return self.thread, int(self.alive), self.status, self.fault, text

    def gained(self, capability: Capability) -> None:
        """Somebody watches."""
        self.watchers[capability] = None

    def lost(self, kernel: "Kernel", capability: Capability) -> None:
        """One watcher less; with the last, the record of a dead environment goes."""
        del self.watchers[capability]
        if self.over:
            kernel.environments.review(self)

    def check_may_bind(self, other: "Environment") -> None:
        """Refuse unless this environment may call *other*. Answers go back over the caller's binding."""
        if self.may_bind and thread_number(other.thread) not in self.may_bind:
            raise Refused(Refusal.MAY_NOT_BIND, f"{self.name} may not call {other.name}")

    def calls(self, other: "Environment") -> bool:
        """Say whether this environment is bound to *other*, which may then answer it."""
        return any(binding.receiver is other for binding in self.outgoing.values())

    def repossess(self, capability: Capability) -> None:
        """Write what was taken by force into the environment page."""
        if not self.alive:
            return
        count = self.page[Page.REPOSSESSED]
        self.page[Page.REPOSSESSED_LIST + count % _REPOSSESSED] = capability.handle
        self.add(Page.REPOSSESSED)

    def add(self, word: Page) -> None:
        """Count in *word* of the environment page; the program writes there too, whatever it likes."""
        self.page[word] = (self.page[word] + 1) & _WORD

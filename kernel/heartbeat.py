"""The watch over the root task: the kernel's loader asks it for a heartbeat, over the path its clients use.

The kernel sends HEARTBEAT. The root task sends itself a message through its own end point, and acknowledges when
that has come round. One that never acknowledged anything is not asked: it may be a program without heartbeats.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.errors import Fault
from kernel.abi.heartbeat import BEAT, LOOK, Silence
from kernel.abi.kip import Counter
from kernel.abi.messages import Label
from kernel.abi.program import Activity

if TYPE_CHECKING:
    from kernel.environment import Environment
    from kernel.kernel import Kernel


class Heartbeat:
    """The watch over one root task, and over each of its successors."""

    def __init__(self, kernel: "Kernel", environment: "Environment", *, starting: bool) -> None:
        """Watch *environment*; *starting*: it has not acknowledged anything yet, but its predecessor had."""
        self._kernel = kernel
        self.environment = environment
        self._answered = False
        self._silence = Silence(starting=starting)
        self._ask()

    def acknowledged(self) -> None:
        """Note an acknowledgement."""
        self._answered = True

    def _ask(self) -> None:
        self._answered = False
        self._kernel.exposure.tell(self.environment, Label.HEARTBEAT, ())
        self._alarm(BEAT, self._look)

    def _look(self) -> None:
        """Ask again where an answer came; otherwise judge what the root task is doing."""
        environment = self.environment
        if not environment.alive or environment.fault:
            return
        if self._answered:
            self._silence = Silence()
            self._ask()
            return
        doing = environment.activity
        if self._silence.look(doing, excused=doing is Activity.WAITS and self._is_served()):
            self._kernel.exposure.count(Counter.UNRESPONSIVE)
            self._kernel.environments.fault(environment, Fault.UNRESPONSIVE, self._silence.reason)
            return
        self._alarm(LOOK, self._look)

    def _is_served(self) -> bool:
        """Say whether an environment it may be waiting for runs."""
        partners = {binding.receiver.environment for binding in self.environment.outgoing.values()}
        return any(e.activity is Activity.RUNS for e in partners - {self.environment})

    def _alarm(self, delay: int, callback: Callable[[], None]) -> None:
        clock = self._kernel.machine.clock
        clock.alarm(clock.now() + delay, callback)

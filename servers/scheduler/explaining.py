"""Why a program did not run, answered by the scheduler server: read from the trace, a millisecond at a time.

To read it all is a quarter of a second of work, and plans must not wait for that. So there is one question at a
time, each for a millisecond and then a rest: who asks without end has the server compute for a tenth of the time.
"""

from collections import deque
from typing import TYPE_CHECKING

from libexo.errors import ExoError, NotFound, OperationRefused
from libexo.stub import DEFERRED, Call, Server
from libexo.trace import Explanation, Ring, Why, in_steps
from servers.scheduler.api import Scheduler

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.trace.history import Steps

REST = 0.009
"""Seconds from one step to the next."""


class StillAsked(OperationRefused):
    """The caller's environment has asked something else that is not answered yet."""


class NotKnown(OperationRefused):
    """No environment has that name, and none has left it in the trace."""


class Explanations:
    """Questions, one after another."""

    def __init__(self, environment: "Environment", server: Server) -> None:
        """Answer between the requests of *server*."""
        self._environment, self._server = environment, server
        self._asked: deque[tuple[int, Call, str, int]] = deque()
        self._steps: Steps[Why] | None = None
        self._ring: memoryview | None = None

    def ask(self, call: Call, name: str, microseconds: int) -> None:
        """Answer *call* later. Raises StillAsked."""
        row = self._environment.kip.thread(call.sender)
        asker = row.environment if row is not None else -1
        if any(asker == other for other, *_ in self._asked):
            raise StillAsked("one question at a time: the one before is not answered yet")
        self._asked.append((asker, call, name, microseconds))
        if len(self._asked) == 1:
            self._server.after(0, self._go_on)

    def _go_on(self) -> None:
        """Do a step of the oldest question; answer it after the last one."""
        _, call, name, microseconds = self._asked[0]
        try:
            next(self._steps or self._begin(name, microseconds))
        except StopIteration as over:
            call.answer(Explanation.of(over.value))
        except NotFound as error:
            call.fail(NotKnown(str(error)))
        except ExoError as error:
            call.fail(error)
        else:
            self._server.after(REST, self._go_on)
            return
        self._steps = None
        self._asked.popleft()
        if self._asked:
            self._server.after(REST, self._go_on)

    def _begin(self, name: str, microseconds: int) -> "Steps[Why]":
        environment = self._environment
        self._ring = self._ring or environment.trace()
        now = environment.host.now()
        self._steps = in_steps(environment.kip, Ring(self._ring), name, now, microseconds * 1000)
        return self._steps


class Explaining(Scheduler):
    """The operation that asks why."""

    explanations: Explanations

    def why(self, name: str, microseconds: int) -> Explanation:
        """Answer when it is found."""
        self.explanations.ask(self.call, name, microseconds)
        later: Explanation = DEFERRED
        return later

"""What a thread that executes a script remembers, and what its operations mean because of it."""

from dataclasses import replace

from tests.model.history import Outcome
from tests.model.script import INTENDED, LAST, NIL, End, Ipc, Kill, Operation, Script


class Memory:
    """What the operations of thread *me* refer to."""

    def __init__(self, me: int) -> None:
        self.me = me
        self._names = {LAST: NIL, INTENDED: NIL}

    def remember(self, outcome: Outcome) -> None:
        """Keep from whom the last message came, and for whom it was meant."""
        if outcome.payload:
            self._names = {LAST: outcome.sender, INTENDED: outcome.intended}

    def resolve(self, operation: Operation) -> Operation:
        """Return *operation* with LAST and INTENDED replaced by whom they mean.

        Nobody propagates a message in its own name, or to the thread it is sent for.
        """
        if not isinstance(operation, Ipc):
            return operation
        to = self._names.get(operation.to, operation.to)
        virtual = self._names.get(operation.virtual, operation.virtual)
        return replace(operation, to=to, virtual=NIL if virtual in (to, self.me) else virtual)

    def victims(self, operation: End | Kill, script: Script) -> tuple[int, ...]:
        """Return who ends by *operation*: with the first thread of an environment, or by a kill, all of it."""
        victim = operation.thread if isinstance(operation, Kill) else self.me
        home = script.environments[victim]
        if isinstance(operation, End) and script.first(home) != self.me:
            return (self.me,)
        return tuple(thread for thread, space in enumerate(script.environments) if space == home)

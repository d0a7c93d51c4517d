"""A script thread's memory, and the meaning that it gives to its operations."""

from dataclasses import replace

from tests.model.history import Outcome
from tests.model.script import INTENDED, LAST, NIL, End, Ipc, Kill, Operation, Script


class Memory:
    """The threads that the operations of thread *me* refer to."""

    def __init__(self, me: int, *, native: bool = False) -> None:
        self.me = me
        self._native = native
        self._names = {LAST: NIL, INTENDED: NIL}

    def remember(self, outcome: Outcome) -> None:
        """Keep the last message's sender, and its intended receiver."""
        if outcome.payload:
            self._names = {LAST: outcome.sender, INTENDED: outcome.intended}

    def resolve(self, operation: Operation) -> Operation:
        """Return *operation* with LAST and INTENDED replaced by the threads they mean.

        Nobody propagates a message in its own name, or to the thread it is sent for. A native thread sends in its
        own name, and does not send to one and receive from another in one operation.
        """
        if not isinstance(operation, Ipc):
            return operation
        to = self._names.get(operation.to, operation.to)
        virtual = self._names.get(operation.virtual, operation.virtual)
        virtual = NIL if virtual in (to, self.me) else virtual
        if not self._native:
            return replace(operation, to=to, virtual=virtual)
        sender = operation.sender if to in (NIL, operation.sender) else NIL
        receive = operation.receive if to == NIL else operation.send
        return replace(operation, to=to, sender=sender, receive=receive, virtual=NIL, native=True)

    def victims(self, operation: End | Kill, script: Script) -> tuple[int, ...]:
        """Return who ends by *operation*: with the first thread of an environment, or by a kill, all of it."""
        victim = operation.thread if isinstance(operation, Kill) else self.me
        home = script.environments[victim]
        if isinstance(operation, End) and script.first(home) != self.me:
            return (self.me,)
        return tuple(thread for thread, space in enumerate(script.environments) if space == home)

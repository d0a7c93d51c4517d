"""A tiny kernel that runs scripts by itself: X.2's rendezvous, done at once.

It is no part of the system. It shows that the checker accepts what is right, from an implementation that shares
no line with the model; `tests.model.mutants` are the same with one fault each, which the checker must find.
"""

import random
from dataclasses import dataclass

from kernel.abi.messages import IpcCode, Phase
from tests.model.history import (
    REFUSED,
    WAS_RECEIVING,
    WAS_SENDING,
    Completed,
    Ended,
    Event,
    History,
    Invoked,
    Outcome,
    error_word,
)
from tests.model.resolving import Memory
from tests.model.script import ANY, LOCAL, NIL, Abort, End, Ipc, Kill, Redirect, Script
from tests.model.states import FOREVER, deadline

STEP = 20_000
"""The longest step, in nanoseconds."""


@dataclass
class Fiber:
    """One thread of the toy."""

    number: int
    at: int = 0
    """Its next operation."""
    ipc: Ipc | None = None
    phase: Phase | None = None
    partner: int = NIL
    limit: int = FOREVER
    outcome: Outcome | None = None
    dead: bool = False


class Toy:
    """Runs one script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.random = random.Random(f"{script.seed}/toy")
        self.now = 0
        self.events: list[Event] = []
        self.fibers = [Fiber(number) for number in range(len(script.environments))]
        self.memories = [Memory(number) for number in range(len(script.environments))]
        self.queue: list[Fiber] = []
        """Those in their send phase, in the order of their coming."""
        self.redirectors: dict[int, int] = {}

    def run(self) -> History:
        """Run until nothing can happen any more."""
        while True:
            self.now += self.random.randint(100, STEP)
            self.expire()
            if ready := [f for f in self.fibers if self.can_run(f)]:
                self.step(self.random.choice(ready))
            elif (limit := min((f.limit for f in self.fibers if not f.dead), default=FOREVER)) < FOREVER:
                self.now = max(self.now, limit)
            else:
                return History(self.script.environments, self.events)

    def can_run(self, fiber: Fiber) -> bool:
        """Whether it is about to return, or has something left to do."""
        if fiber.dead or fiber.ipc is not None:
            return False
        return fiber.outcome is not None or fiber.at < len(self.script.threads[fiber.number])

    def step(self, fiber: Fiber) -> None:
        """Return from an operation, or begin one."""
        if fiber.outcome is not None:
            self.events.append(Completed(self.now, fiber.number, fiber.outcome))
            self.memories[fiber.number].remember(fiber.outcome)
            fiber.outcome = None
            return
        operation = self.script.threads[fiber.number][fiber.at]
        fiber.at += 1
        if isinstance(operation, End | Kill):
            self.die(self.memories[fiber.number].victims(operation, self.script))
            return
        operation = self.memories[fiber.number].resolve(operation)
        self.events.append(Invoked(self.now, fiber.number, operation))
        if isinstance(operation, Ipc):
            self.begin(fiber, operation)
        elif isinstance(operation, Abort):
            fiber.outcome = Outcome(control=self.abort(fiber, operation))
        elif isinstance(operation, Redirect):
            first = self.fibers[self.script.first(operation.environment)]
            refused = first.dead or (operation.thread >= 0 and self.fibers[operation.thread].dead)
            if not refused:
                self.redirectors[operation.environment] = operation.thread
            fiber.outcome = Outcome(control=REFUSED if refused else 0)

    # ------------------------------------------------------------------------------------------------------ IPC

    def begin(self, fiber: Fiber, ipc: Ipc) -> None:
        fiber.ipc = ipc
        if ipc.to == NIL:
            self.listen(fiber)
            return
        fiber.phase, fiber.partner = Phase.SEND, self.route(fiber, ipc.to)
        fiber.limit = deadline(self.now, ipc.send)
        if ipc.to < 0 or ipc.to == fiber.number or self.fibers[ipc.to].dead:
            self.fail(fiber, IpcCode.NO_PARTNER)
            return
        self.enqueue(fiber)
        self.serve(self.fibers[fiber.partner])

    def enqueue(self, fiber: Fiber) -> None:
        self.queue.append(fiber)

    def route(self, fiber: Fiber, to: int) -> int:
        homes = self.script.environments
        redirector = self.redirectors.get(homes[fiber.number], NIL)
        if redirector == NIL or to < 0 or homes[to] in (homes[fiber.number], homes[redirector]):
            return to
        return redirector

    def listen(self, fiber: Fiber) -> None:
        """Enter the receive phase."""
        assert fiber.ipc is not None
        if fiber.ipc.sender == NIL:
            self.finish(fiber, Outcome())
            return
        turned = fiber.phase is Phase.SEND and fiber.partner != fiber.ipc.to == fiber.ipc.sender
        fiber.partner = fiber.partner if turned else fiber.ipc.sender
        fiber.phase, fiber.limit = Phase.RECEIVE, deadline(self.now, fiber.ipc.receive)
        if fiber.partner >= 0 and self.fibers[fiber.partner].dead:
            self.fail(fiber, IpcCode.NO_PARTNER)
            return
        self.serve(fiber)

    def serve(self, receiver: Fiber) -> None:
        """Let the first fitting sender in."""
        for sender in list(self.queue):
            if sender.partner == receiver.number and self.fits(sender, receiver):
                self.meet(sender, receiver)
                return

    def fits(self, sender: Fiber, receiver: Fiber) -> bool:
        if receiver.phase is not Phase.RECEIVE:
            return False
        if receiver.partner == LOCAL:
            return self.same(sender, receiver)
        return receiver.partner in (ANY, sender.number) or receiver.partner == self.virtual(sender) != NIL

    def same(self, one: Fiber, other: Fiber) -> bool:
        homes = self.script.environments
        return homes[one.number] == homes[other.number]

    def virtual(self, sender: Fiber) -> int:
        """In whose name it may send, or NIL."""
        assert sender.ipc is not None
        if sender.ipc.virtual < 0 or self.fibers[sender.ipc.virtual].dead:
            return NIL
        virtual = self.fibers[sender.ipc.virtual]
        redirector = self.redirectors.get(self.script.environments[virtual.number])
        allowed = self.same(sender, virtual) or self.same(sender, self.fibers[sender.partner])
        return virtual.number if allowed or redirector == sender.number else NIL

    def meet(self, sender: Fiber, receiver: Fiber) -> None:
        assert sender.ipc is not None
        virtual = self.virtual(sender)
        outcome = Outcome(
            sender=sender.number if virtual == NIL else virtual,
            payload=sender.ipc.payload,
            actual=NIL if virtual == NIL else sender.number,
            intended=NIL if sender.partner == sender.ipc.to else sender.ipc.to,
        )
        if virtual != NIL:
            self.turn(self.fibers[virtual], sender, receiver)
        self.leave(sender)
        self.finish(receiver, outcome)
        self.listen(sender)

    def turn(self, virtual: Fiber, sender: Fiber, receiver: Fiber) -> None:
        if virtual.phase is Phase.RECEIVE and virtual.partner == sender.number:
            assert sender.ipc is not None
            virtual.partner = sender.ipc.to

    def leave(self, fiber: Fiber) -> None:
        if fiber in self.queue:
            self.queue.remove(fiber)

    def finish(self, fiber: Fiber, outcome: Outcome) -> None:
        fiber.outcome, fiber.ipc, fiber.phase, fiber.limit = outcome, None, None, FOREVER

    def fail(self, fiber: Fiber, code: IpcCode) -> None:
        assert fiber.phase is not None
        self.leave(fiber)
        self.finish(fiber, Outcome(error_word(code, fiber.phase)))

    def expire(self) -> None:
        for fiber in self.fibers:
            if not fiber.dead and fiber.limit <= self.now:
                self.fail(fiber, IpcCode.TIMEOUT)

    def abort(self, fiber: Fiber, abort: Abort) -> int:
        """Return the control word."""
        victim = self.fibers[abort.thread]
        if victim.dead or not self.same(fiber, victim):
            return REFUSED
        phase = victim.phase
        if phase is None:
            return 0
        if abort.send if phase is Phase.SEND else abort.receive:
            self.fail(victim, IpcCode.CANCELLED)
        return WAS_SENDING if phase is Phase.SEND else WAS_RECEIVING

    def die(self, numbers: tuple[int, ...]) -> None:
        numbers = tuple(number for number in numbers if not self.fibers[number].dead)
        if not numbers:
            return
        self.events.append(Ended(self.now, numbers))
        for fiber in [self.fibers[number] for number in numbers]:
            self.leave(fiber)
            fiber.dead, fiber.phase, fiber.limit = True, None, FOREVER
        for other in self.fibers:
            if not other.dead and other.ipc is not None and other.phase is not None:
                awaited = other.ipc.to if other.phase is Phase.SEND else other.partner
                if awaited in numbers:
                    self.fail(other, IpcCode.NO_PARTNER)

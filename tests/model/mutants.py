"""The toy kernel, wrong in one way each: what the checker has to find."""

from kernel.abi.messages import IpcCode, Phase
from tests.model.history import REFUSED, Outcome
from tests.model.script import LOCAL, NIL, Abort, Ipc, Script
from tests.model.states import FOREVER
from tests.model.toy import Fiber, Toy

SLOW = 8_000_000
"""Nanoseconds that are clearly too long."""


class DeliversTwice(Toy):
    """A thread that begins to receive now and then gets the last message once more, even if another had it."""

    last: Outcome | None = None

    def meet(self, sender: Fiber, receiver: Fiber) -> None:
        super().meet(sender, receiver)
        self.last = receiver.outcome

    def listen(self, fiber: Fiber) -> None:
        super().listen(fiber)
        if fiber.phase is Phase.RECEIVE and self.last is not None and self.random.random() < 0.1:
            self.finish(fiber, self.last)


class Loses(Toy):
    """A message vanishes, and its sender believes that it arrived."""

    def meet(self, sender: Fiber, receiver: Fiber) -> None:
        if self.random.random() < 0.05:
            self.leave(sender)
            self.listen(sender)
        else:
            super().meet(sender, receiver)


class Forgets(Toy):
    """A sender is never queued: only a receiver that waits already is found."""

    def enqueue(self, fiber: Fiber) -> None:
        if self.random.random() < 0.9:
            super().enqueue(fiber)


class DeliversLate(Toy):
    """A message is not taken back when its sender times out."""

    def expire(self) -> None:
        late = [f for f in self.queue if f.limit <= self.now and f.phase is Phase.SEND]
        kept = [Fiber(f.number, ipc=f.ipc, phase=f.phase, partner=f.partner) for f in late]
        super().expire()
        self.queue += kept


class KeepsCancelled(Toy):
    """A message is not taken back when its sender is cancelled."""

    def abort(self, fiber: Fiber, abort: Abort) -> int:
        victim = self.fibers[abort.thread]
        kept = Fiber(victim.number, ipc=victim.ipc, phase=Phase.SEND, partner=victim.partner)
        was = victim.phase
        control = super().abort(fiber, abort)
        if was is Phase.SEND and victim.ipc is None:
            self.queue.append(kept)
        return control


class TwoSteps(Toy):
    """The switch from sending to receiving takes a while, in which an answer finds nobody."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.switching: list[tuple[int, Fiber]] = []

    def listen(self, fiber: Fiber) -> None:
        switches = fiber.phase is Phase.SEND
        super().listen(fiber)
        if switches and fiber.phase is Phase.RECEIVE:
            fiber.phase = None
            self.switching.append((self.now + SLOW, fiber))

    def expire(self) -> None:
        for at, fiber in list(self.switching):
            if at <= self.now or fiber.limit <= self.now:
                self.switching.remove((at, fiber))
                if fiber.ipc is not None and not fiber.dead:
                    fiber.phase = Phase.RECEIVE
                    self.serve(fiber)
        super().expire()


class WrongPhase(Toy):
    """A time-out of the receive phase is reported as one of the send phase."""

    def expire(self) -> None:
        for fiber in self.fibers:
            if not fiber.dead and fiber.limit <= self.now:
                fiber.phase = Phase.SEND
        super().expire()


class TooEarly(Toy):
    """Time-outs expire in half the time."""

    def expire(self) -> None:
        for fiber in self.fibers:
            if fiber.limit < FOREVER and fiber.limit - self.now < SLOW // 2:
                fiber.limit = self.now
        super().expire()


class NeverExpires(Toy):
    """The receive time-out is ignored."""

    def listen(self, fiber: Fiber) -> None:
        super().listen(fiber)
        fiber.limit = FOREVER


class ImpatientAnswer(Toy):
    """A send with a time-out of zero fails at once, although its receiver waits."""

    def begin(self, fiber: Fiber, ipc: Ipc) -> None:
        super().begin(fiber, ipc)
        if fiber.outcome == Outcome() and ipc.send == 0 and ipc.to >= 0:
            receiver = self.fibers[ipc.to]
            receiver.outcome = None
            self.finish(fiber, Outcome(IpcCode.TIMEOUT << 1))


class IgnoresAborts(Toy):
    """An abort says it was done, and does nothing."""

    def abort(self, fiber: Fiber, abort: Abort) -> int:
        return super().abort(fiber, Abort(abort.thread, send=False, receive=False))


class AbortsEverything(Toy):
    """An abort ends either phase, whichever was asked for."""

    def abort(self, fiber: Fiber, abort: Abort) -> int:
        return super().abort(fiber, Abort(abort.thread))


class AbortsStrangers(Toy):
    """An abort works across environments."""

    def abort(self, fiber: Fiber, abort: Abort) -> int:
        control = super().abort(fiber, abort)
        return 0 if control == REFUSED else control


class ForgetsTheDead(Toy):
    """A thread that waits for one that ends is not told."""

    def die(self, numbers: tuple[int, ...]) -> None:
        waiting = [f for f in self.fibers if f.phase is not None]
        phases = [f.phase for f in waiting]
        for fiber in waiting:
            fiber.phase = None
        super().die(numbers)
        for fiber, phase in zip(waiting, phases, strict=True):
            fiber.phase = phase


class SendsFromTheGrave(Toy):
    """The messages of a thread that ended are still delivered."""

    def die(self, numbers: tuple[int, ...]) -> None:
        before = [f for f in self.queue if f.number in numbers]
        super().die(numbers)
        self.queue[:0] = before

    def listen(self, fiber: Fiber) -> None:
        if not fiber.dead:
            super().listen(fiber)


class TakesAnybody(Toy):
    """A closed receive is open."""

    def fits(self, sender: Fiber, receiver: Fiber) -> bool:
        if receiver.phase is Phase.RECEIVE and receiver.partner >= 0 and receiver.partner != receiver.number:
            return True
        return super().fits(sender, receiver)


class TakesForeigners(Toy):
    """A wait for local threads takes messages of any."""

    def fits(self, sender: Fiber, receiver: Fiber) -> bool:
        return (receiver.phase is Phase.RECEIVE and receiver.partner == LOCAL) or super().fits(
            sender, receiver
        )


class NeverTurns(Toy):
    """A propagated message does not turn the receive of the thread it is sent for."""

    def turn(self, virtual: Fiber, sender: Fiber, receiver: Fiber) -> None:
        pass


class BelievesAnybody(Toy):
    """Any thread may send in the name of any other."""

    def virtual(self, sender: Fiber) -> int:
        return sender.ipc.virtual if sender.ipc is not None else NIL


class ReceivesAfterFailure(Toy):
    """When the send phase fails, the receive phase is entered nevertheless."""

    def fail(self, fiber: Fiber, code: IpcCode) -> None:
        ipc, phase = fiber.ipc, fiber.phase
        super().fail(fiber, code)
        if phase is Phase.SEND and ipc is not None and ipc.sender >= 0 and code == IpcCode.TIMEOUT:
            fiber.ipc, fiber.outcome = ipc, None
            fiber.phase = Phase.RECEIVE
            fiber.partner, fiber.limit = ipc.sender, self.now + SLOW


class IgnoresRedirectors(Toy):
    """Redirection is set, and has no effect."""

    def route(self, fiber: Fiber, to: int) -> int:
        return to


MUTANTS = [cls for cls in list(globals().values()) if isinstance(cls, type) and Toy in cls.__bases__]

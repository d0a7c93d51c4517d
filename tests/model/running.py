"""Runs a script on the real kernel and libexo, on the simulated machine, and writes down its history.

Each environment is a program, each thread of it one of X.2's: a first thread makes its neighbours by
ThreadControl and sends them their start messages. They meet at one moment of virtual time, do their operations,
and stay. Since one program runs at a time, the events have one order. A payload travels in the label, in the
first word, and in two more that are computed from it: what was received is what was sent.
"""

from collections import Counter
from contextlib import suppress
from functools import partial

from hwmodel.simulated.machine import SimulatedMachine
from kernel.abi import traps
from kernel.abi.ids import ANY_LOCAL_THREAD, ANY_THREAD, thread_id
from libexo import l4
from libexo.environment import Environment
from libexo.errors import IpcError, IpcTimeout, NoPartner, TrapRefused
from libexo.ipc import Message, Thread
from libexo.l4 import entries
from libexo.l4.engine import start
from libexo.testing import Outcome as Ending
from libexo.testing import System, Task, simulated
from libexo.transport.base import Transport
from libexo.transport.faulty import Fate, FaultyTransport, Odds
from tests.model.checker import DELAY
from tests.model.history import REFUSED, Completed, Ended, Event, History, Invoked, Outcome
from tests.model.resolving import Memory
from tests.model.script import ANY, LOCAL, NEVER, NIL, Abort, End, Ipc, Kill, Redirect, Script

BEGIN = 100_000_000
"""The moment, in nanoseconds of virtual time, at which every thread does its first operation."""
LIMIT = 20.0
"""Virtual seconds a script may take: many times what all its time-outs add up to."""
FIRST_NUMBER = 2_000
"""The thread number of thread 0 would be this: those that are not their environment's first count from here."""
PATTERN = 0x9E3779B97F4A7C15
WORD = (1 << 64) - 1
DELIVER = 1 << 9
"""ExchangeRegisters' d: return the old values; without h, nothing is halted."""
ABORT_RECEIVE, ABORT_SEND = 1 << 1, 1 << 2
PHASES = ABORT_RECEIVE | ABORT_SEND


class Mangled(AssertionError):
    """A message arrived that is not what was sent, or from nobody the script knows."""


class Stage:
    """One run of one script."""

    def __init__(self, script: Script, system: System) -> None:
        self.script = script
        self.system = system
        self.events: list[Event] = []
        self.ids: dict[int, int] = {}
        """Of each thread, its global id."""
        self.locals: dict[int, int] = {}
        """Of each thread, its local id."""
        self.tasks: list[Task] = []
        for space in range(max(script.environments) + 1):
            name = f"space-{space}-of-model"
            task = system.spawn(partial(self.play, space), name, holds=("factory",))
            self.tasks.append(task)
            self.ids[script.first(space)] = task.thread
        self.entry = entries.entry(self.neighbour)

    # ---------------------------------------------------------------------------------------------- beginning

    def play(self, space: int, env: Environment) -> None:
        """The first thread of *space*: make the others, then do what they do."""
        script = self.script
        first = script.first(space)
        for thread, home in enumerate(script.environments):
            if home == space and thread != first:
                self.ids[thread] = thread_id(FIRST_NUMBER + thread)
                self.make(env, thread, self.ids[first])
        self.live(first, env)

    def make(self, env: Environment, thread: int, pager: int) -> None:
        """Create and activate *thread* here, and send it its start message."""
        control = traps.ThreadControl(self.ids[thread], pager, pager, pager)
        env.sys.thread_control(control)
        l4.LoadMR(0, l4.MsgTag.of(u=2))
        l4.LoadMR(1, self.entry)
        l4.LoadMR(2, thread)
        _, tag = l4.Ipc(self.ids[thread], l4.nilthread, l4.Timeouts(l4.Never, l4.Never))
        if l4.IpcFailed(tag):
            raise Mangled(f"thread {thread} could not be started: {l4.ErrorCode()}")

    def neighbour(self, thread: int) -> None:
        """The life of a thread that is not its environment's first."""
        self.live(thread, start.engine().environment)

    def live(self, me: int, env: Environment) -> None:
        """Do the operations of thread *me*; then stay, without receiving, until the end."""
        self.locals[me] = l4.MyLocalId()
        env.host.wait((), BEGIN)
        native = self.script.environments[me] in self.script.native
        memory = Memory(me, native=native)
        actor = (NativeActor if native else Actor)(self, me, env)
        for operation in self.script.threads[me]:
            if native and isinstance(operation, Abort):
                continue
            if isinstance(operation, End | Kill):
                if self.end(env, memory.victims(operation, self.script), me):
                    return
                continue
            resolved = memory.resolve(operation)
            self.events.append(Invoked(self.now, me, resolved))
            outcome = actor.do(resolved)
            self.events.append(Completed(self.now, me, outcome))
            memory.remember(outcome)
        env.host.wait((), None)

    @property
    def now(self) -> int:
        """Virtual time, read without handing over."""
        return self.system.machine.clock.now()

    @property
    def gone(self) -> set[int]:
        """Those that have ended."""
        return {thread for event in self.events if isinstance(event, Ended) for thread in event.threads}

    # ------------------------------------------------------------------------------------------------- ending

    def end(self, env: Environment, victims: tuple[int, ...], me: int) -> bool:
        """End *victims*; say whether thread *me* is to return because of that."""
        gone = self.gone
        victims = tuple(thread for thread in victims if thread not in gone)
        if not victims:
            return False
        self.events.append(Ended(self.now, victims))
        home = self.script.environments[victims[0]]
        if self.script.first(home) in victims:
            if victims != (me,):
                self.tasks[home].kill()
                env.host.wait((), self.now)
        else:
            env.sys.thread_control(traps.ThreadControl(self.ids[me], l4.nilthread))
        return me in victims


class Actor:
    """Does the operations of one thread, and reads what came of them."""

    def __init__(self, stage: Stage, me: int, env: Environment) -> None:
        self.stage = stage
        self.me = me
        self.env = env
        homes = stage.script.environments
        self.mine = [t for t, home in enumerate(homes) if home == homes[me]]

    def do(self, operation: object) -> Outcome:
        """Do one operation."""
        match operation:
            case Ipc():
                return self.ipc(operation)
            case Abort():
                return self.abort(operation)
            case Redirect():
                return self.redirect(operation)
        raise TypeError(f"{operation!r} is nothing to be done here")

    def ipc(self, ipc: Ipc) -> Outcome:
        """Load the registers, do the system call, and read the registers. Every third is an Lipc."""
        propagated = 1 << 12 if ipc.virtual != NIL else 0
        l4.LoadMR(0, l4.MsgTag.of(label=ipc.payload, u=3, flags=propagated))
        for at, word in enumerate(pattern(ipc.payload), 1):
            l4.LoadMR(at, word)
        if ipc.virtual != NIL:
            l4.Set_VirtualSender(self.stage.ids[ipc.virtual])
        timeouts = l4.Timeouts(period(ipc.send), period(ipc.receive))
        call = l4.Ipc if ipc.payload % 3 else l4.Lipc
        sender, tag = call(self.name(ipc.to, ipc), self.name(ipc.sender, ipc), timeouts)
        if l4.IpcFailed(tag):
            return Outcome(l4.ErrorCode())
        return self.received(sender, tag) if ipc.sender != NIL else Outcome()

    def received(self, sender: int, tag: l4.MsgTag) -> Outcome:
        """Check the message in the registers; return which it is, and its sender."""
        words = l4.StoreMRs(1, 3)
        if tag.label != words[0] or words != pattern(words[0]) or tag.u != 3 or tag.t:
            raise Mangled(f"{tag!r} {words} is no message of the script")
        return Outcome(
            sender=self.thread(sender),
            payload=words[0],
            actual=self.thread(l4.ActualSender(), anywhere=True) if l4.IpcPropagated(tag) else NIL,
            intended=self.thread(l4.IntendedReceiver(), anywhere=True) if l4.IpcRedirected(tag) else NIL,
        )

    def thread(self, given: int, *, anywhere: bool = False) -> int:
        """Return which thread an id is of: a local one for those of this environment, a global one for others.

        One that has just ended has no local id any more.
        """
        stage = self.stage
        for thread, known in stage.ids.items():
            if given == (stage.locals[thread] if thread in self.mine else known) or (
                given == known and (anywhere or thread in stage.gone)
            ):
                return thread
        raise Mangled(f"{given:#x} is no thread of the script that thread {self.me} should see")

    def name(self, thread: int, ipc: Ipc) -> int:
        """Return the id to use for *thread*: of neighbours, every other time the local one."""
        special = {NIL: l4.nilthread, ANY: l4.anythread, LOCAL: l4.anylocalthread}
        if thread in special:
            return special[thread]
        local = ipc.payload % 2 and thread in self.mine
        return self.stage.locals[thread] if local else self.stage.ids[thread]

    def abort(self, abort: Abort) -> Outcome:
        """ExchangeRegisters."""
        control = DELIVER | (ABORT_SEND if abort.send else 0) | (ABORT_RECEIVE if abort.receive else 0)
        result, old, *_ = l4.ExchangeRegisters(
            self.stage.ids[abort.thread], control, 0, 0, 0, 0, l4.nilthread
        )
        return Outcome(control=REFUSED if result == l4.nilthread else old & PHASES)

    def redirect(self, redirect: Redirect) -> Outcome:
        """SpaceControl."""
        stage = self.stage
        space = stage.ids[stage.script.first(redirect.environment)]
        to = ANY_THREAD if redirect.thread == NIL else stage.ids[redirect.thread]
        try:
            self.env.sys.space_control(space, 0, 0, 0, to)
        except TrapRefused:
            return Outcome(control=REFUSED)
        return Outcome()


class NativeActor(Actor):
    """Does the operations of one thread by `libexo.ipc`."""

    def ipc(self, ipc: Ipc) -> Outcome:
        """Send, receive or call."""
        thread, ids = start.engine().thread, self.stage.ids
        message = Message(ipc.payload, pattern(ipc.payload))
        try:
            if ipc.is_call:
                answer = thread.call(ids[ipc.to], message, seconds(ipc.send))
                return self.came(ids[ipc.to], answer)._replace(sender=ipc.to, actual=NIL, intended=NIL)
            if ipc.to != NIL:
                self.give(thread, ids[ipc.to], message, seconds(ipc.send))
            elif ipc.sender != NIL:
                special = {ANY: ANY_THREAD, LOCAL: ANY_LOCAL_THREAD}
                sender = special.get(ipc.sender) or ids[ipc.sender]
                return self.came(*thread.receive(sender, seconds(ipc.receive)))
        except IpcError as error:
            return Outcome(error.word)
        return Outcome()

    def give(self, thread: Thread, to: int, message: Message, timeout: float | None) -> None:
        """Send *message*; if it would answer one who waits no longer, as any other."""
        if to in thread.callers:
            with suppress(IpcTimeout, NoPartner):
                thread.send(to, message)
                return
        thread.send(to, message, timeout)

    def came(self, sender: int, message: Message) -> Outcome:
        """Check *message*; return which it is, and its sender."""
        if message.words != pattern(message.label):
            raise Mangled(f"{message!r} is no message of the script")
        origin = message.origin
        return Outcome(
            sender=self.thread(sender, anywhere=True),
            payload=message.label,
            actual=self.thread(origin.actual, anywhere=True) if origin and origin.actual else NIL,
            intended=self.thread(origin.intended, anywhere=True) if origin and origin.intended else NIL,
        )


def seconds(timeout: int) -> float | None:
    """Return *timeout* as `libexo.ipc` has it."""
    return None if timeout == NEVER else timeout / 1_000_000


def pattern(payload: int) -> tuple[int, int, int]:
    """Return the words of message *payload*."""
    return payload, payload * PATTERN & WORD, ~payload & WORD


def period(timeout: int) -> int:
    """Return *timeout* as X.2 writes it."""
    if timeout == NEVER:
        return l4.Never
    return l4.TimePeriod(timeout) if timeout else l4.ZeroTime


def run(script: Script) -> History:
    """Run *script*; return what it showed. Raises what a program raised, Mangled, and LeakError."""
    transports: list[FaultyTransport] = []
    wrap = partial(faulty, script, transports) if script.odds != Odds() else None
    with simulated(seed=script.seed, wrap=wrap) as system:
        stage = Stage(script, system)
        ending = system.run(until=lambda: False, seconds=LIMIT)
        stopped = stage.now
    did = sum((transport.fate.did for transport in transports), Counter[str]())
    return History(
        script.environments,
        stage.events,
        ending is Ending.IDLE,
        stopped,
        delays=bool(did["delayed"]),
        cuts=did["cut"],
    )


def faulty(
    script: Script, made: list[FaultyTransport], inner: Transport, machine: SimulatedMachine
) -> FaultyTransport:
    """Wrap the transport of one program: faults as the script says, from its beginning on."""
    clock = machine.clock
    transport = FaultyTransport(
        inner,
        later=lambda span, put: clock.alarm(clock.now() + span, put),
        nanoseconds=DELAY,
    )
    transport.fate = LateFate(machine, script.seed << 8 | len(made), script.odds)
    made.append(transport)
    return transport


class LateFate(Fate):
    """Lets everything pass while the threads are made."""

    def __init__(self, machine: SimulatedMachine, seed: int, odds: Odds) -> None:
        super().__init__(seed, odds)
        self._machine = machine

    def next(self) -> str:
        return super().next() if self._machine.clock.now() >= BEGIN else "passed"

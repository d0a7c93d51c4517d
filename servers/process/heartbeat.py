"""Heartbeats of servers: each server is asked again and again, over its clients' path, without waiting for it.

The servers of the topology are asked, and programs that were started with a heartbeat. A server that answered once
must go on answering, and so must its successors. One that never did may know no heartbeats, and is left alone,
unless it was started with one. The rule is in `kernel.abi.heartbeat`; the kernel watches this server by the same.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.heartbeat import BEAT, LOOK, Silence
from kernel.abi.ids import KERNEL_ENVIRONMENTS
from kernel.abi.messages import Label, PacketKind
from kernel.abi.program import Activity
from libexo.errors import ExoError, TrapRefused
from libexo.ipc.message import Message

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.ipc.exchange import Outgoing
    from servers.process.children import Child
    from servers.process.keeper import Keeper

_SECOND = 1e9
_WAITS = (Activity.WAITS, Activity.STOPPED)


def ask(environment: "Environment", thread: int) -> "Outgoing | None":
    """Send *thread* a question, without waiting. None: it cannot be reached now."""
    try:
        return environment.thread.core.post(
            thread, Message(Label.HEARTBEAT), PacketKind.CALL, timed=False, accepts=0
        )
    except ExoError:
        return None


def keeps_waiting(answer: Message | None) -> bool:
    """Say whether *answer*, of a server, says that callers of it wait and are answered soon."""
    return answer is not None and len(answer.words) > 1 and answer.words[1] > 0


def has_answered(environment: "Environment", question: "Outgoing") -> bool:
    """Say whether an answer is there, whatever it says."""
    if not question.done:
        environment.thread.core.pump_link(question.link)
    return question.done and question.error is None


class Pulse:
    """One server that is asked."""

    def __init__(self, thread: int, *, expected: bool) -> None:
        """Watch *thread*, not asked yet; *expected*: it must answer, because its predecessor did."""
        self.thread = thread
        self.expected = expected
        self.question: Outgoing | None = None
        self.due = 0
        """When its answer is due."""
        self.silence = Silence(starting=True)
        self.keeps = False
        """Callers of it wait, and are answered soon: servers among them do not hang."""

    @property
    def silent(self) -> bool:
        """Whether an answer of it is overdue."""
        return self.silence.looks > 0


class Heartbeats:
    """The watch over all servers that are asked."""

    def __init__(self, server: "Keeper", end: "Callable[[Child, str], None]") -> None:
        """Ask the programs that *server* answers for; *end* is called with one to be ended, and the reason."""
        self._server = server
        self._environment = server.environment
        self._end = end
        self._pulses: dict[str, Pulse] = {}
        self._expected = 0
        """Due time of the next beat: if that comes late, this server is starved itself."""
        self._late = False

    def start(self) -> None:
        """Begin."""
        self._beat()

    def _beat(self) -> None:
        """Ask the servers whose turn it is, and look at those whose answer is overdue."""
        now, watched = self._environment.host.now(), self._server.watched()
        self._late = now - self._expected > LOOK
        for name in self._pulses.keys() - watched.keys():
            del self._pulses[name]
        for name, child in watched.items():
            self._attend(name, child, now)
        pause = LOOK if any(pulse.silent for pulse in self._pulses.values()) else BEAT
        self._expected = self._environment.host.now() + pause
        self._server.server.after(pause / _SECOND, self._beat)

    def _attend(self, name: str, child: "Child", now: int) -> None:
        pulse = self._pulses.get(name)
        if pulse is None or pulse.thread != child.thread:
            expected = child.spec.heartbeat or (pulse is not None and pulse.expected)
            pulse = self._pulses[name] = Pulse(child.thread, expected=expected)
        if pulse.question is None or has_answered(self._environment, pulse.question):
            if pulse.question is not None:
                pulse.expected, pulse.silence = True, Silence()
                pulse.keeps = keeps_waiting(pulse.question.reply)
            if now >= pulse.due:
                pulse.question, pulse.due = ask(self._environment, child.thread), now + BEAT
        elif pulse.question.done:
            pulse.question = None  # it ended meanwhile, which the kernel will tell
        elif pulse.expected and now >= pulse.due:
            self._look(child, pulse)

    def _look(self, child: "Child", pulse: Pulse) -> None:
        try:
            doing = self._doing(child)
        except TrapRefused:
            return  # it ended meanwhile
        if doing is Activity.ENDED:
            return
        if pulse.silence.look(doing, excused=doing is Activity.WAITS and self._waits_for_others(child)):
            pulse.due = self._environment.host.now() + BEAT
            self._end(child, pulse.silence.reason)

    def _doing(self, child: "Child") -> Activity:
        return Activity(self._environment.sys.inspect(child.handle).count)

    def _waits_for_others(self, child: "Child") -> bool:
        """Say whether *child* may be waiting for a server that it calls, which runs, or does not answer itself.

        Or which says that it keeps callers waiting.

        Or for our question: if this server lacks the processor, so may the threads that carry its messages.
        """
        if self._late:
            return True
        watched = self._server.watched()
        for name in watched.keys() & {*self._server.calls(child.spec.name)}:
            pulse = self._pulses.get(name)
            if pulse is None or pulse.silent or pulse.keeps or self._doing(watched[name]) not in _WAITS:
                return True
        return False


class Answers:
    """This server's answers to the kernel: each is a message that came round through its own end point."""

    def __init__(self, server: "Keeper") -> None:
        """Acknowledge, so that the kernel asks from now on."""
        self._server = server
        self._environment = server.environment
        self._question: Outgoing | None = None
        self._acknowledge()

    def asked(self) -> None:
        """Send this server a message, at the kernel's question, unless one is under way."""
        if self._question is None:
            self._question = ask(self._environment, self._environment.thread.id)
            if self._question is not None:
                self._server.server.watch(self._question.link.channel, self._hear)

    def _hear(self) -> None:
        question = self._question
        if question is None or not has_answered(self._environment, question):
            return
        self._question = None
        self._server.server.unwatch(question.link.channel)
        self._acknowledge()

    def _acknowledge(self) -> None:
        try:
            self._environment.sys.acknowledge(KERNEL_ENVIRONMENTS)
        except TrapRefused:
            return  # not a root task of the topology: the kernel does not ask

"""The process server, the root task: starts programs, tells how they ended, restarts them by their rules.

It holds a capability to every environment it started, and to the servers of the topology. After its own restart
it finds them among its capabilities. Programs it promised to restart may be missing there, so it
keeps them in its estate. Names are published by the kernel in the KIP, so they outlive it.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.ids import next_version, thread_id, thread_number, thread_version
from kernel.abi.kip import SystemState
from kernel.abi.limits import MAX_THREADS
from kernel.abi.messages import Label
from kernel.abi.program import Back, Program
from kernel.abi.rights import Kind
from kernel.abi.topology import Topology
from kernel.abi.traps import EnvironmentCreate, ThreadControl
from libexo import attach
from libexo.environment import Environment
from libexo.errors import TrapArgument, TrapRefused
from libexo.ipc.message import Message
from libexo.stub import DEFERRED, Call, Server
from servers.process import ending, policy
from servers.process.api import Exit, Processes, ProgramSpec
from servers.process.book import Book
from servers.process.children import Child, State, essence
from servers.process.descent import called, pass_on
from servers.process.families import Families
from servers.process.heartbeat import Answers, Heartbeats
from servers.process.policy import NameTaken, NoSuchProgram, NotYours, SpawnRefused, ThreadRefused
from servers.process.replacement import Replacements, spec_of
from servers.process.restarts import Restarts
from servers.process.waiting import Exits, Waiting

Descriptors = list[Any]


class ProcessServer(Processes):
    """Serves `Processes`, and operators through the console."""

    def __init__(self, environment: Environment) -> None:
        """Take over what the kernel gave, or a predecessor left."""
        self.environment = environment
        self.server = Server(environment, self)
        self._factory = self._find_factory()
        booted, self.console = environment.sys.boot_info(self._factory)
        """The listening socket for people's tools, a descriptor of the host."""
        self.topology = msgspec.json.decode(booted.topology, type=Topology)
        self.operators = booted.operators
        """The operators, who may use the console."""
        self._children: dict[int, Child] = {}
        self._families = Families(self)
        self._restarts = Restarts(environment)
        self.replacements = Replacements(self)
        self._answers: Answers | None = None
        self._waiting = Waiting(environment)
        self._exits = Exits(policy.WAIT_MEMORY)
        self._last_thread = MAX_THREADS - 1
        self._threads_made = environment.host.now() & 0x7FFF_FFFF
        """The version of the last thread made: a predecessor's are not made again."""
        self._book = Book(self)
        self._take_over(self._book.load())
        self._adopt_servers()

    # ------------------------------------------------------------------------------------------- operations

    def spawn(self, program: ProgramSpec) -> int:
        """Start it for the caller."""
        return self.start(program, [], (), spawner=self.call.sender).thread

    def wait(self, thread: int) -> Exit:
        """Answer at once if it has ended, otherwise when it does."""
        if thread in self._exits.known:
            return self._exits.known[thread]
        if thread not in self._children:
            raise NoSuchProgram(f"thread {thread:#x}")
        call: Call = self.call
        self._waiting.add(thread, call.answer, call.sender)
        later: Exit = DEFERRED
        return later

    def kill(self, thread: int, signal: int = 9) -> None:
        """Send the signal, if the caller started it."""
        child = self._children.get(thread)
        if child is None:
            raise NoSuchProgram(f"thread {thread:#x}")
        if child.spawner != self.call.sender:
            raise NotYours(child.spec.name)
        self.signal(child, signal)

    def register(self, name: str) -> None:
        """Publish it."""
        try:
            self.environment.sys.name_publish(self._factory, name, self.call.sender)
        except TrapRefused as refused:
            raise NameTaken(str(refused)) from refused

    def create_thread(self) -> int:
        """Create it, for the caller as its pager."""
        kip, caller = self.environment.kip, self.call.sender
        taken = {thread_number(row.thread) for row in kip.threads()}
        self._last_thread = policy.choose_thread(taken, self._last_thread)
        thread = thread_id(self._last_thread, next_version(self._threads_made))
        self._threads_made = thread_version(thread)
        scheduler = kip.lookup("scheduler") or self.environment.thread.id
        try:
            self.environment.sys.thread_control(ThreadControl(thread, caller, scheduler, caller))
        except TrapRefused as refused:
            raise ThreadRefused(str(refused)) from refused
        return thread

    def kernel_message(self, _sender: int, message: Message) -> None:
        """Take note of ends, and of servers that attached again."""
        if message.label == Label.HEARTBEAT and self._answers is not None:
            self._answers.asked()
        if message.label == Label.SUCCEEDED:
            self._succeeded(*message.words[:2])
        if message.label == Label.DEATH:
            self._ended(*ending.told(message))

    # ---------------------------------------------------------------------------------------- for the console

    def start(
        self, spec: ProgramSpec, descriptors: Descriptors, roles: tuple[int, ...], *, spawner: int
    ) -> Child:
        """Start a program. Raises SpawnRefused. Descriptors still in the list then are the caller's to close."""
        if not spec.argv:
            raise SpawnRefused("no program: argv is empty")
        self._catch_up(spec.name)
        # Programs that are being restarted have no thread just now, but keep their names.
        names = {*self.environment.kip.names(), *(child.spec.name for child in self._children.values())}
        names |= self.topology.server.keys()
        if spec.name in names:
            raise SpawnRefused(f"the name {spec.name!r} is taken")
        descent = self._families.find(spec, spawner)
        spec.name = spec.name or policy.choose_name(spec.kind, spec.argv[0], names)
        program = Program(spec.kind, spec.argv, spec.environ, roles, spec.paged)
        create = EnvironmentCreate(
            self._factory,
            spec.name,
            program,
            cpu=policy.processor(self.environment.kip.processors_off()) if spec.share else -1,
            keeps=spec.restart != "never",
            payer=spawner,
            limits=policy.limits(spec.budget),
        )
        child = self._create(create, descriptors, spec, spawner)
        descent.give(child)
        child.spec = essence(child).spec
        if why := self.keep():
            self._undo(child)
            raise SpawnRefused(f"there is no memory in which to remember it: {why}")
        self._families.place(child)
        return child

    def when_ended(self, thread: int, tell: Callable[[Exit], None]) -> None:
        """Call *tell* when *thread*'s environment has ended."""
        self._waiting.add(thread, tell)

    def signal(self, child: Child, signal: int) -> None:
        """Send a host signal; to one that just ended it is no error."""
        ending.note(child, signal)
        try:
            self.environment.sys.environment_signal(child.handle, signal)
        except TrapRefused as refused:
            if refused.refusal != Refusal.GONE:
                raise

    def named(self, name: str) -> Child:
        """Return the program called *name*. Raises NoSuchProgram."""
        if self._attaches(name):
            self._adopt_servers()  # it may have come after us
        for child in self._children.values():
            if child.spec.name == name:
                return child
        raise NoSuchProgram(f"no program is called {name!r}")

    def end(self, child: Child, grace: float | None = None) -> float:
        """End a program for good: it is not restarted. It has *grace* seconds, or those it was started with.

        Returns them. A program that has ended already, and waits to be restarted, is gone at once.
        """
        child.spec.restart = "never"
        self.keep()
        return ending.end(self, child, grace)

    def end_family(self, name: str, grace: float | None = None) -> list[Child]:
        """End a program and all its descendants for good; return them. Raises NoSuchProgram, NoFamily.

        Each has *grace* seconds, or those it was started with; the programs they ask for from now on are refused.
        """
        ended = called(self._children.values(), name, self.topology.server)
        for child in ended:
            child.spec.restart, child.ending = "never", True
        self.keep()
        for child in ended:
            ending.end(self, child, grace)
        return ended

    # ------------------------------------------------------------------------------------ for the parts

    def child(self, thread: int) -> Child | None:
        """Return the program that has *thread*, or had it and is to be restarted."""
        return self._children.get(thread)

    def is_there(self, child: Child) -> bool:
        """Say whether *child* has not ended for good."""
        return self._children.get(child.thread) is child

    def watched(self) -> dict[str, Child]:
        """Return the programs that must answer heartbeats, by name."""
        return {child.spec.name: child for child in self._children.values() if self._is_watched(child)}

    def _is_watched(self, child: Child) -> bool:
        server = self.topology.server.get(child.spec.name)
        return child.spec.heartbeat or (server is not None and server.heartbeat)

    def calls(self, name: str) -> tuple[str, ...]:
        """Return the servers that *name* may wait for."""
        server = self.topology.server.get(name)
        return server.calls if server is not None else tuple(self.topology.server)

    def watch_over(self) -> None:
        """Start to ask servers for heartbeats, and have the kernel ask this one."""
        Heartbeats(self, self._give_up_on).start()
        self._answers = Answers(self)

    def _give_up_on(self, child: Child, why: str) -> None:
        """End a program that does not answer."""
        self._destroy(child.handle, why)

    def _destroy(self, handle: int, why: str) -> None:
        try:
            self.environment.sys.environment_destroy(handle, why)
        except TrapRefused as refused:
            if refused.refusal != Refusal.GONE:
                raise

    # ----------------------------------------------------------------------------------------------- children

    def _create(
        self, create: EnvironmentCreate, descriptors: Descriptors, spec: ProgramSpec, spawner: int
    ) -> Child:
        try:
            created = self.environment.sys.environment_create(create, list(descriptors))
            descriptors.clear()
        except TrapArgument as wrong:
            raise SpawnRefused(str(wrong)) from wrong
        except TrapRefused as refused:
            descriptors.clear()  # they went to the kernel with the trap
            raise SpawnRefused(str(refused)) from refused
        child = Child(spec, created.thread, created.environment, spawner, self.environment.host.now())
        self._children[child.thread] = child
        return child

    def _catch_up(self, name: str) -> None:
        """Take note now of the end of *name*: the kernel shows it to all before it tells this server."""
        for child in [child for child in self._children.values() if child.spec.name == name]:
            self._look_at(child)

    def _look_at(self, child: Child) -> None:
        """Take note of the end of *child*, if the kernel shows it."""
        shown = self.environment.sys.inspect(child.handle)
        if not shown.count:
            text = shown.text.removeprefix(child.spec.name).removeprefix(": ")
            self._ended(child.thread, Exit(shown.status, shown.fault, text))

    def _undo(self, child: Child) -> None:
        """End *child*, of which nobody knows yet."""
        self._end_unknown(self._children.pop(child.thread).handle)

    def _end_unknown(self, handle: int) -> None:
        """End a program of which nobody knows."""
        self._destroy(handle, "")
        self.environment.sys.give_up(handle)

    def _ended(self, thread: int, exited: Exit) -> None:
        """Report the end of a program to those who wait, and start it again if that is its rule."""
        child = self._children.get(thread)
        if child is None or child.over:
            return
        child.over = True
        self._families.forget(thread)
        self._exits.add(thread, exited, child.spawner)
        self._waiting.ended(thread, exited)
        is_ending = self.environment.kip.state == SystemState.ENDING
        if is_ending:
            ending.note(child)  # the kernel told all
        if self.replacements.ended(child, exited):
            pass
        elif not is_ending and policy.must_restart(child.spec.restart, exited.status):
            self._restart(child, exited)
        else:
            failed = child.spec.name in self.topology.server and (exited.status or exited.fault)
            if failed or self._is_watched(child):
                self._restarts.bury(child, exited, None)
            self._gone(child)
        self.keep()

    def _gone(self, child: Child) -> None:
        """Forget *child*, which ended for good."""
        del self._children[child.thread]
        pass_on(self._children.values(), child.thread, child.parent)
        self._book.surplus[child.handle] = None
        self._restarts.forget(child, self._children.values())

    def _restart(self, child: Child, exited: Exit) -> None:
        if self._attaches(child.spec.name):
            self._restarts.bury(child, exited, None)
            return
        delay = self._restarts.plan(child, exited)
        if delay:
            self.server.after(delay, lambda: self.succeed_or_retry(child))
        else:
            self.succeed_or_retry(child)

    def bury(self, child: Child) -> None:
        """Forget *child*, which has ended and is not restarted: its name is free."""
        self._gone(child)
        self.keep()

    def succeed_or_retry(self, child: Child) -> None:
        """Start the successor of a program that ended, with the descriptors it had, which the kernel kept."""
        if not self.is_there(child):
            return  # it was ended for good while it waited for its turn
        if child.spec.restart == "never":
            self.bury(child)
            return
        if self.replacements.ended(child, Exit(0)):
            return  # a replacement was asked for meanwhile
        try:
            self.succeed(child, child.spec)
        except SpawnRefused as refused:
            print(f"{child.spec.name} is not back yet: {refused}", file=sys.stderr)
            self.server.after(policy.MAX_DELAY, lambda: self.succeed_or_retry(child))

    def succeed(
        self,
        child: Child,
        spec: ProgramSpec,
        descriptors: Sequence[object] = (),
        roles: tuple[int, ...] = (),
        back: int = Back.SAME,
    ) -> Child:
        """Start *spec* as the successor of *child*, which ended. Raises SpawnRefused."""
        program = Program(spec.kind, spec.argv, spec.environ, roles, spec.paged)
        create = EnvironmentCreate(self._factory, spec.name, program, succeeds=child.handle, back=int(back))
        successor = self._create(create, list(descriptors), spec, child.spawner)
        self._put_in_place(successor, child)
        self._families.place(successor)
        self._book.surplus[child.handle] = None
        self.keep()
        return successor

    def _put_in_place(self, successor: Child, of: Child) -> None:
        """Have *successor* be what *of* was."""
        self._children.pop(of.thread, None)
        self._children[successor.thread] = successor
        successor.successor(of)
        pass_on(self._children.values(), of.thread, successor.thread)

    def _succeeded(self, thread: int, heir: int) -> None:
        """Note that a server that attaches by itself is back: our capability is to its new incarnation."""
        child = self._children.pop(thread, None)
        if child is not None:
            child.thread, child.started, child.over = heir, self.environment.host.now(), False
            child.told = 0
            self._children[heir] = child
            self.keep()

    # --------------------------------------------------------------------------------------- surviving a restart

    def _find_factory(self) -> int:
        for handle in self.environment.sys.holdings(Kind.FACTORY):
            return handle
        raise SystemExit('the process server may not create environments: give it holds = ["factory"]')

    def _adopt_servers(self) -> None:
        """Answer for the servers of the topology; those that ended meanwhile are restarted."""
        for handle, inspection in self.environment.sys.holdings(Kind.ENVIRONMENT).items():
            name = inspection.text.partition(":")[0]
            server = self.topology.server.get(name)
            if inspection.first in self._children or server is None or handle in self._book.surplus:
                continue
            started = self.environment.host.now()
            self._children[inspection.first] = Child(
                spec_of(name, server), inspection.first, handle, 0, started
            )
        for child in tuple(self._children.values()):
            self._look_at(child)

    def _take_over(self, known: State | None) -> None:
        """Take over what a predecessor wrote down: the children still among our capabilities, and the exits."""
        held, known = self.environment.sys.holdings(Kind.ENVIRONMENT), known or State([], {})
        self._children.update((child.thread, child) for child in known.children if child.handle in held)
        self._exits.known.update(known.exits)
        for handle, found in held.items():
            if found.first not in self._children:
                self._take_up(handle, found.first, found.text.partition(":")[0])
        if self._book.surplus:
            self.keep()
        for child in self._children.values():
            child.over = False  # its end is to be noted again
            if child.family:
                self._families.place(child)
            if child.ending:
                ending.end(self, child)  # a predecessor began to

    def _take_up(self, handle: int, thread: int, name: str) -> None:
        """Take up what a predecessor left halfway: a restart is done, a start undone, one that ended given up."""
        same = [child for child in self._children.values() if child.spec.name == name]
        other = next((each for each in same if thread_number(each.thread) == thread_number(thread)), None)
        if other is not None and next_version(thread_version(other.thread)) == thread_version(thread):
            heir = Child(other.spec, thread, handle, other.spawner, self.environment.host.now())
            self._put_in_place(heir, other)
            self._book.surplus[other.handle] = None
        elif other is not None or thread in self._exits.known:
            self.environment.sys.give_up(handle)  # its successor, or its end, is written down
        elif name not in self.topology.server:
            print(f"{name} is ended: it was being started when the process server ended", file=sys.stderr)
            self._end_unknown(handle)

    def _attaches(self, name: str) -> bool:
        server = self.topology.server.get(name)
        return server is not None and server.start == "attach"

    def keep(self) -> str:
        """Write all programs down, for a successor; return why there is no memory for it, or ""."""
        return self._book.keep(
            State([essence(child) for child in self._children.values()], self._exits.known)
        )


def main() -> None:
    """Serve until the system ends."""
    environment = attach()
    server = ProcessServer(environment)
    server.watch_over()
    if isinstance(server.console, int):
        from servers.process.console import Console  # noqa: PLC0415 - the simulated machine has no console

        Console(server, server.replacements, server.console)
    server.server.run()

"""Boot, in order: the machine, the kernel on it, then the servers of the topology, each an environment.

    machine      RAM, processors, clock, interrupt lines        hwmodel.machine
    kip          the tables that all may read                   kernel.kip
    jobs         what takes more than one turn                  kernel.jobs
    exposure     the tables, the event ring, upcalls            kernel.exposure, .tracing, .upcalls
    frames       which frames are free                          kernel.frames, .rings
    bindings     the right to send                              kernel.bindings
    interrupts   lines to threads                               kernel.interrupts
    predicates   what threads sleep for                         kernel.predicates
    threads      ids and sockets for IPC                        kernel.threads
    processors   slices and plans                               kernel.processor
    environments the unit of protection                         kernel.environment, .environments, .programs
    removal      processors taken out, and who is moved         kernel.removal, .places
    traps        the handlers, object by object                 kernel.traps, .x2
    gate         decode, check, handle, answer                  kernel.gate, .dispatch
    supervisor   what the machine tells                         kernel.supervisor
    records      what was booted, with which command lines      kernel.x2.records
    heartbeat    whether the root task answers                  kernel.heartbeat
    loader       the servers, the root task's restart, attach   here
    shutdown     the end of all, in order                       kernel.shutdown

The loader gives each server what the topology says it holds. The root task is the server that holds the factory:
the loader restarts it, and it restarts the others, with a capability to each. Where several hold the factory, the
loader restarts each of them, and the last one restarts the others: each server is one party's to restart.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from hwmodel.machine import Exhausted
from kernel.abi.budget import Item, default_limits, named
from kernel.abi.errors import Refusal
from kernel.abi.gate import UNDECODABLE, Attach, Status
from kernel.abi.gate import Refused as RefusedAnswer
from kernel.abi.kip import Head, SystemState
from kernel.abi.obituary import Obituary, cause
from kernel.abi.operators import NO_UID, Operators
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import ServerConfig, Topology, booted
from kernel.abi.traps import Booted
from kernel.budget import Budget
from kernel.capability import Resource, give
from kernel.environment import Environment
from kernel.errors import Refused
from kernel.frames import Ram
from kernel.heartbeat import Heartbeat
from kernel.kernel import Kernel, refuse_heartbeat
from kernel.names import check_name
from kernel.programs import Factory
from kernel.shutdown import Shutdown
from kernel.supervisor import Supervisor
from kernel.x2.records import boot_records

if TYPE_CHECKING:
    from hwmodel.machine import Body, Machine

FIRST_DELAY = 50_000_000
"""Nanoseconds before the second restart of a root task that keeps ending; doubled at each further one."""
MAX_DELAY = 5_000_000_000
RESTART_AGAIN = 100_000_000
"""Nanoseconds until a restart is tried again for which the host had no room."""
LASTED = 1_000_000_000
"""Nanoseconds a run must last for the next restart to come at once. Never less than the last delay."""

_ATTACH = msgspec.msgpack.Decoder(Attach)


def boot(machine: "Machine", topology: Topology, log: Callable[[str], None]) -> "Loader":
    """Build the kernel on *machine* and start the servers of *topology*. Raises OSError for a missing file."""
    loader = Loader(Kernel(machine, log), topology)
    loader.start()
    return loader


class Loader:
    """Starts the servers, restarts the root task, lets operators and containers attach."""

    def __init__(self, kernel: Kernel, topology: Topology) -> None:
        """Load the servers of *topology* on *kernel*."""
        self.kernel = kernel
        self.supervisor = Supervisor(kernel)
        self._log = kernel.exposure.log
        self._topology = topology
        self._factory = Factory()
        self._rights: dict[str, list[Resource]] = {
            "ram": [Ram(0, kernel.frames.total)],
            "cpus": list(kernel.processors),
            "factory": [self._factory],
            "interrupts": list(kernel.interrupts.lines),
        }
        self._roots: dict[str, Environment] = {}
        """Root tasks by name: the environments that hold the factory."""
        roots = [name for name, server in topology.server.items() if "factory" in server.holds]
        self._overseer = roots[-1] if roots else ""
        """Name of the root task that restarts what the kernel does not."""
        self._short: dict[str, int] = {}
        """Short runs in a row, by root task."""
        self._restarts: dict[str, int] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        self._shutdown = Shutdown(kernel, list(booted(topology)), topology.machine.grace)
        kernel.environments.names.servers = frozenset(topology.server)
        kernel.environments.on_ended = self._ended
        kernel.on_heartbeat = self._heartbeat
        self.supervisor.on_stop = self._shutdown.stop
        self.supervisor.on_attach = self._attach
        self._operators = _operators(kernel.machine, topology)
        kernel.boot_info = Booted(msgspec.json.encode(topology), self._operators)

    def start(self) -> None:
        """Start every server of the topology that starts at boot, in order."""
        servers = booted(self._topology)
        if self._topology.boot.records:
            self.kernel.kip.show_records(boot_records([server.command for server in servers.values()]))
        for name, server in servers.items():
            environment = self.kernel.environments.create(
                name,
                self._program(server),
                [self.kernel.machine.file(*file) for file in self._topology.files(server).values()],
                may_bind=self._may_bind(server),
                number=server.thread,
                keeps=server.restart == "always",
                budget=_budget(name, server),
            )
            self._settle(environment, server)
        self.kernel.kip.set_head(Head.KERNEL_PID, self.kernel.machine.pid)
        self.kernel.kip.set_head(Head.STATE, SystemState.UP)

    def _program(self, server: ServerConfig) -> Program:
        """Return what *server* runs."""
        kind = ProgramKind.PYTHON if server.is_file else ProgramKind.SERVER
        return Program(int(kind), server.argv, roles=tuple(map(int, self._topology.files(server))))

    def _may_bind(self, server: ServerConfig) -> frozenset[int]:
        """Thread numbers the server may call: those the topology names, and its own."""
        return frozenset(self._topology.server[name].thread for name in server.calls) | {server.thread}

    def _settle(self, environment: Environment, server: ServerConfig) -> None:
        """Give a new server what it holds, and the root task a capability to it."""
        environment.keeps = server.restart == "always"
        for kind in server.holds:
            for resource in self._rights.get(kind, ()):
                give(self.kernel.exposure, environment, resource)
        if not self._is_root(environment):
            root = self._roots.get(self._overseer)
            if root is not None and (root.alive or root.keeps):
                give(self.kernel.exposure, root, environment)
            return
        self._roots[environment.name] = environment
        if environment.name == self._overseer:
            for other in self.kernel.environments:
                if other.name in self._topology.server and not self._is_root(other):
                    give(self.kernel.exposure, environment, other)

    def _is_root(self, environment: Environment) -> bool:
        """Say whether *environment* is to be a root task, running or not."""
        return "factory" in self._topology.server[environment.name].holds

    def _ended(self, environment: Environment) -> None:
        if self._shutdown.began:
            self._shutdown.ended()
            return
        server = self._topology.server.get(environment.name)
        if server is None:
            return
        if server.start == "attach":
            self._say_end(environment, "it is to attach again")  # the process server has the record
        elif environment is not self._roots.get(environment.name):
            return
        elif environment.keeps:
            self._restart(environment, server)
        else:
            self._bury(environment, "it is not to be restarted")

    def _restart(self, root: Environment, server: ServerConfig) -> None:
        """Restart a root task: at once, or after longer and longer delays while its runs are short."""
        short, ran = self._short.get(root.name, 0), self._now() - root.started if root.pid else 0
        short = 0 if ran >= max(LASTED, _delay(short)) else short + 1
        self._short[root.name], delay = short, _delay(short)
        self._bury(root, f"restarted {f'in {delay / 1e9:g} s' if delay else 'at once'}", delay / 1e9)
        root.held = bool(delay)
        if delay:
            self._after(delay, lambda: self._succeed(root, server))
        else:
            self._succeed(root, server)

    def _succeed(self, root: Environment, server: ServerConfig) -> None:
        """Start the successor of *root*, unless it has one; if the host has no room for it, try again later."""
        if not root.keeps:
            return
        name = root.name
        try:
            heir = self._roots[name] = self.kernel.environments.succeed(root, self._program(server))
        except (Exhausted, Refused) as error:
            root.held = True
            self._log(f"{name} is not back yet: {error}")
            self._after(RESTART_AGAIN, lambda: self._succeed(root, server))
            return
        self._restarts[name] = self._restarts.get(name, 0) + 1
        if root.held:
            root.held = False
            self.kernel.environments.conclude(root)
        if name in self._heartbeats:
            self._heartbeats[name] = Heartbeat(self.kernel, heir, starting=True)

    def _bury(self, dead: Environment, then: str, next_try: float | None = None) -> None:
        """Log how *dead* ended and what follows, for people and for programs."""
        how = self._say_end(dead, then)
        obituary = Obituary(
            name=dead.name, thread=dead.thread, at_ns=self._now(), cause=how, status=dead.status,
            fault=int(dead.fault), restarts=self._restarts.get(dead.name, 0), next_try=next_try,
        )  # fmt: skip
        self._log(obituary.record)

    def _say_end(self, dead: Environment, then: str) -> str:
        how = cause(dead.status, dead.fault, dead.detail)
        self._log(f"{dead.name} ended ({how}): {then}")
        return how

    def _heartbeat(self, environment: Environment) -> None:
        """Note that a root task is there; its first word starts the watch over it."""
        heartbeat = self._heartbeats.get(environment.name)
        if environment is not self._roots.get(environment.name):
            refuse_heartbeat(environment)
        elif heartbeat is None or heartbeat.environment is not environment:
            self._heartbeats[environment.name] = Heartbeat(self.kernel, environment, starting=False)
        else:
            heartbeat.acknowledged()

    def _now(self) -> int:
        return self.kernel.machine.clock.now()

    def _after(self, delay: int, callback: Callable[[], None]) -> None:
        self.kernel.machine.clock.alarm(self._now() + delay, callback)

    def _attach(self, body: "Body", data: bytes) -> None:
        """Let in a program that was started elsewhere, by its identity."""
        try:
            attach = _ATTACH.decode(data)
            self._check_identity(body.uid, attach.secret)
            self._let_in(body, check_name(attach.name))
        except UNDECODABLE as error:
            self._send_away(body, Refused(Refusal.BAD_ARGUMENT, str(error)))
        except Refused as refused:
            self._send_away(body, refused)
        except Exhausted as exhausted:
            self._send_away(body, Refused(Refusal.HOST_FULL, str(exhausted)))

    def _check_identity(self, uid: int, secret: bytes) -> None:
        """Refuse a uid that programs may have too, unless the operators' secret comes with it."""
        if not self._operators.knows(uid, secret):
            raise Refused(Refusal.MAY_NOT_ATTACH, f"programs are uid {uid} too: show the operators' secret")

    def _let_in(self, body: "Body", name: str) -> None:
        server = self._topology.server.get(name)
        if server is not None:
            if body.uid != server.uid and body.uid not in self._operators.uids:
                raise Refused(
                    Refusal.MAY_NOT_ATTACH, f"uid {body.uid} is not {name}'s: see server.{name}.uid"
                )
            if server.start != "attach":
                raise Refused(Refusal.NAME_TAKEN, f"{name} is a server that the system starts by itself")
            environment = self.kernel.environments.adopt(
                body, name, server.thread, self._may_bind(server), _budget(name, server)
            )
            if not environment.table.used:
                self._settle(environment, server)
            elif "factory" in server.holds:
                self._roots[name] = environment
            self._log(f"{name} attached: uid {body.uid}, process {body.pid}")
        elif body.uid in self._operators.uids or body.uid in self._members():
            self.kernel.environments.names.check_free(name)
            self._check_attached(body.uid)
            budget = Budget(name, default_limits(server=False))
            budget.family = 0 if body.uid in self._operators.uids else None
            self.kernel.environments.adopt(body, name, None, frozenset(), budget)
        else:
            raise Refused(Refusal.MAY_NOT_ATTACH, f"uid {body.uid} may not attach: see attach.members")

    def _check_attached(self, uid: int) -> None:
        """Refuse a uid that is no operator's and has as many programs attached as a program may start."""
        attached = sum(each.uid == uid for each in self.kernel.environments if each.alive)
        if attached >= Item.CHILDREN.program and uid not in self._operators.uids:
            raise Refused(Refusal.OVER_BUDGET, f"{attached} programs of uid {uid} are attached: end some")

    def _members(self) -> set[int | None]:
        return {server.uid for server in self._topology.server.values()} | {*self._topology.attach.members}

    def _send_away(self, body: "Body", refused: Refused) -> None:
        answer = RefusedAnswer(int(refused.refusal), refused.detail)
        body.port.offer(bytes([Status.REFUSED]) + msgspec.msgpack.encode(answer))
        body.discard()

    def close(self) -> None:
        """Say that the system ends; the machine then ends every body."""
        self.kernel.kip.set_head(Head.STATE, SystemState.ENDING)
        self.kernel.machine.close()
        self.kernel.exposure.close()


def _operators(machine: "Machine", topology: Topology) -> Operators:
    """Return the operators. Where programs may lack uids of their own, they run under the kernel's."""
    common = machine.uid if "uid" in topology.confinement.may_lack else NO_UID
    return Operators((0, machine.uid, *topology.attach.operators), common, machine.secret)


def _budget(name: str, server: ServerConfig) -> Budget:
    return Budget(name, default_limits(server=True, wished=named(server.budget)))


def _delay(short: int) -> int:
    """Return how long to wait before a restart after so many short runs in a row, in ns."""
    return min(MAX_DELAY, FIRST_DELAY << min(short - 2, 16)) if short > 1 else 0

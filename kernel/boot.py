"""Boot, in order: the machine, the kernel on it, then the servers of the topology, each an environment.

    machine      RAM, processors, clock, interrupt lines        hwmodel.machine
    trace        the event ring                                 kernel.tracing
    kip          what is exposed to all                         kernel.kip
    frames       which frames are free                          kernel.frames, .memory
    environments the unit of protection                         kernel.environment, .environments, .lifecycle
    threads      ids and sockets for IPC                        kernel.threads
    bindings     the right to send                              kernel.bindings
    processors   slices and plans                               kernel.cpu
    interrupts   lines to threads                               kernel.interrupts
    upcalls      what the kernel tells environments             kernel.upcalls
    gate         decode, check, handle, answer                  kernel.gate, .dispatch
    records      what was booted, with which command lines      kernel.bootinfo
    loader       the servers, the root task's restart, attach   here

The loader gives each server what the topology says it holds. It restarts the root task, which restarts the
others, for which it gets a capability to each. The root task is who holds the factory. Where several do, each
is restarted here, and the last of them restarts the others: a server has one who answers for it.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from hwmodel.machine import Exhausted
from kernel.abi.errors import Refusal
from kernel.abi.gate import Attach, Status
from kernel.abi.gate import Refused as RefusedAnswer
from kernel.abi.kip import Head, SystemState
from kernel.abi.program import Program, ProgramKind, Role
from kernel.abi.topology import AttachConfig, ServerConfig, Topology, booted
from kernel.bootinfo import boot_records
from kernel.capability import give
from kernel.environment import Environment
from kernel.errors import Refused
from kernel.frames import Ram
from kernel.kernel import Kernel
from kernel.lifecycle import Factory, check_name

if TYPE_CHECKING:
    from hwmodel.machine import Body, Machine
    from kernel.thing import Thing

ROOT_RESTARTS = 5
"""How often a root task may end within ROOT_WINDOW: then something is wrong that a restart does not mend."""
ROOT_WINDOW = 10_000_000_000
RESTART_AGAIN = 100_000_000
"""When a restart is tried again for which the host had no room, in ns."""

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
        self._topology = topology
        self._factory = Factory()
        self._rights: dict[str, list[Thing]] = {
            "ram": [Ram(0, kernel.frames.total)],
            "cpus": list(kernel.processors),
            "factory": [self._factory],
            "interrupts": list(kernel.interrupts.lines),
        }
        self._roots: dict[str, Environment] = {}
        """Root tasks by name: the environments that hold the factory."""
        roots = [name for name, server in topology.server.items() if "factory" in server.holds]
        self._overseer = roots[-1] if roots else ""
        """Who restarts what the kernel does not."""
        self._root_ends: dict[str, deque[int]] = {}
        kernel.on_ended = self._ended
        kernel.on_attach = self._attach
        operators = (kernel.machine.uid, *topology.attach.operators)
        known = msgspec.structs.replace(topology, attach=AttachConfig(operators=operators))
        kernel.boot_info = msgspec.json.encode(known)

    def start(self) -> None:
        """Start every server that is started at boot, in the order of the topology."""
        servers = booted(self._topology)
        if self._topology.boot.records:
            self.kernel.kip.show_records(boot_records([server.command for server in servers.values()]))
        for name, server in servers.items():
            environment = self.kernel.environments.create(
                name,
                _program(server),
                [self.kernel.machine.file(path) for path in _files(server).values()],
                may_bind=self._may_bind(server),
                number=server.thread,
                keeps=server.restart == "always",
            )
            self._settle(environment, server)
        self.kernel.kip.set_head(Head.KERNEL_PID, self.kernel.machine.pid)
        self.kernel.kip.set_state(SystemState.UP)

    def _may_bind(self, server: ServerConfig) -> frozenset[int]:
        """Whom the server may call: those the topology names, and itself."""
        return frozenset(self._topology.server[name].thread for name in server.calls) | {server.thread}

    def _settle(self, environment: Environment, server: ServerConfig) -> None:
        """Give a server, new to the system, what it holds; who restarts the others gets a capability to each."""
        environment.keeps = server.restart == "always"
        for kind in server.holds:
            for thing in self._rights[kind]:
                give(self.kernel, environment, thing)
        if not self._is_root(environment):
            root = self._roots.get(self._overseer)
            if root is not None and (root.alive or root.keeps):
                give(self.kernel, root, environment)
            return
        self._roots[environment.name] = environment
        if environment.name == self._overseer:
            for other in self.kernel.environments:
                if other.name in self._topology.server and not self._is_root(other):
                    give(self.kernel, environment, other)

    def _is_root(self, environment: Environment) -> bool:
        """Say whether *environment* is to be a root task, running or not."""
        return "factory" in self._topology.server[environment.name].holds

    def _ended(self, environment: Environment) -> None:
        server = self._topology.server.get(environment.name)
        if server is None:
            return
        if server.start == "attach":
            self.kernel.log(f"{environment.name} ended ({environment.status}): it is to attach again")
        elif environment is not self._roots.get(environment.name):
            return
        elif environment.keeps:
            self._restart(environment, server)
        else:
            self.kernel.log(f"{environment.name} ended ({environment.status}): it is not to be restarted")

    def _succeed(self, root: Environment, server: ServerConfig) -> None:
        """Start the successor of *root*, again and again while the host has no room."""
        try:
            self._roots[root.name] = self.kernel.environments.succeed(root, _program(server))
        except (Exhausted, Refused) as error:
            self.kernel.log(f"{root.name} cannot be restarted yet: {error}")
            clock = self.kernel.machine.clock
            clock.alarm(clock.now() + RESTART_AGAIN, lambda: self._succeed(root, server))

    def _restart(self, root: Environment, server: ServerConfig) -> None:
        """Restart a root task, unless it ends again and again: then the system stops."""
        now = self.kernel.machine.clock.now()
        ends = self._root_ends.setdefault(root.name, deque(maxlen=ROOT_RESTARTS))
        if len(ends) == ROOT_RESTARTS and now - ends[0] < ROOT_WINDOW:
            self.kernel.log(f"{root.name} ended {ROOT_RESTARTS + 1} times in a row: the system stops")
            self.kernel.machine.stop()
            return
        ends.append(now)
        self.kernel.log(f"{root.name} ended ({root.status}): restarted")
        self._succeed(root, server)

    def _attach(self, body: "Body", data: bytes) -> None:
        """Let a program in that was started elsewhere, by who it is."""
        try:
            name = check_name(_ATTACH.decode(data).name)
            self._let_in(body, name)
        except msgspec.DecodeError as error:
            self._send_away(body, Refused(Refusal.BAD_ARGUMENT, str(error)))
        except Refused as refused:
            self._send_away(body, refused)
        except Exhausted as exhausted:
            self._send_away(body, Refused(Refusal.HOST_FULL, str(exhausted)))

    def _let_in(self, body: "Body", name: str) -> None:
        server = self._topology.server.get(name)
        if server is not None:
            if body.uid != server.uid and not self._is_operator(body.uid):
                raise Refused(
                    Refusal.MAY_NOT_ATTACH, f"uid {body.uid} is not {name}'s: see server.{name}.uid"
                )
            environment = self.kernel.environments.adopt(body, name, server.thread, self._may_bind(server))
            if not environment.table.used:
                self._settle(environment, server)
            elif "factory" in server.holds:
                self._roots[name] = environment
            self.kernel.log(f"{name} attached: uid {body.uid}, process {body.pid}")
        elif self._is_operator(body.uid) or body.uid in self._members():
            self.kernel.environments.adopt(body, name, None, frozenset())
        else:
            raise Refused(Refusal.MAY_NOT_ATTACH, f"uid {body.uid} may not attach: see attach.members")

    def _members(self) -> set[int | None]:
        return {server.uid for server in self._topology.server.values()} | {*self._topology.attach.members}

    def _is_operator(self, uid: int) -> bool:
        return uid in (0, self.kernel.machine.uid, *self._topology.attach.operators)

    def _send_away(self, body: "Body", refused: Refused) -> None:
        answer = RefusedAnswer(int(refused.refusal), refused.detail)
        body.port.offer(bytes([Status.REFUSED]) + msgspec.msgpack.encode(answer))
        body.discard()

    def close(self) -> None:
        """Say that the system ends; the machine then ends every body."""
        self.kernel.kip.set_state(SystemState.ENDING)
        self.kernel.machine.close()
        self.kernel.close()


def _program(server: ServerConfig) -> Program:
    """Return what *server* runs."""
    kind = ProgramKind.PYTHON if server.is_file else ProgramKind.SERVER
    return Program(int(kind), server.argv, roles=tuple(map(int, _files(server))))


def _files(server: ServerConfig) -> dict[Role, str]:
    """Return the files of the host that *server* is read from, by their role."""
    paths = {Role.SOURCE: server.module if server.is_file else "", Role.IMPORTS: server.imports}
    return {role: path for role, path in paths.items() if path}

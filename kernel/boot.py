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
    loader       the servers, the root task's restart, attach   here

The loader gives each server what the topology says it holds. It restarts one of them, the root task, which
restarts the others.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import Attach, Status
from kernel.abi.gate import Refused as RefusedAnswer
from kernel.abi.kip import Head, SystemState
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import AttachConfig, ServerConfig, Topology
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
"""How often the root task may end within ROOT_WINDOW: then something is wrong that a restart does not mend."""
ROOT_WINDOW = 10_000_000_000

_ATTACH = msgspec.msgpack.Decoder(Attach)


def boot(machine: "Machine", topology: Topology, log: Callable[[str], None]) -> "Loader":
    """Build the kernel on *machine* and start the servers of *topology*."""
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
        self._root: Environment | None = None
        self._root_ends: deque[int] = deque(maxlen=ROOT_RESTARTS)
        kernel.on_ended = self._ended
        kernel.on_attach = self._attach
        operators = (kernel.machine.uid, *topology.attach.operators)
        known = msgspec.structs.replace(topology, attach=AttachConfig(operators=operators))
        kernel.boot_info = msgspec.json.encode(known)

    def start(self) -> None:
        """Start every server that is started at boot, in the order of the topology."""
        for name, server in self._topology.server.items():
            if server.start == "boot":
                environment = self.kernel.environments.create(
                    name,
                    self._program(server),
                    [],
                    may_bind=self._may_bind(server),
                    number=server.thread,
                )
                self._settle(environment, server)
        self.kernel.kip.set_head(Head.KERNEL_PID, self.kernel.machine.pid)
        self.kernel.kip.set_state(SystemState.UP)

    def _program(self, server: ServerConfig) -> Program:
        return Program(ProgramKind.SERVER, (server.module,))

    def _may_bind(self, server: ServerConfig) -> frozenset[int]:
        """Whom the server may call: those the topology names, and itself."""
        return frozenset(self._topology.server[name].thread for name in server.calls) | {server.thread}

    def _settle(self, environment: Environment, server: ServerConfig) -> None:
        """Give a server, new to the system, what it holds; the root task gets a capability to every server."""
        environment.keeps = server.restart == "always"
        for kind in server.holds:
            for thing in self._rights[kind]:
                give(self.kernel, environment, thing)
        if "factory" in server.holds:
            self._root = environment
            for other in self.kernel.environments:
                if other is not environment and other.name in self._topology.server:
                    give(self.kernel, environment, other)
        elif self._root is not None:
            give(self.kernel, self._root, environment)

    def _ended(self, environment: Environment) -> None:
        server = self._topology.server.get(environment.name)
        if server is not None and server.start == "attach":
            self.kernel.log(f"{environment.name} ended ({environment.status}): it is to attach again")
        if environment is not self._root or not self._is_ours_to_restart(environment):
            return
        now = self.kernel.machine.clock.now()
        if len(self._root_ends) == ROOT_RESTARTS and now - self._root_ends[0] < ROOT_WINDOW:
            self.kernel.log(f"{environment.name} ended {ROOT_RESTARTS + 1} times in a row: the system stops")
            self.kernel.machine.stop()
            return
        self._root_ends.append(now)
        self.kernel.log(f"{environment.name} ended ({environment.status}): restarted")
        server = self._topology.server[environment.name]
        self._root = self.kernel.environments.succeed(environment, self._program(server))

    def _is_ours_to_restart(self, root: Environment) -> bool:
        """Say whether *root* is to be restarted, and by the kernel: not by whoever attached it."""
        return root.keeps and self._topology.server[root.name].start == "boot"

    def _attach(self, body: "Body", data: bytes) -> None:
        """Let a program in that was started elsewhere, by who it is."""
        try:
            name = check_name(_ATTACH.decode(data).name)
            self._let_in(body, name)
        except msgspec.DecodeError as error:
            self._send_away(body, Refused(Refusal.BAD_ARGUMENT, str(error)))
        except Refused as refused:
            self._send_away(body, refused)

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
                self._root = environment
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
        body.port.send(bytes([Status.REFUSED]) + msgspec.msgpack.encode(answer))
        body.discard()

    def close(self) -> None:
        """Say that the system ends; the machine then ends every body."""
        self.kernel.kip.set_state(SystemState.ENDING)
        self.kernel.machine.close()
        self.kernel.close()

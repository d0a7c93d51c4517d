"""`system.toml`: the machine, the servers, who may call whom, and when an ended server is restarted."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from kernel.abi.ids import USER_BASE
from kernel.abi.limits import FRAME_SIZE, MAX_CPUS, MAX_NAME

_SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.-]*$", max_length=MAX_NAME)]


class TopologyError(ValueError):
    """The configuration is wrong; the text says where and what to write instead."""


class MachineConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The machine to boot on."""

    memory: str = "256 MiB"
    """Physical RAM: a number and KiB, MiB or GiB."""
    cpus: tuple[Annotated[int, msgspec.Meta(ge=-64, lt=1024)], ...] = (-1,)
    """Host cores that run plans; negative numbers count from the last core."""
    tick_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0
    """Period of interrupt line 0, the timer; 0: it does not run."""

    def frames(self) -> int:
        """Return the number of frames of RAM."""
        return parse_size(self.memory) // FRAME_SIZE


class Confinement(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What programs may start without, where the host lacks it."""

    may_lack: tuple[Literal["uid", "no_new_privs", "dumpable", "landlock", "seccomp"], ...] = ()


class AttachConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Who may attach to a running system from outside."""

    operators: tuple[int, ...] = ()
    """Uids beside root and the kernel's own that may attach and command the system."""
    members: tuple[int, ...] = ()
    """Uids that may attach as plain programs, beside operators and the uids of servers."""


class ServerConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One server."""

    module: str
    """Package with a `__main__`, or `module:Class`."""
    thread: Annotated[int, msgspec.Meta(ge=USER_BASE, lt=1 << 18)]
    """Thread number."""
    importance: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Servers call only more important ones (a smaller number): calls cannot go round in a circle."""
    holds: tuple[Literal["ram", "cpus", "factory", "interrupts"], ...] = ()
    calls: tuple[Name, ...] = ()
    restart: Literal["always", "never"] = "always"
    start: Literal["boot", "attach"] = "boot"
    uid: int | None = None
    """The uid it attaches with, when started elsewhere."""


class Topology(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole of `system.toml`."""

    machine: MachineConfig = MachineConfig()
    confinement: Confinement = Confinement()
    attach: AttachConfig = AttachConfig()
    server: dict[Name, ServerConfig] = {}


def parse_size(text: str) -> int:
    """Return the bytes *text* means: ``"256 MiB"``. Raises TopologyError."""
    match = re.fullmatch(r"\s*(\d+)\s*(|KiB|MiB|GiB)\s*", text)
    if match is None or int(match[1]) == 0:
        raise TopologyError(f"{text!r} is no size: write a number and KiB, MiB or GiB, such as '256 MiB'")
    return int(match[1]) * _SIZES[match[2]]


def load(path: Path) -> Topology:
    """Read and check *path*. Raises TopologyError that names the file, the place and the remedy."""
    try:
        raw: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        topology = msgspec.convert(raw, Topology)
    except OSError as error:
        raise TopologyError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise TopologyError(f"{path}: {error}") from error
    check(topology, str(path))
    return topology


def check(topology: Topology, where: str = "topology") -> None:
    """Check what the types cannot say. Raises TopologyError."""
    if topology.machine.frames() < 1:
        raise TopologyError(f"{where}: machine.memory is less than one frame of {FRAME_SIZE} bytes")
    if not 1 <= len(topology.machine.cpus) <= MAX_CPUS:
        raise TopologyError(
            f"{where}: machine.cpus names {len(topology.machine.cpus)} cores, 1..{MAX_CPUS} can be"
        )
    numbers: dict[int, str] = {}
    for name, server in topology.server.items():
        if (other := numbers.setdefault(server.thread, name)) != name:
            raise TopologyError(
                f"{where}: servers {other} and {name} both have thread number {server.thread}"
            )
        for callee in server.calls:
            _check_call(where, name, server, callee, topology)


def _check_call(where: str, name: str, server: ServerConfig, callee: str, topology: Topology) -> None:
    """A call goes to a server there is, and uphill: never to a less important one."""
    target = topology.server.get(callee)
    if target is None:
        raise TopologyError(
            f"{where}: server.{name} calls {callee!r}, which is no server: add [server.{callee}]"
        )
    if target.importance >= server.importance:
        raise TopologyError(
            f"{where}: server.{name} (importance {server.importance}) may not call {callee} "
            f"(importance {target.importance}): calls go to a smaller importance only"
        )

"""`system.toml`: the machine, the servers, the calls they may make, and their restarts."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from kernel.abi.bootinfo import MAX_COMMANDS, MAX_MODULES
from kernel.abi.budget import named
from kernel.abi.ids import FIRST_PROGRAM, USER_BASE
from kernel.abi.limits import FRAME_SIZE, MAX_CPUS, MAX_NAME, MAX_THREADS
from kernel.abi.program import Role

_SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.-]*$", max_length=MAX_NAME)]

Right = Literal["ram", "cpus", "factory", "interrupts", "swap"]
"""What a server may hold from the start."""


class TopologyError(ValueError):
    """The configuration is wrong; the text says where, and what to write instead."""


class MachineConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The machine to boot on."""

    memory: str = "256 MiB"
    """Physical RAM: a number and KiB, MiB or GiB."""
    cpus: tuple[Annotated[int, msgspec.Meta(ge=-64, lt=1024)], ...] = (-1,)
    """Host cores that run plans; negative numbers count from the last core."""
    grace: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0
    """Seconds that programs, and then servers, get to end when the system is asked to."""
    tick_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0
    """Period of interrupt line 0, the timer; 0: it does not run."""
    swap: str = ""
    """A directory of the host, where the machine makes a file for pages that are not in memory; empty: none.

    The file has no name, so that nothing is left of it when the system has ended, however it ended.
    """
    swap_size: str = "1 GiB"
    """Size of that file, which the host is asked for at boot."""

    def frames(self) -> int:
        """Return the number of frames of RAM."""
        return parse_size(self.memory) // FRAME_SIZE


class Confinement(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Layers that programs may start without, where the host lacks them."""

    may_lack: tuple[Literal["uid", "no_new_privs", "dumpable", "landlock", "seccomp"], ...] = ()


class AttachConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Users who may attach to a running system from outside."""

    operators: tuple[int, ...] = ()
    """Uids beside root and the kernel's own that may attach and command the system."""
    members: tuple[int, ...] = ()
    """Uids that may attach as plain programs, beside operators and the uids of servers."""


class ServerConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One server."""

    module: str
    """Package with a `__main__`, or `module:Class`, or the path of a Python file.

    All are found beside the file that names them.
    """
    thread: Annotated[int, msgspec.Meta(ge=USER_BASE, lt=MAX_THREADS)]
    """Thread number."""
    importance: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Servers call only more important ones (a smaller number): calls cannot go round in a circle."""
    holds: tuple[Right, ...] = ()
    calls: tuple[Name, ...] = ()
    restart: Literal["always", "never"] = "always"
    start: Literal["boot", "attach"] = "boot"
    uid: int | None = None
    """The uid it attaches with, when started elsewhere."""
    arguments: tuple[str, ...] = ()
    """Its arguments, behind the module on its command line."""
    imports: str = ""
    """A directory searched for its modules first; that of the topology, where its module is there."""
    heartbeat: bool = True
    """Once it answered a heartbeat it must go on answering, or is ended; plain X.2 programs answer none."""
    budget: dict[str, Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]] = {}
    """Limits by item (`kernel.abi.budget`) that differ from those of every server."""

    @property
    def is_file(self) -> bool:
        """Whether its module is the path of a Python file."""
        return "/" in self.module

    @property
    def may_end(self) -> bool:
        """Whether it is a program rather than a server: a file that is not restarted may run to its end."""
        return self.is_file and self.restart == "never"

    @property
    def argv(self) -> tuple[str, ...]:
        """Its `sys.argv`."""
        return (self.module, *self.arguments)

    @property
    def command(self) -> str:
        """Its command line in the boot records: packages by their path, as `kickstart` takes them."""
        module = self.module if self.is_file or ":" in self.module else self.module.replace(".", "/")
        return shlex.join((module, *self.arguments))


class BootConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the boot loader leaves behind."""

    records: bool = True
    """Boot records in the kernel interface page: a module for each server, with its command line."""


class Topology(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole of `system.toml`."""

    machine: MachineConfig = MachineConfig()
    confinement: Confinement = Confinement()
    attach: AttachConfig = AttachConfig()
    boot: BootConfig = BootConfig()
    server: dict[Name, ServerConfig] = {}

    def files(self, server: ServerConfig) -> dict[Role, tuple[str, int]]:
        """Return what the machine is to open for *server*: paths, and the size of what is made there or 0."""
        found = {Role.SOURCE: (server.module if server.is_file else "", 0), Role.IMPORTS: (server.imports, 0)}
        if "swap" in server.holds and self.machine.swap:
            found[Role.SWAP] = self.machine.swap, parse_size(self.machine.swap_size)
        return {role: file for role, file in found.items() if file[0]}


def parse_size(text: str) -> int:
    """Return the bytes that *text*, such as ``"256 MiB"``, stands for. Raises TopologyError."""
    match = re.fullmatch(r"\s*(\d+)\s*(|KiB|MiB|GiB)\s*", text)
    if match is None or int(match[1]) == 0:
        raise TopologyError(f"{text!r} is not a size: write a number and KiB, MiB or GiB, such as '256 MiB'")
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
    topology = _beside(topology, path.parent.resolve())
    check(topology, str(path))
    return topology


def _beside(topology: Topology, directory: Path) -> Topology:
    """Return *topology* with its files and modules found in *directory*, that of its file."""
    servers = {name: _found(server, directory) for name, server in topology.server.items()}
    swap = topology.machine.swap and str(directory / topology.machine.swap)
    machine = msgspec.structs.replace(topology.machine, swap=swap)
    return msgspec.structs.replace(topology, server=servers, machine=machine)


def _found(server: ServerConfig, directory: Path) -> ServerConfig:
    module, imports = server.module, server.imports and str(directory / server.imports)
    if module.endswith(".py") or "/" in module:
        path = directory / module
        return msgspec.structs.replace(server, module=str(path), imports=imports or str(path.parent))
    top = module.partition(":")[0].partition(".")[0]
    own = (directory / top, directory / f"{top}.py")
    # Those of this tree are found anyway: a directory called so is most likely the tree itself.
    if not imports and top != "servers" and any(path.exists() for path in own):
        imports = str(directory)
    return msgspec.structs.replace(server, imports=imports)


def check(topology: Topology, where: str = "topology") -> None:
    """Check what the types cannot say. Raises TopologyError."""
    if topology.machine.frames() < 1:
        raise TopologyError(f"{where}: machine.memory is less than one frame of {FRAME_SIZE} bytes")
    if not 1 <= len(topology.machine.cpus) <= MAX_CPUS:
        raise TopologyError(
            f"{where}: machine.cpus names {len(topology.machine.cpus)} cores: name 1..{MAX_CPUS}"
        )
    if twice := [core for core in topology.machine.cpus if topology.machine.cpus.count(core) > 1]:
        raise TopologyError(
            f"{where}: machine.cpus names core {twice[0]} twice: each processor has one of its own"
        )
    _check_modules(where, topology)
    _check_holders(where, topology)
    numbers: dict[int, str] = {}
    for name, server in topology.server.items():
        if server.thread >= FIRST_PROGRAM:
            raise TopologyError(
                f"{where}: server.{name} has thread number {server.thread}, which is a program's: "
                f"those of servers are {USER_BASE}..{FIRST_PROGRAM - 1}"
            )
        if (other := numbers.setdefault(server.thread, name)) != name:
            raise TopologyError(
                f"{where}: servers {other} and {name} both have thread number {server.thread}"
            )
        _check_budget(where, name, server)
        for callee in server.calls:
            _check_call(where, name, server, callee, topology)


def booted(topology: Topology) -> dict[str, ServerConfig]:
    """Return the servers the boot loader starts, by name, in their order."""
    return {name: server for name, server in topology.server.items() if server.start == "boot"}


def _check_modules(where: str, topology: Topology) -> None:
    """Check that the booted servers fit into the boot records."""
    commands = [server.command for server in booted(topology).values()]
    size = sum(len(command.encode()) + 1 for command in commands)
    if len(commands) > MAX_MODULES:
        raise TopologyError(f"{where}: {len(commands)} servers start at boot: at most {MAX_MODULES} can")
    if size > MAX_COMMANDS:
        raise TopologyError(
            f"{where}: the command lines of what is booted have {size} bytes, at most {MAX_COMMANDS} fit"
        )
    for name, server in topology.server.items():
        if "\0" in "".join((server.module, *server.arguments, server.imports)):
            raise TopologyError(f"{where}: server.{name} has a zero byte in its module or arguments")
        for path in filter(None, (server.module if server.is_file else "", server.imports)):
            if not path.startswith("/"):
                raise TopologyError(f"{where}: server.{name} names {path!r}: a path begins with /")


def _check_budget(where: str, name: str, server: ServerConfig) -> None:
    try:
        named(server.budget)
    except ValueError as error:
        raise TopologyError(f"{where}: server.{name}.budget: {error}") from None


def _check_holders(where: str, topology: Topology) -> None:
    """Check that RAM, each processor and the swap file have one holder, and that there is one to hold."""
    if parse_size(topology.machine.swap_size) % FRAME_SIZE:
        raise TopologyError(
            f"{where}: machine.swap_size is {topology.machine.swap_size!r}: write a multiple of {FRAME_SIZE} bytes"
        )
    for right in ("ram", "cpus", "swap"):
        holders = [name for name, server in topology.server.items() if right in server.holds]
        if len(holders) > 1:
            raise TopologyError(
                f"{where}: servers {' and '.join(holders)} both hold {right!r}: let one hold it"
            )


def _check_call(where: str, name: str, server: ServerConfig, callee: str, topology: Topology) -> None:
    """Check that a call goes to a server that exists, and never to a less important one."""
    target = topology.server.get(callee)
    if target is None:
        raise TopologyError(
            f"{where}: server.{name} calls {callee!r}, which is not a server: add [server.{callee}]"
        )
    if target.importance >= server.importance:
        raise TopologyError(
            f"{where}: server.{name} (importance {server.importance}) may not call {callee} "
            f"(importance {target.importance}): calls go to a smaller importance only"
        )


def dump(topology: Topology) -> str:
    """Return *topology* as text which `load` reads as the same again."""
    return "\n".join(_tables("", msgspec.to_builtins(topology))) + "\n"


def _tables(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one TOML table, then those of the tables in it."""
    if name:
        yield f"[{name}]"
    for key, value in table.items():
        if value is not None and not isinstance(value, dict):
            # JSON's strings, numbers, booleans and lists are TOML's too, but for one character.
            text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            yield f"{key} = {text}"
    for key, value in table.items():
        if isinstance(value, dict):
            quoted = json.dumps(key)
            yield from _tables(f"{name}.{quoted}" if name else quoted, value)

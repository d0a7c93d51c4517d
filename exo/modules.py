"""The modules of a kickstart, and the topology they make.

Rights go by place, as in X.2. sigma0 holds all RAM and is thread 96 (UserBase); the root task may create
environments, and is thread 98 unless it is sigma0 too. Beyond that a server of this tree holds, and calls,
what the base topology gives it, so `servers/scheduler` holds the processors, and `servers/process` may create
environments even if it is not the root task. All other modules hold nothing, and may call the
modules before them and every server of this tree. All may call sigma0.

Servers of this tree and classes are restarted as the base topology says, or always: those that may create
environments by the kernel, the others by the last of those, if it does so, as the process server does. A Python
file is a program that may come to its end, and is not restarted.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec

from exo.system import Trouble
from kernel.abi.ids import FIRST_PROGRAM, USER_BASE
from kernel.abi.limits import FRAME_SIZE, MAX_NAME
from kernel.abi.topology import BootConfig, Right, ServerConfig, Topology, TopologyError, check

MEMORY = "servers.memory"
SIGMA0, ROOT, FIRST_OTHER = USER_BASE, USER_BASE + 2, USER_BASE + 3
"""Thread numbers by X.2; the one between is sigma1's, which does not exist here."""
CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
NO_NAME = re.compile(r"[^a-z0-9_.-]+")
ELF = b"\x7fELF"


class Module(NamedTuple):
    """One module of the command line."""

    target: str
    """As `ServerConfig.module` has it."""
    arguments: tuple[str, ...] = ()
    imports: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is a Python file."""
        return "/" in self.target

    @property
    def name(self) -> str:
        """Its name: its file's, its package's, or that of the class's module."""
        bare = Path(self.target).stem if self.is_file else self.target.partition(":")[0].rpartition(".")[2]
        name = NO_NAME.sub("-", bare.lower()).strip("-")
        return (name if name[:1].isalpha() else f"m{name}")[: MAX_NAME - 3]


class Boot(NamedTuple):
    """The contents of a kickstart line."""

    modules: tuple[Module, ...]
    """In the order in which they are started."""
    sigma0: int
    """The one among them that is sigma0."""
    root: int
    """The one that is the root task; it may be sigma0."""
    maxmem: int | None = None
    """Bytes of RAM at most."""
    records: bool = True
    """Whether boot records are written."""


def resolve(text: str, directory: Path) -> Module:
    """Return the module that *text* names, with its arguments; files are found from *directory*. Raises Trouble."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Trouble(f"the module {text!r} cannot be split into words: {error}", 2) from None
    if not words:
        raise Trouble("a module is empty: write servers/NAME, a Python file, or module:Class", 2)
    first, arguments = words[0], tuple(words[1:])
    if CLASS.fullmatch(first):
        return Module(_find_class(first, directory), arguments, str(directory))
    if first.startswith("servers/") and not first.endswith(".py"):
        return Module(_find_server(first), arguments)
    path = _find_file(first, directory)
    return Module(str(path), arguments, str(path.parent))


def servers() -> list[str]:
    """Return the names of the servers of this tree."""
    spec = find_spec("servers")
    folders = spec.submodule_search_locations if spec is not None else None
    return sorted(path.parent.name for folder in folders or () for path in Path(folder).glob("*/__main__.py"))


def _find_server(path: str) -> str:
    name = path.removeprefix("servers/").rstrip("/")
    if name not in servers():
        known = ", ".join(f"servers/{each}" for each in servers())
        raise Trouble(f"there is no server {path!r}: there are {known}")
    return f"servers.{name}"


def _find_class(target: str, directory: Path) -> str:
    """Check that the module can be found; it is not imported here."""
    top = target.partition(":")[0].partition(".")[0]
    if PathFinder.find_spec(top, [str(directory)]) is None and PathFinder.find_spec(top) is None:
        raise Trouble(f"cannot boot {target}: there is no module {top!r} in {directory}")
    return target


def _find_file(name: str, directory: Path) -> Path:
    path = (directory / name).resolve()
    if not path.is_file():
        raise Trouble(f"there is no module {name!r}: write servers/NAME, a Python file, or module:Class")
    with path.open("rb") as file:
        if file.read(len(ELF)) == ELF:
            raise Trouble(f"{name} is an executable of the host: a module is a Python file here")
    return path


def arrange(modules: Sequence[Module], *, positional: bool) -> Boot:
    """Assign the roles: *modules* are sigma0, root task, rest; or, if not *positional*, root task, rest.

    In that second form sigma0 is the memory server: the one among the modules, or one more that is started
    before them. Raises Trouble.
    """
    places = [index for index, module in enumerate(modules) if module.target == MEMORY]
    twice = [module.target for index, module in enumerate(modules) if _is_again(module, modules[:index])]
    if twice:
        raise Trouble(f"{twice[0].replace('.', '/')} is given twice: there is one of each server", 2)
    if not positional:
        if places:
            return Boot(tuple(modules), places[0], 0)
        return Boot((Module(MEMORY), *modules), 0, 1)
    if places and places[0]:
        raise Trouble("all RAM is sigma0's: servers/memory can only be module 1, which is sigma0", 2)
    return Boot(tuple(modules), 0, 1)


def _is_again(module: Module, before: Iterable[Module]) -> bool:
    """Say whether *module* is a server of this tree that is among those *before*."""
    return module.target.startswith("servers.") and any(module.target == each.target for each in before)


def topology(base: Topology, boot: Boot) -> Topology:
    """Return the topology that boots *boot*, with machine, confinement and servers as in *base*. Raises Trouble."""
    known = {server.module: server for server in base.server.values()}
    names = _names(boot.modules)
    threads = _threads(boot, known)
    ranks = _ranks(boot, known)
    made: dict[str, ServerConfig] = {}
    for index, (name, module) in enumerate(zip(names, boot.modules, strict=True)):
        like = known.get(module.target)
        may = _callees(base, like)
        calls = [
            other
            for place, other in enumerate(names)
            if ranks[place] < ranks[index]
            and (like is None or place == boot.sigma0 or boot.modules[place].target in may)
        ]
        holds: set[Right] = {*(like.holds if like is not None else ())} - {"ram"}
        holds |= {"ram"} if index == boot.sigma0 else set()
        holds |= {"factory"} if index == boot.root else set()
        made[name] = ServerConfig(
            module.target,
            threads[index],
            ranks[index],
            tuple(sorted(holds)),
            tuple(calls),
            "never" if module.is_file else like.restart if like is not None else "always",
            arguments=module.arguments,
            imports=module.imports,
            heartbeat=like.heartbeat if like is not None else not module.is_file,
        )
    memory = base.machine.memory
    if boot.maxmem is not None and boot.maxmem // FRAME_SIZE < base.machine.frames():
        memory = f"{boot.maxmem // FRAME_SIZE * FRAME_SIZE // 1024} KiB"
    result = Topology(
        msgspec.structs.replace(base.machine, memory=memory),
        base.confinement,
        base.attach,
        BootConfig(boot.records),
        made,
    )
    try:
        check(result, "kickstart")
    except TopologyError as error:
        raise Trouble(str(error)) from None
    return result


def _names(modules: Sequence[Module]) -> list[str]:
    """Return a name for each module, no two the same."""
    names: list[str] = []
    for module in modules:
        name, count = module.name, 1
        while name in names:
            count += 1
            name = f"{module.name}-{count}"
        names.append(name)
    return names


def _threads(boot: Boot, known: dict[str, ServerConfig]) -> list[int]:
    """Return a thread number for each module: by its place, or as in the base topology, or the next."""
    threads = dict.fromkeys(range(len(boot.modules)), 0)
    threads[boot.root] = ROOT
    threads[boot.sigma0] = SIGMA0
    for index, module in enumerate(boot.modules):
        like = known.get(module.target)
        if not threads[index] and like is not None and like.thread not in (*threads.values(), SIGMA0, ROOT):
            threads[index] = like.thread
    free = (number for number in range(FIRST_OTHER, FIRST_PROGRAM) if number not in threads.values())
    return [threads[index] or next(free) for index in range(len(boot.modules))]


def _ranks(boot: Boot, known: dict[str, ServerConfig]) -> list[int]:
    """Return the importance of each module: calls go to a smaller one only."""
    top = max((server.importance for server in known.values()), default=0) + 1
    ranks = []
    for index, module in enumerate(boot.modules):
        like = known.get(module.target)
        own = top + 1 + index if like is None else like.importance + 1
        ranks.append(0 if index == boot.sigma0 else own)
    return ranks


def _callees(base: Topology, like: ServerConfig | None) -> set[str]:
    """Return the modules that a server of the base topology calls."""
    return {base.server[name].module for name in like.calls} if like is not None else set()

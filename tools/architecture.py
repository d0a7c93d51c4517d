#!/usr/bin/env python3
"""The shape of the source, held true: layers, seams, sizes, words, numbers.

A *rule* is a function from sources to violations, each ``file:line: what is wrong; what to do``. The tables
are the design's import rules as data. tests/test_architecture.py runs the rules on the tree, and shows that
each catches its violations; its table of broken samples is the quickest way to learn what a rule means. As a
program, this prints the violations.
"""

import ast
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernel", "hwmodel", "libexo", "servers", "exo")
FOLDERS = (*PACKAGES, "examples", "bench", "tools", "tests")
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 60

VOCABULARY = "(vocabulary of libexo)"
"""Stands for the modules of libexo that import nothing of ours but `kernel.abi` and one another."""

LAYERS: Mapping[str, tuple[str, ...]] = {
    # module: what it may import of ours; the first row that fits a module counts; {self} is its own server
    "kernel.abi": ("kernel.abi",),
    "kernel": ("kernel", "hwmodel"),
    "hwmodel": ("hwmodel", "kernel.abi"),
    "libexo.testing": ("libexo", "kernel", "hwmodel"),  # the one exception: it boots simulated systems
    "libexo.services": ("libexo", "kernel.abi", "servers.*.api"),  # here libexo asks servers, nowhere else
    "libexo": ("libexo", "kernel.abi"),
    "servers.*.api": ("kernel.abi", "libexo.stub", VOCABULARY),
    "servers.scheduler.trial": ("libexo", "kernel", "hwmodel", "{self}"),  # the processor without a system
    "servers": ("libexo", "kernel.abi", "servers.*.api", "{self}"),
    "exo": ("exo", "libexo", "kernel.abi", "servers.*.api"),  # it starts `python -m kernel`, no import
    "examples": ("libexo", "kernel.abi", "servers"),  # a policy of one's own extends its server
}
GATEWAYS = re.compile(r"kernel|servers(\.\w+)?")
"""Packages whose `__init__` runs when `kernel.abi` or an `api` is imported: it imports nothing of ours."""

LADDERS = PACKAGES
"""Packages in which no file imports one that imports it, directly or by way of others."""

SEAMS = ("hwmodel.real", "libexo.host", "libexo.launch", "libexo.transport", "exo")
"""Where the host may be touched; bench/, tools/, tests/ and examples/ are outside the system altogether."""
HOST_MODULES = frozenset(
    {"time", "random", "secrets"}  # clock and luck
    | {"socket", "select", "selectors", "signal"}  # descriptors and what comes over them
    | {"subprocess", "multiprocessing", "threading"}  # more than one line of control
    | {"mmap"}  # the host's memory
)
HOST_CALLS = frozenset({"open", "pipe", "pipe2", "eventfd", "memfd_create", "fork", "kill", "urandom"})
"""Of `os`."""
ALLOWED: Mapping[tuple[str, str], str] = {  # module, import: the reason
    ("hwmodel.failures", "random"): "the schedule of failures is drawn from a seed",
    ("hwmodel.simulated", "random"): "so is the order in which its environments run",
    ("hwmodel.simulated", "threading"): "its environments are threads, of which one runs at a time",
    ("libexo.workload", "random"): "what described programs do by chance is drawn from a seed",
    ("servers.scheduler.policies.lottery", "random"): "who wins is drawn, from a seed if one is given",
    ("libexo.kip", "mmap"): "tools read the published page of a system that they do not attach to",
    ("libexo.kip", "time"): "they wait a moment for a row that is being written",
    ("libexo.environment", "threading"): "whose thread calls, and a lock for what they share",
    ("libexo.lending", "threading"): "threads of the host are lent a thread each, one after another",
    ("libexo.heap", "threading"): "a lock for what several threads allocate from",
    ("libexo.ipc.plain", "threading"): "whose strand calls",
    ("libexo.stub.repeating", "signal"): "only the numbers, by which ends are told",
    ("libexo.l4", "threading"): "each thread of execution has virtual registers of its own",
    ("libexo.l4.engine.exceptions", "signal"): "only the numbers, by which exceptions are told",
    ("kernel.abi.obituary", "signal"): "only their names, by which people are told how something ended",
    ("servers.process.ending", "signal"): "only the numbers, by which programs are asked to end",
    ("servers.process.console", "socket"): "people's tools connect to the console by a socket of the host",
    ("hwmodel.simulated", "signal"): "only the numbers: with which signal a program would have ended",
}

DOORS = ("tests.libexo.moves", "tests.kernel.puppets")
"""Through which tests reach the rendezvous of a thread: behind them, what it is made of may change."""
FOREIGN_WORDS = re.compile(r"(?:^|_)(inodes?|file_descriptors?|tcp|polic(?:y|ies))(?:_|$)")
"""Abstractions of servers and libraries: a kernel with such a name has begun to decide for them."""


# --------------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True)
class Source:
    """One parsed file."""

    path: str
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether it is a package's own file."""
        return self.path.endswith("/__init__.py")

    @property
    def module(self) -> str:
        """Its dotted name, counted from the top of the repository."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def at(self, line: int, wrong: str) -> str:
        """A violation on *line*."""
        return f"{self.path}:{line}: {wrong}"


Sources = tuple[Source, ...]
Rule = Callable[[Sources], Iterator[str]]


def parse(files: Mapping[str, str]) -> tuple[Source, ...]:
    """Sources from paths and texts."""
    return tuple(Source(path, text, ast.parse(text, path)) for path, text in files.items())


@cache
def repository() -> tuple[Source, ...]:
    """All Python of the tree."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return parse({path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths})


def within(module: str, *patterns: str) -> bool:
    """Whether *module* is, or lies below, one of *patterns*, in which ``*`` stands for one part."""
    parts = module.split(".")
    return any(
        len(parts) >= len(wanted)
        and all(want in ("*", part) for want, part in zip(wanted, parts, strict=False))
        for wanted in (pattern.split(".") for pattern in patterns)
    )


def imports(source: Source, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name of every import of *source*, the lazy, typing-only and `import_module` ones too."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                package = source.module.split(".")[: None if source.is_package else -1]
                above = package[: len(package) - level + 1] if level else []
                base = ".".join([*above, *([name] if name else [])])
                whole = (f"{base}.{alias.name}" for alias in names)
                yield from ((node.lineno, one if one in known or base == "os" else base) for one in whole)
            case ast.Call(
                func=ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module")
            ):
                if node.args and isinstance(node.args[0], ast.Constant):
                    yield node.lineno, str(node.args[0].value)


@cache
def own_imports(sources: Sources) -> dict[Source, list[tuple[int, str]]]:
    """The imports of each source that name something of ours."""
    parts = [source.module.split(".") for source in sources]
    known = frozenset(".".join(part[:length]) for part in parts for length in range(1, len(part) + 1))
    return {s: [(line, name) for line, name in imports(s, known) if within(name, *PACKAGES)] for s in sources}


# ----------------------------------------------------------------------------------------------------- rules


def layers(sources: Sources) -> Iterator[str]:
    """Imports go one way."""
    imported = own_imports(sources)
    shared = vocabulary(imported)
    for source, names in imported.items():
        layer = next((pattern for pattern in LAYERS if within(source.module, pattern)), None)
        if layer is None:
            continue
        gateway = source.is_package and GATEWAYS.fullmatch(source.module)
        own = ".".join(source.module.split(".")[:2])
        may = [] if gateway else [pattern.format(self=own) for pattern in LAYERS[layer]]
        for line, name in names:
            lawful = within(name, *may) or (VOCABULARY in may and name in shared)
            if not lawful or (within(name, "libexo.testing") and layer != "libexo.testing"):
                allowed = ", ".join(may) or "nothing of ours in an __init__ that others run"
                yield source.at(line, f"imports {name}; {layer} may import {allowed}")


def vocabulary(imported: Mapping[Source, list[tuple[int, str]]]) -> set[str]:
    """The modules of libexo that an `api` may import without closing a circle."""
    below = {source.module: {name for _, name in names} for source, names in imported.items()}
    shared = {module for module in below if within(module, "libexo")}
    while outside := {one for one in shared if any(not within(n, "kernel.abi", *shared) for n in below[one])}:
        shared -= outside
    return shared


def circles(sources: Sources) -> Iterator[str]:
    """The files of a package form a ladder: types and lazy imports counted, there is no circle of them."""
    imported = own_imports(sources)
    for package in LADDERS:
        inside = {source: names for source, names in imported.items() if within(source.module, package)}
        below = {
            s.module: {n for _, n in names if within(n, package)} - {s.module} for s, names in inside.items()
        }
        try:
            TopologicalSorter(below).prepare()
        except CycleError as error:
            lower, upper, *_ = found = error.args[1]
            source = next(source for source in inside if source.module == upper)
            line = next(line for line, name in inside[source] if name == lower)
            circle = ", ".join([upper, *reversed(found[1:])])
            yield source.at(
                line, f"closes a circle: {circle}; hand in what is needed, or name it in a protocol"
            )


def seams(sources: Sources) -> Iterator[str]:
    """Only the seams touch the host: clock, randomness, descriptors, signals, threads."""
    for source in sources:
        if within(source.module, *PACKAGES) and not within(source.module, *SEAMS):
            for line, what in host_uses(source):
                if not any(within(source.module, where) and what == it for where, it in ALLOWED):
                    wrong = f"uses {what}; take it through {', '.join(SEAMS[:4])}, or give ALLOWED a reason"
                    yield source.at(line, wrong)


def host_uses(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and name of each module and call of the host that *source* uses."""
    for line, name in imports(source, frozenset()):
        top, _, attribute = name.partition(".")
        if top in HOST_MODULES:
            yield line, top
        elif top == "os" and attribute in HOST_CALLS:
            yield line, name
    for node in ast.walk(source.tree):
        match node:
            case ast.Attribute(value=ast.Name("os"), attr=attribute) if attribute in HOST_CALLS:
                yield node.lineno, f"os.{attribute}"


def sizes(sources: Sources) -> Iterator[str]:
    """A file has at most 450 lines, a function 60."""
    for source in sources:
        lines = source.text.count("\n")
        if lines > MAX_FILE_LINES:
            yield source.at(lines, f"{lines} lines, at most {MAX_FILE_LINES}; which two things is it?")
        for function in functions(source):
            lines = (function.end_lineno or 0) - function.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                wrong = f"{function.name}: {lines} lines, at most {MAX_FUNCTION_LINES}; cut it"
                yield source.at(function.lineno, wrong)


def functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method, the inner ones too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def facts(sources: Sources) -> Iterator[str]:
    """Every test says in its docstring which fact it shows."""
    for source in sources:
        if within(source.module, "tests"):
            for function in functions(source):
                if function.name.startswith("test_") and not ast.get_docstring(function):
                    wrong = f"{function.name} has no docstring; state the fact it shows"
                    yield source.at(function.lineno, wrong)


def doors(sources: Sources) -> Iterator[str]:
    """Tests reach what IPC is made of through one module."""
    for source in sources:
        is_bound = within(source.module, "tests") and source.module not in DOORS
        for node in ast.walk(source.tree) if is_bound else ():
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("thread.core"):
                yield source.at(node.lineno, f"reaches into IPC; make that a move in {DOORS[0]}")


def kernel_words(sources: Sources) -> Iterator[str]:
    """The kernel has no name for abstractions it must not know."""
    for source in sources:
        if within(source.module, "kernel") and not within(source.module, "kernel.abi"):
            for line, name in [(1, source.module.rpartition(".")[2]), *identifiers(source.tree)]:
                snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
                if found := FOREIGN_WORDS.search(snake):
                    wrong = f"{name}: {found[1]} is a server's word; the kernel decides nothing"
                    yield source.at(line, wrong)


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and text of every name that is defined, used or passed."""
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                yield getattr(node, "lineno", 1), name


BROAD: Mapping[str, str] = {  # modules that may catch everything, without raising it again: the reason
    "hwmodel.real.worker": "a deed's bug is raised again in the loop, where it stops the system",
    "hwmodel.real.lane": "the same of what it does",
    "hwmodel.simulated.bodies": "it stands for a host process: whatever ends the program ends only that",
    "libexo.stub.call": "an exception of an implementation is reported to its caller",
    **dict.fromkeys(("libexo.aio", "libexo.stub.server"), "the same"),
    "libexo.uthreads": "what a coroutine awaited is raised in it; a policy is anybody's code",
    "servers.scheduler.choice": "an operator's code: what goes wrong in it is told to him",
    "servers.scheduler.checking": "a policy is anybody's code: its author is told, and others go on",
    "libexo.checking": "an error shows a value by the value's own code",
    "libexo.stub.failure": "an exception is told to its caller, whatever its own code does",
    "libexo.l4.engine.start": "a thread's last exception is reported to its exception handler",
    "libexo.testing.exploring": "it is raised again with the order that led to it",
    "libexo.launch.child": "a program's end, whatever it is, is told to the kernel",
    "libexo.launch.confine.forked": "what goes wrong in a forked child is told to its parent",
    "exo.__main__": "a person is told in one line",
    "kernel.abi.topology": "a file that cannot be read is reported to the user that named it",
    "kernel.__main__": "the border to people, before there is a machine",
}
HOST_ERRORS = frozenset({"OSError", "IOError", "EnvironmentError"})
ALL_ERRORS = frozenset({"Exception", "BaseException"})


def swallowed(sources: Sources) -> Iterator[str]:
    """Nobody catches everything, and the kernel no error of the host's: those are turned at its border."""
    for source in sources:
        if not within(source.module, *PACKAGES) or source.module in BROAD:
            continue
        for line, names in caught(source.tree):
            wide = names & (ALL_ERRORS | HOST_ERRORS if within(source.module, "kernel") else ALL_ERRORS)
            if wide:
                wrong = f"catches {', '.join(sorted(wide))}; name what can happen, or give BROAD a reason"
                yield source.at(line, wrong)


def caught(tree: ast.Module) -> Iterator[tuple[int, set[str]]]:
    """Yield line and names of the exceptions that are caught, or suppressed, and not raised again as they were."""
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=None) if not raises_again(node):
                yield node.lineno, {"BaseException"}
            case ast.ExceptHandler(type=ast.expr() as kind) if not raises_again(node):
                yield node.lineno, names_in(kind)
            case ast.Call(func=ast.Name("suppress") | ast.Attribute(attr="suppress"), args=kinds):
                yield node.lineno, {name for kind in kinds for name in names_in(kind)}


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether it ends by raising what it caught: it only cleans up."""
    match handler.body[-1]:
        case ast.Raise(exc=None):
            return True
        case ast.Raise(exc=ast.Name(name)):
            return name == handler.name
    return False


def names_in(kind: ast.expr) -> set[str]:
    """The names of the exceptions that *kind*, one or a tuple of them, stands for."""
    return {node.id for node in ast.walk(kind) if isinstance(node, ast.Name)}


OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
}


def number(node: ast.expr | None) -> int | None:
    """The value of an expression made of integer literals; the first element of a tuple of such."""
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand) if (positive := number(operand)) is not None:
            return -positive
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b = number(left), number(right)
            return None if a is None or b is None else OPERATORS[type(op)](a, b)
        case ast.Tuple(elts=[first, *_]):
            return number(first)
    return None


def constants(source: Source) -> Iterator[tuple[int, str, int]]:
    """Yield line, name and value of each NAME = number, of the module or of a class (then Class.NAME)."""
    classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    scopes = [("", source.tree.body), *((f"{node.name}.", node.body) for node in classes)]
    for prefix, node in ((prefix, node) for prefix, body in scopes for node in body):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = number(getattr(node, "value", None))
        if isinstance(target, ast.Name) and target.id.lstrip("_").isupper() and value is not None:
            yield node.lineno, prefix + target.id, value


def tags(source: Source) -> Iterator[tuple[int, str, int, str]]:
    """Yield line, class, number and base of each ``class Name(Base, tag=number)``."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef):
            base = ast.unparse(node.bases[0]).rpartition(".")[2] if node.bases else ""
            for keyword in node.keywords:
                if keyword.arg == "tag" and (value := number(keyword.value)) is not None:
                    yield node.lineno, node.name, value, base


def numbers(sources: Sources) -> Iterator[str]:
    """Every number of the ABI is defined once: in `kernel.abi`, and there for one name only."""
    abi = [source for source in sources if within(source.module, "kernel.abi")]
    owners: dict[tuple[str, str, int], str] = {}
    for source in abi:
        members = [(*row, row[1].rpartition(".")[0]) for row in constants(source) if "." in row[1]]
        for line, name, value, group in [*tags(source), *members]:
            if (owner := owners.setdefault((source.module, group, value), name)) != name:
                yield source.at(line, f"{name} is {value:#x}, which is {owner}'s; take a free number")
    defined = {(name, value): source.module for source in abi for _, name, value in constants(source)}
    traps = {value: name for source in abi for _, name, value, base in tags(source) if base == "Trap"}
    for source in sources:
        if within(source.module, *PACKAGES) and source not in abi:
            yield from copies(source, defined, traps)


def copies(source: Source, defined: Mapping[tuple[str, int], str], traps: Mapping[int, str]) -> Iterator[str]:
    """Numbers of the ABI that *source* writes down again."""
    for line, name, value in constants(source):
        if owner := defined.get((name, value)):
            yield source.at(line, f"{name} = {value} is defined in {owner}; import it")
    for line, name, value, base in tags(source):
        if base == "Trap":
            yield source.at(line, f"{name} defines trap {value:#x}; traps are defined in kernel.abi only")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Compare):
            about = ast.unparse(node.left).rpartition(".")[2]
            trap = traps.get(number(node.comparators[0]) or 0)
            if about in ("tag", "trap") and trap:
                yield source.at(node.lineno, f"{about} is compared with the number of {trap}; name it")


RULES: tuple[Rule, ...] = (layers, circles, seams, sizes, facts, doors, kernel_words, numbers, swallowed)


def main() -> int:
    """Print every violation; return whether there was one."""
    violations = [violation for rule in RULES for violation in sorted(set(rule(repository())))]
    print("\n".join(violations) or "the source keeps its shape")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())

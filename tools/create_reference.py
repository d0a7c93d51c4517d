#!/usr/bin/env python3
"""Write docs/traps.md, docs/errors.md and docs/interfaces.md from the code: references are never made by hand.

    python tools/create_reference.py            write them
    python tools/create_reference.py --check    exit with 1 if they are not what would be written

A page's content comes from the classes themselves, of kernel/abi and of the servers' interfaces: number, arguments,
result, refusals and the right a trap needs from their attributes, the words from their docstrings.
tests/tools/test_create_reference.py checks.
"""

import ast
import inspect
import itertools
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from types import ModuleType, NoneType

import msgspec

from kernel.abi import (
    errors,
    events,
    gate,
    kip,
    limits,
    messages,
    operators,
    predicates,
    program,
    rights,
    traps,
)
from libexo import errors as libexo_errors
from libexo import nouns
from libexo.extent import Extent, Ram
from libexo.stub import Interface, Operation
from servers.memory import api as memory
from servers.process import api as process
from servers.scheduler import api as scheduler

ROOT = Path(__file__).resolve().parent.parent
GENERATED = "<!-- Made by tools/create_reference.py from kernel/abi: change it there. -->"
GENERATED_TOO = "<!-- Made by tools/create_reference.py from servers/*/api.py: change it there. -->"
INTERFACES: tuple[type[Interface], ...] = (
    memory.Memory,
    memory.Pager,
    process.Processes,
    scheduler.Scheduler,
)
SERVER_RECORDS = (
    Extent,
    Ram,
    memory.Statistics,
    memory.Usage,
    process.ProgramSpec,
    process.Exit,
    scheduler.Planned,
)
RECORDS = (
    traps.Interface,
    traps.Created,
    traps.Booted,
    operators.Operators,
    traps.Arrived,
    traps.Bound,
    traps.Identified,
    predicates.Term,
    traps.Slice,
    traps.Holder,
    traps.Inspection,
    traps.Carved,
    traps.Accepted,
    traps.Mapped,
    program.Program,
)
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SMALLEST_POWER = 1 << 15


# ----------------------------------------------------------------------------------------- the ABI


def groups() -> Iterator[tuple[str, list[type[traps.Trap]]]]:
    """Return the traps by object, in the order of their union: each object has a module."""
    for module, members in itertools.groupby(traps.TRAPS.values(), lambda trap: trap.__module__):
        yield (
            module.removeprefix(f"{traps.__name__}.") if module != traps.__name__ else "batch",
            list(members),
        )


def number(trap: type[traps.Trap]) -> int:
    """Return the number of *trap*."""
    tag = trap.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def notes(module: ModuleType, name: str) -> dict[str, str]:
    """Return the sentence below each member of class *name*, or of *module* itself when empty."""
    if name:  # the class may come from a module of a package
        [definition] = ast.parse(inspect.getsource(getattr(module, name))).body
        assert isinstance(definition, ast.ClassDef)
        body: Sequence[ast.stmt] = definition.body
    else:
        body = ast.parse(inspect.getsource(module)).body
    found = {}
    for node, following in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                found[target.id] = _sentence(following)
    return found


def _sentence(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


# ------------------------------------------------------------------------------------------------- as text


def show_type(annotation: object) -> str:
    """Return a type as the reference writes it: ``int 0..2³²-1``, ``tuple of Slice, at most 256``."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metas = typing.get_args(annotation)
        return show_type(inner) + "".join(_bounds(m) for m in metas if isinstance(m, msgspec.Meta))
    if typing.get_origin(annotation) is tuple:
        items = typing.get_args(annotation)
        if items[-1] is Ellipsis:
            inside = show_type(items[0]) if items[0] != traps.Single else "traps"
            return f"tuple of {inside}"
        return f"({', '.join(map(show_type, items))})"
    if typing.get_origin(annotation) is list:
        return f"list of {show_type(typing.get_args(annotation)[0])}"
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(annotation)))
    if annotation in (None, NoneType):
        return "nothing"
    return getattr(annotation, "__name__", str(annotation))


def _bounds(meta: msgspec.Meta) -> str:
    low = meta.ge
    high = None if meta.lt is None else int(meta.lt) - 1
    if meta.max_length is not None and meta.description:
        return f", {meta.description}"
    if meta.le is not None:
        high = int(meta.le)
    if meta.max_length is not None:
        exact = meta.max_length == meta.min_length
        return f", {meta.max_length} long" if exact else f", at most {meta.max_length}"
    if low is not None and high is not None:
        return f" {_show(int(low))}..{_show(high)}"
    return f" ≥ {_show(int(low))}" if low is not None else ""


def _show(value: int) -> str:
    """Return *value*; one less than a power of two as such."""
    above = value + 1
    if above >= _SMALLEST_POWER and above & value == 0:
        return f"2{str(value.bit_length()).translate(SUPERSCRIPT)}-1"
    return str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Return the lines of a Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def fields(record: type[msgspec.Struct]) -> Iterator[str]:
    """Return the table of the fields of a trap or record."""
    hints = typing.get_type_hints(record, include_extras=True)
    said = notes(sys.modules[record.__module__], record.__name__)
    rows = []
    for field in msgspec.structs.fields(record):
        default = "" if field.default is msgspec.NODEFAULT else repr(field.default)
        rows.append((f"`{field.name}`", show_type(hints[field.name]), default, said.get(field.name, "")))
    said_something = any(row[3] for row in rows)
    width = 4 if said_something else 3
    yield from table(("field", "type", "default", "means")[:width], [row[:width] for row in rows])


def needs(trap: type[traps.Trap]) -> str:
    """Name the capability that the first argument must be, with its rights."""
    if trap.needs is None:
        return ""
    kind, right = trap.needs
    what = kind.name if kind is not None else "any capability"
    return f"{what} with {right.name}" if right else what


# ------------------------------------------------------------------------------------------------- the pages


def trap_page() -> Iterator[str]:
    """Return the lines of docs/traps.md."""
    yield from ("# Traps, rights, upcalls", "", GENERATED, "")
    yield from (inspect.getdoc(traps) or "").splitlines()
    yield from ("", f"There are {len(traps.TRAPS)} of at most 40. ABI level {kip.ABI_LEVEL}.")
    yield "A trap that is not decodable, too long, or brings descriptors it does not take is not a refusal but a"
    yield from ("[fault](errors.md#faults): its caller is ended.", "")
    rows = [
        (f"{number(trap):#04x}", f"[{trap.__name__}](#{trap.__name__.lower()})", needs(trap), group)
        for group, members in groups()
        for trap in members
    ]
    yield from table(("number", "trap", "needs", "object"), rows)
    for group, members in groups():
        yield from (f"## {group.capitalize()}", "")
        for trap in members:
            yield from _trap(trap)
    yield from _records()
    yield from _rights()
    yield from _upcalls()
    yield from _tables()


def _trap(trap: type[traps.Trap]) -> Iterator[str]:
    yield from (f"### {trap.__name__}", "", f"Number {number(trap):#04x}.", "")
    yield from (inspect.getdoc(trap) or "").splitlines()
    yield ""
    if trap.__struct_fields__:
        yield from fields(trap)
    facts = {
        "Needs": needs(trap),
        "Result": show_type(trap.result),
        "Descriptors taken": "one for each of the program's roles" if trap.takes_descriptors else "",
        "Descriptors given": trap.gives_descriptors,
        "Refusals": ", ".join(f"[{r.name}](errors.md#refusals)" for r in trap.refusals),
    }
    yield from (f"- **{name}:** {fact}" for name, fact in facts.items() if fact)
    yield ""


def _records() -> Iterator[str]:
    yield from ("## Records", "", "What results and arguments are made of.", "")
    for record in RECORDS:
        yield from (f"### {record.__name__}", "", inspect.getdoc(record) or "", "")
        yield from fields(record)
    yield from ("### Sources, operators and outcomes of predicates", "")
    yield from _members(predicates, predicates.Source, "source")
    yield from _members(predicates, predicates.Operator, "operator")
    yield from _members(predicates, predicates.Outcome, "outcome")
    yield from ("### Roles and kinds of program", "")
    yield from _members(program, program.Role, "role")
    yield from _members(program, program.ProgramKind, "kind")


def _rights() -> Iterator[str]:
    yield from ("## Kinds and rights", "", inspect.getdoc(rights) or "", "")
    yield from _members(rights, rights.Kind, "kind")
    said = notes(rights, "Rights")
    yield from (inspect.getdoc(rights.Rights) or "", "")
    yield from table(
        ("bit", "right", "means"), [(int(r), f"`{r.name}`", said.get(str(r.name), "")) for r in rights.Rights]
    )


def _upcalls() -> Iterator[str]:
    yield from ("## Upcalls", "", "Messages from a kernel thread: label, then words.", "")
    yield from _members(messages, messages.Label, "label", lambda value: f"{value:#014x}")
    yield from ("The events of a PREEMPTION message:", "")
    yield from _members(messages, messages.Preemption, "event")
    yield from ("The first byte of everything that comes through a gate:", "")
    yield from _members(gate, gate.Status, "status")


def _tables() -> Iterator[str]:
    yield from ("## The event ring", "", inspect.getdoc(events) or "", "")
    yield from _members(events, events.Event, "event")
    yield from ("## States of an environment", "")
    yield from _members(kip, kip.EnvironmentState, "state")
    yield from ("## Counters", "", "In the kernel interface page, counted since boot, in this order:", "")
    yield from (", ".join(f"`{c.name.lower()}`" for c in kip.Counter) + ".", "")
    yield from ("## Limits", "")
    said = notes(limits, "")
    yield from table(
        ("limit", "value", "bounds"),
        [(f"`{name}`", f"{vars(limits)[name]:,}", said[name]) for name in said if name.isupper()],
    )


def _members(
    module: ModuleType, enum: type[IntEnum], what: str, show: Callable[[int], str] = str
) -> Iterator[str]:
    said = notes(module, enum.__name__)
    yield from table(
        ("number", what, "means"), [(show(m.value), f"`{m.name}`", said.get(m.name, "")) for m in enum]
    )


def error_page() -> Iterator[str]:
    """Return the lines of docs/errors.md."""
    yield from ("# Errors", "", GENERATED, "")
    yield from (inspect.getdoc(errors) or "").splitlines()[2:]
    yield from ("", "## Refusals", "", "The trap changed nothing, and the caller goes on.")
    yield from ("`libexo.sys` raises `TrapRefused` with the number as `refusal`.", "")
    rows = [(r.value, f"`{r.name}`", r.text, _refused_by(r)) for r in errors.Refusal]
    yield from table(("number", "refusal", "condition", "of"), rows)
    yield from ("## Faults", "", "The caller is ended; the kernel keeps the record for its watchers.", "")
    yield from table(
        ("number", "fault", "condition"), [(f.value, f"`{f.name}`", f.text) for f in errors.Fault]
    )
    yield from (
        "## IPC",
        "",
        "An `IpcError` has a code and a phase; `word` is both, as L4 X.2 packs them.",
        "",
    )
    raised = {messages.IpcCode.TIMEOUT: "IpcTimeout", messages.IpcCode.NO_PARTNER: "NoPartner"}
    yield from table(
        ("code", "name", "raised as"),
        [(c.value, f"`{c.name}`", f"`{raised.get(c, 'IpcError')}`") for c in messages.IpcCode],
    )
    yield from table(("phase", "name"), [(p.value, f"`{p.name}`") for p in messages.Phase])
    yield from ("## Exceptions of libexo", "")
    yield from (inspect.getdoc(libexo_errors) or "").splitlines()


def _refused_by(refusal: errors.Refusal) -> str:
    """Name the traps that return *refusal*; one that none returns answers a program that wants to attach."""
    by = [trap for trap in traps.TRAPS.values() if refusal in trap.refusals]
    needing = [trap for trap in traps.TRAPS.values() if trap.needs is not None]
    named = []
    if set(needing) <= set(by):
        named, by = ["every trap that needs a capability"], [trap for trap in by if trap.needs is None]
    named += [f"[{trap.__name__}](traps.md#{trap.__name__.lower()})" for trap in by]
    return ", ".join(named) or "attaching"


# ------------------------------------------------------------------------------------- interfaces of servers


def interface_page() -> Iterator[str]:
    """Return the lines of docs/interfaces.md."""
    yield from ("# Interfaces", "", GENERATED_TOO, "")
    yield from (
        "The operations of the system's servers: `Interface.connect(env)`, then its methods.",
        "",
    )
    yield from (
        "An argument outside its range is a `BadArgument` before anything is sent; a caller that sends it anyway",
        "gets `RemoteError: BadArgument` from the server, which goes on. Any operation may also raise what",
        "[IPC](errors.md#ipc) does. A *repeatable* one is done again by its stub when its server was ended from",
        "outside meanwhile; a *oneway* one is not answered.",
        "",
    )
    yield from ("| word | is |", "|---|---|")
    yield from (f"| `{name}` | {_noun(kind)} |" for name, kind in _nouns())
    yield ""
    for interface in INTERFACES:
        yield from (f"## {interface.__name__}", "", inspect.getdoc(interface) or "", "")
        yield from (f"Label {interface.label:#x}, published as `{interface.default_name}`.", "")
        for operation in interface.operations.values():
            yield from _operation(operation)
    yield from ("## Records", "")
    for record in SERVER_RECORDS:
        yield from (f"### {record.__name__}", "", inspect.getdoc(record) or "", "")
        yield from fields(record)


def _nouns() -> Iterator[tuple[str, object]]:
    return (
        (name, kind)
        for name, kind in vars(nouns).items()
        if name[0].isupper() and hasattr(kind, "__metadata__")
    )


def _noun(kind: object) -> str:
    metas = [meta for meta in typing.get_args(kind) if isinstance(meta, msgspec.Meta)]
    shown = show_type(kind)
    said = ", ".join(meta.description for meta in metas if meta.description)
    return shown if said in shown else f"{shown}: {said}"


def _operation(operation: Operation) -> Iterator[str]:
    hints = operation.hints()
    parameters = "; ".join(_parameter(operation, name, hints[name]) for name in operation.names)
    marks = [
        mark for mark, is_so in (("repeatable", operation.repeatable), ("oneway", operation.oneway)) if is_so
    ]
    yield from (f"### {operation.number} · {operation.name}", "", inspect.cleandoc(operation.doc or ""), "")
    yield from (f"- **Arguments:** {parameters or 'none'}", f"- **Result:** {show_type(hints['return'])}")
    yield from (*([f"- **{', '.join(marks).capitalize()}**"] if marks else []), "")


def _parameter(operation: Operation, name: str, kind: object) -> str:
    default = operation.defaults.get(name)
    known = next((noun for noun, each in _nouns() if each == kind), "")
    shown = (
        f"`{name}`: {show_type(kind)}"
        if not known or show_type(kind).startswith("str")
        else (f"`{name}`: {known}, {show_type(kind)}")
    )
    return f"{shown} = {default!r}" if default is not None else shown


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "docs/traps.md": trap_page,
    "docs/errors.md": error_page,
    "docs/interfaces.md": interface_page,
}


def render(path: str) -> str:
    """Return the text of the page at *path*."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(PAGES[path]())).rstrip() + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or check them; return the exit status."""
    stale = [
        path for path in PAGES if not (ROOT / path).exists() or (ROOT / path).read_text() != render(path)
    ]
    if "--check" in arguments:
        for path in stale:
            print(f"{path} is not current: run python tools/create_reference.py")
        return int(bool(stale))
    for path in stale:
        (ROOT / path).write_text(render(path))
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

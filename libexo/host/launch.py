"""From a fork of the nursery to a program: descriptors, confinement, user code.

All of this runs in the child, which never returns from `enter`. It tells the nursery through its status pipe
how far it came: `CONFINED` when only user code is left to come, and otherwise why not; an exec closes the
pipe. What happens later is the program's own affair, and is reported as how it ended.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import io
import linecache
import os
import resource
import runpy
import signal
import sys
import threading
import traceback
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from kernel.abi.nursery import MAX_REASON, Launch
from kernel.abi.program import ProgramKind, Role
from libexo.host.confine import Layer, Policy, Prepared, apply, execute, prepare

CONFINED = b"+"
GATE = 3
"""The descriptor number of every program's gate, EXO_TRAP_FD."""
FIRST_FREE = 10
"""The nursery holds nothing below: what a program finds at a fixed number can be put there."""
STREAMS = {Role.STDIN: 0, Role.STDOUT: 1, Role.STDERR: 2}
FAILED = 127
MAX_DESCRIPTORS = 1 << 20
"""More than the nursery ever has, where the host sets no limit (it calls that -1, or 2**64 - 1)."""
LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
PR_SET_NAME = 15
_prctl = ctypes.CDLL(None).prctl


@dataclass(frozen=True)
class Nest:
    """What the nursery has ready for every child."""

    pid: int
    host: Sequence[Layer]
    kept: tuple[int, ...]
    """Descriptors that all programs keep: the directories they import from."""
    descriptors: tuple[int, int]
    """RLIMIT_NOFILE of programs; the nursery's own is the second."""


@dataclass(frozen=True)
class Birth:
    """What one child gets."""

    launch: Launch
    prepared: Prepared | None
    """Its confinement, if it is one that many share."""
    gate: int
    roles: Mapping[int, int]
    """Descriptor of each role."""
    status: int
    """Where to say how far we came."""
    start: int
    """What to wait at before user code, -1: nothing."""


def policy(launch: Launch, places: Iterable[str | int], kept: Sequence[int]) -> Policy:
    """Return what the program of *launch* may reach, with *places* of its own to read from."""
    return Policy(
        "foreign" if launch.program.kind == ProgramKind.FOREIGN else "program",
        readable=(*kept, *places),
        connectable=(os.path.join(launch.run, "ipc"),),
        may_lack=launch.may_lack,
    )


def own_places(launch: Launch, roles: Mapping[int, int]) -> list[str | int]:
    """Return what only this program may read: its directories, and its own file. Its uid must allow it too."""
    places: list[str | int] = [roles[role] for role in (Role.DIRECTORY, Role.IMPORTS) if role in roles]
    own = launch.program.argv[0]
    if launch.program.kind != ProgramKind.SERVER and os.path.isabs(own) and os.path.isfile(own):
        places.append(own)
    return places


def enter(birth: Birth, nest: Nest) -> NoReturn:
    """Become the program; the process ends with it."""
    try:
        _arrange(birth, nest)
        _confine(birth, nest)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the kernel is told
        fail(birth.status, str(error) or type(error).__name__)
    with contextlib.suppress(OSError):
        os.write(birth.status, CONFINED)
    if birth.start >= 0:
        # A held program: the nursery stops us before it writes this byte, so that we get past here only
        # when the kernel first lets us run, and it cannot be too early to be stopped or continued.
        os.read(birth.start, 1)
        os.close(birth.start)
    if birth.launch.program.kind == ProgramKind.FOREIGN:
        _execute(birth)
    os.close(birth.status)
    _leave(_run(birth))


def fail(status: int, reason: str) -> NoReturn:
    """Say why there will be no program, and end."""
    with contextlib.suppress(OSError):
        os.write(status, reason[:MAX_REASON].encode(errors="replace"))
    os._exit(FAILED)


# ------------------------------------------------------------------------------------------- the process


def _arrange(birth: Birth, nest: Nest) -> None:
    """Put everything in its place that needs the nursery's rights."""
    launch = birth.launch
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _prctl(PR_SET_NAME, launch.name.encode(errors="replace")[:15])
    if launch.core >= 0:
        os.sched_setaffinity(0, (launch.core,))
    resource.setrlimit(resource.RLIMIT_NOFILE, nest.descriptors)
    _place_streams(launch, birth.roles)
    os.dup2(birth.gate, GATE, inheritable=True)
    if Role.DIRECTORY in birth.roles:
        os.fchdir(birth.roles[Role.DIRECTORY])
    rules = birth.prepared.ruleset if birth.prepared is not None else None
    ruleset = () if rules is None else (rules.fileno(),)
    files = [number for role, number in birth.roles.items() if role not in STREAMS]
    keep = {0, 1, 2, GATE, birth.status, birth.start, *files, *ruleset, *nest.kept}
    _close_others(keep, nest.descriptors[1] if 0 < nest.descriptors[1] < MAX_DESCRIPTORS else MAX_DESCRIPTORS)
    # The program's own first: it cannot pass for another one.
    environ = {**dict(launch.program.environ), **_names(birth)}
    os.environ.clear()
    os.environ.update(environ)


def _names(birth: Birth) -> dict[str, str]:
    """Return what tells libexo where it is, and from where it imports."""
    launch = birth.launch
    names = {"EXO_RUN": launch.run, "EXO_TRAP_FD": str(GATE), "EXO_NAME": launch.name}
    if Role.IMPORTS in birth.roles and launch.program.kind != ProgramKind.FOREIGN:
        names["EXO_IMPORTS"] = str(birth.roles[Role.IMPORTS])
    return names


def _place_streams(launch: Launch, roles: Mapping[int, int]) -> None:
    """Put the standard streams in place: those given, or nothing to read and a log to write."""
    for role, number in STREAMS.items():
        if role in roles:
            os.dup2(roles[role], number, inheritable=True)
            continue
        is_input = role == Role.STDIN
        opened = os.open(os.devnull, os.O_RDONLY) if is_input else open_log(launch.run, launch.name)
        os.dup2(opened, number, inheritable=True)
        os.close(opened)


def open_log(run: str, name: str) -> int:
    """Open the log of all environments that have borne *name*."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".") or "_"
    number = os.open(os.path.join(run, "log", f"{safe}.log"), LOG_FLAGS, 0o640)
    os.set_blocking(number, True)
    return number


def _close_others(keep: set[int], end: int) -> None:
    """Close every descriptor below *end* but those in *keep*."""
    numbers = [-1, *sorted(number for number in keep if number >= 0)]
    for low, high in zip(numbers, [*numbers[1:], end], strict=True):
        if high > low + 1:
            os.closerange(low + 1, high)


def _confine(birth: Birth, nest: Nest) -> None:
    """Give up every right the program is not to have."""
    launch = birth.launch
    prepared = birth.prepared or prepare(
        policy(launch, own_places(launch, birth.roles), nest.kept), nest.host
    )
    apply(prepared, uid=launch.uid, gid=launch.uid, parent=nest.pid)


# ------------------------------------------------------------------------------------------- user code


def _execute(birth: Birth) -> NoReturn:
    """Run an executable in our place."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    argv = birth.launch.program.argv
    try:
        execute(_find(argv[0]), argv, os.environ)
    except OSError as error:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the status pipe of one that was held is closed
        reason = f"{error.filename or argv[0]}: {error.strerror}"
        with contextlib.suppress(OSError):
            os.write(2, f"{reason}\n".encode(errors="replace"))
        fail(birth.status, reason)


def _find(name: str) -> str:
    """Return the path of an executable."""
    if os.sep in name:
        if not os.path.exists(name):
            raise FileNotFoundError(2, "no such program", name)
        return name
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(2, "no such program", name)


def _run(birth: Birth) -> int:
    """Run Python, and return the exit status as the interpreter would."""
    _open_streams()
    gc.enable()
    program = birth.launch.program
    sys.argv[:] = program.argv
    if Role.IMPORTS in birth.roles:
        sys.path.insert(0, f"/proc/self/fd/{birth.roles[Role.IMPORTS]}")
    try:
        if program.kind == ProgramKind.SERVER:
            _serve(program.argv[0], birth.launch.name)
        else:
            _interpret(program.argv[0], birth.roles)
    except SystemExit as error:
        return _exit_status(error.code)
    except BaseException as error:  # noqa: BLE001 - this is the end of the program
        _show(error)
        if isinstance(error, KeyboardInterrupt):
            return -signal.SIGINT
        return 1
    return 0


def _open_streams() -> None:
    """Make the streams of this process; a line is written at once, so that a killed program has said it."""
    opener = functools.partial(io.open, buffering=1, encoding="utf-8", closefd=False)
    vars(sys).update(stdin=opener(0), stdout=opener(1, "w"), stderr=opener(2, "w", errors="backslashreplace"))
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)


def _interpret(path: str, roles: Mapping[int, int]) -> None:
    """Run Python source as `__main__`."""
    if Role.IMPORTS not in roles:
        sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    with open(roles.get(Role.SOURCE, path), "rb") as file:
        if file.seekable():
            file.seek(0)
        text = file.read()
    # A traceback shows its lines, though nobody here may open the file.
    lines = text.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[path] = (len(text), None, lines, path)
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    exec(compile(text, path, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - what it is for


def _serve(server: str, name: str) -> None:
    """Run a package, or make a server and serve it under *name*."""
    module, colon, attribute = server.partition(":")
    if not colon:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    made = getattr(importlib.import_module(module), attribute)()
    importlib.import_module("libexo.stub").serve(made, name=name)


def _show(error: BaseException) -> None:
    """Print what was not caught, from the user's first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in OURS:
        trace = trace.tb_next
    with contextlib.suppress(Exception):
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(type(error), error, trace)
        else:
            sys.excepthook(type(error), error, trace)


OURS = frozenset(
    {__file__, runpy.__file__, importlib.__file__, "<frozen runpy>", "<frozen importlib._bootstrap>"}
)
"""Files whose frames stand above the user's in a traceback."""


def _exit_status(code: object) -> int:
    """Return the status `sys.exit(code)` means."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    with contextlib.suppress(Exception):
        print(code, file=sys.stderr)  # noqa: T201
    return 1


def _leave(status: int) -> NoReturn:
    """End as an interpreter does: threads are waited for, exit functions called, streams flushed.

    But what the nursery had loaded is not taken apart: that is time, and pages shared until then.
    """
    # As multiprocessing does: the interpreter has no public name for the first half of its exit.
    for finish in (threading._shutdown, atexit._run_exitfuncs, _flush):  # type: ignore[attr-defined]  # noqa: SLF001
        try:
            finish()
        except BaseException as error:  # noqa: BLE001 - the others are to be called too
            _show(error)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.flush()

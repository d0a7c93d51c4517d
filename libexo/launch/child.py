"""From a fork of the nursery to a program: descriptors, confinement, user code.

All of this runs in the child, which never returns from `enter`. Its status pipe tells the nursery
how far it came: `CONFINED` when only user code is left, and otherwise the reason; an exec closes the
pipe. What happens later is the program's own affair, and is reported as its end.
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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from kernel.abi.nursery import MAX_REASON, Launch
from kernel.abi.program import ProgramKind, Role
from libexo.errors import GateClosed
from libexo.launch import precedence, termination
from libexo.launch.arguments import complete
from libexo.launch.confine import Layer, Policy, Prepared, apply, execute, prepare
from libexo.launch.hints import hint
from libexo.launch.naming import import_from
from libexo.launch.paging import hand_over
from libexo.launch.source import renew
from libexo.launch.termination import Terminated
from libexo.launch.variables import take_effect
from libexo.names import give_way

CONFINED = b"+"
GATE = 3
"""The descriptor number of every program's gate, EXO_TRAP_FD."""
FIRST_FREE = 10
"""The nursery holds no descriptor below: those of a program are put at fixed numbers here."""
STREAMS = {Role.STDIN: 0, Role.STDOUT: 1, Role.STDERR: 2}
FAILED = 127
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that the nursery ignores and programs do not."""
MAX_DESCRIPTORS = 1 << 20
"""More than the nursery ever has, for a host without a limit (it says -1, or 2**64 - 1)."""
PR_SET_NAME = 15
_prctl = ctypes.CDLL(None).prctl


@dataclass(frozen=True)
class Nest:
    """The nursery's preparations for every child."""

    pid: int
    kernel: int
    """Process id of the kernel."""
    host: Sequence[Layer]
    kept: tuple[int, ...]
    """Descriptors that all programs keep: the directories they import from."""
    descriptors: tuple[int, int]
    """RLIMIT_NOFILE of programs; the nursery's own is the second."""


@dataclass(frozen=True)
class Birth:
    """The preparations for one child."""

    launch: Launch
    prepared: Prepared | None
    """Its confinement, if it is one that many share."""
    gate: int
    roles: Mapping[int, int]
    """Descriptor of each role."""
    status: int
    """The status pipe, which tells how far we came."""
    start: int
    """The pipe to wait at before user code, -1: none."""
    note: str
    """What the program is told of its start."""
    log: int
    """The log's pipe, for output without a stream of its own; -1: it has all streams."""
    paging: int = -1
    """The socket on which the descriptor that pages it is sent, -1: it is not paged."""


def policy(launch: Launch, nest: Nest, roles: Mapping[int, int], terminals: Collection[int] = ()) -> Policy:
    """Return what the program of *launch* may reach, its own *terminals* too.

    Raises PermissionError when that would be too much.
    """
    readable = (*nest.kept, *own_places(launch, roles))
    writable = tuple(roles[role] for role in (Role.WRITABLE,) if role in roles)
    if not any(layer.name == "uid" and layer.available for layer in nest.host):
        for place in (*readable, *writable):
            _check_apart(launch.run, place)
    return Policy(
        "foreign" if launch.program.kind == ProgramKind.FOREIGN else "program",
        readable=readable,
        writable=writable,
        terminals=terminals,
        connectable=(os.path.join(launch.run, "ipc"),),
        may_lack=launch.may_lack,
    )


def _check_apart(run: str, place: str | int) -> None:
    """Refuse reading the run directory to a program without a uid of its own: it would be an operator."""
    path = os.path.realpath(f"/proc/self/fd/{place}" if isinstance(place, int) else place)
    run = os.path.realpath(run)
    if os.path.commonpath((path, run)) in {path, run}:
        raise PermissionError(
            f"the program is to read {path}, and with it the operators' secret in {run}: start it from elsewhere, "
            "or boot the system with EXO_RUN elsewhere"
        )


def has_own(launch: Launch, roles: Mapping[int, int]) -> bool:
    """Whether the program of *launch* may reach places that others may not."""
    return bool(own_places(launch, roles)) or Role.WRITABLE in roles or any(map(os.isatty, roles.values()))


def own_places(launch: Launch, roles: Mapping[int, int]) -> list[str | int]:
    """Return the places only this program may read: its directories, its own file. Its uid must allow it, too."""
    places: list[str | int] = [roles[role] for role in (Role.DIRECTORY, Role.IMPORTS) if role in roles]
    own = launch.program.argv[0]
    if launch.program.kind != ProgramKind.SERVER and os.path.isabs(own) and os.path.isfile(own):
        places.append(own)
    return places


def enter(birth: Birth, nest: Nest) -> NoReturn:
    """Become the program; the process ends with it, whatever is raised on the way."""
    try:
        _become(birth, nest)
    except Terminated:  # it came between two places that expect it
        _end(-signal.SIGTERM)
    except BaseException as error:  # noqa: BLE001 - no caller must go on
        _show(error)
        os._exit(1)
    finally:
        os._exit(FAILED)


def _become(birth: Birth, nest: Nest) -> NoReturn:
    """Get as far as user code, run it, and end."""
    try:
        roles, note = renew(birth.roles, birth.launch.program.argv[0])
        birth = replace(birth, launch=complete(birth.launch, birth.roles), roles=roles, note=note)
        _arrange(birth, nest)
        if birth.paging >= 0:
            hand_over(birth.paging)
        _confine(birth, nest)
    except BaseException as error:  # noqa: BLE001 - the kernel is told of any error
        fail(birth.status, str(error) or type(error).__name__)
    with contextlib.suppress(OSError):
        os.write(birth.status, CONFINED)
    if birth.start >= 0:
        # A held program: the nursery stops us before it writes this byte, so that we pass here only
        # when the kernel first lets us run, and are never stopped or continued too early.
        os.read(birth.start, 1)
        os.close(birth.start)
    if birth.launch.program.kind == ProgramKind.FOREIGN:
        _execute(birth)
    os.close(birth.status)
    _leave(_run(birth))


def fail(status: int, reason: str) -> NoReturn:
    """Report why there will be no program, and end."""
    with contextlib.suppress(OSError):
        os.write(status, reason[:MAX_REASON].encode(errors="replace"))
    os._exit(FAILED)


# ------------------------------------------------------------------------------------------- the process


def _arrange(birth: Birth, nest: Nest) -> None:
    """Arrange everything that needs the nursery's rights."""
    launch = birth.launch
    os.setsid()
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if launch.program.kind != ProgramKind.FOREIGN:
        termination.expect()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _prctl(PR_SET_NAME, launch.name.encode(errors="replace")[:15])
    if launch.urgent:
        precedence.before_programs()
    else:
        precedence.behind(nest.kernel)
    if launch.core >= 0:
        os.sched_setaffinity(0, (launch.core,))
    resource.setrlimit(resource.RLIMIT_NOFILE, nest.descriptors)
    _place_streams(birth)
    os.dup2(birth.gate, GATE, inheritable=True)
    if Role.DIRECTORY in birth.roles:
        os.fchdir(birth.roles[Role.DIRECTORY])
    rules = birth.prepared.ruleset if birth.prepared is not None else None
    ruleset = () if rules is None else (rules.fileno(),)
    done = {*STREAMS, Role.ARGUMENTS}
    files = [number for role, number in birth.roles.items() if role not in done]
    keep = {0, 1, 2, GATE, birth.status, birth.start, birth.paging, *files, *ruleset, *nest.kept}
    _close_others(keep, nest.descriptors[1] if 0 < nest.descriptors[1] < MAX_DESCRIPTORS else MAX_DESCRIPTORS)
    # The program's own first: it cannot pass for another one.
    environ = {**dict(launch.program.environ), **_names(birth)}
    os.environ.clear()
    os.environ.update(environ)


def _names(birth: Birth) -> dict[str, str]:
    """Return the variables that tell libexo its system, its gate, and its imports."""
    launch = birth.launch
    names = {"EXO_RUN": launch.run, "EXO_TRAP_FD": str(GATE), "EXO_NAME": launch.name}
    if Role.IMPORTS in birth.roles and launch.program.kind != ProgramKind.FOREIGN:
        names["EXO_IMPORTS"] = str(birth.roles[Role.IMPORTS])
    if Role.SWAP in birth.roles:
        names["EXO_SWAP"] = str(birth.roles[Role.SWAP])
    return names


def _place_streams(birth: Birth) -> None:
    """Put the standard streams in place: those given, or nothing to read and a log to write."""
    for role, number in STREAMS.items():
        if role in birth.roles:
            os.dup2(birth.roles[role], number, inheritable=True)
        elif role != Role.STDIN:
            os.dup2(birth.log, number, inheritable=True)
        else:
            opened = os.open(os.devnull, os.O_RDONLY)
            os.dup2(opened, number, inheritable=True)
            os.close(opened)


def _close_others(keep: set[int], end: int) -> None:
    """Close every descriptor below *end* but those in *keep*."""
    numbers = [-1, *sorted(number for number in keep if number >= 0)]
    for low, high in zip(numbers, [*numbers[1:], end], strict=True):
        if high > low + 1:
            os.closerange(low + 1, high)


def _confine(birth: Birth, nest: Nest) -> None:
    """Give up every right the program is not to have."""
    launch = birth.launch
    terminals = [number for number in STREAMS.values() if os.isatty(number)]
    prepared = birth.prepared or prepare(policy(launch, nest, birth.roles, terminals), nest.host)
    apply(prepared, uid=launch.uid, gid=launch.uid, parent=nest.pid)


# ------------------------------------------------------------------------------------------- user code


def _execute(birth: Birth) -> NoReturn:
    """Run an executable in our place."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these
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
    """Run Python, and return the exit status that the interpreter would."""
    program = birth.launch.program
    try:
        _open_streams()
        gc.enable()
        threading.excepthook = _show_of_thread
        for note in filter(None, (birth.note, *take_effect(os.environ))):
            _say(note)
        sys.argv[:] = program.argv
        if Role.IMPORTS in birth.roles:
            import_from(f"/proc/self/fd/{birth.roles[Role.IMPORTS]}")
            give_way()
        if program.kind == ProgramKind.SERVER:
            _serve(program.argv[0], birth.launch.name)
        else:
            _interpret(program.argv[0], birth.roles)
    except Terminated:
        return -signal.SIGTERM
    except SystemExit as error:
        return _exit_status(error.code)
    except BaseException as error:  # noqa: BLE001 - this is the end of the program
        _show(error)
        if isinstance(error, KeyboardInterrupt):
            return -signal.SIGINT
        return 1
    return 0


def _open_streams() -> None:
    """Make the streams of this process; each line is written at once, so that a killed program has said it."""
    opener = functools.partial(io.open, buffering=1, encoding="utf-8", closefd=False)
    vars(sys).update(stdin=opener(0), stdout=opener(1, "w"), stderr=opener(2, "w", errors="backslashreplace"))
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)


def _interpret(path: str, roles: Mapping[int, int]) -> None:
    """Run Python source as `__main__`."""
    if Role.IMPORTS not in roles:
        sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
        give_way()
    with open(roles.get(Role.SOURCE, path), "rb") as file:
        if file.seekable():
            file.seek(0)
        text = file.read()
    # A traceback shows its lines, although nobody here may open the file.
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
    stub = importlib.import_module("libexo.stub")
    found: Any = getattr(importlib.import_module(module), attribute)
    is_server = isinstance(found, type) and issubclass(found, stub.Interface)
    if not is_server:
        raise TypeError(
            f"{server} is not a server: write a class that implements an interface of libexo.stub"
        )
    names = [each.name for each in found.operations.values()]
    if names and all(hasattr(getattr(found, each), "__operation__") for each in names):
        raise TypeError(
            f"{server} is a bare interface: write a class derived from it that implements {', '.join(names)}"
        )
    stub.serve(found(), name=name)


def _show(error: BaseException) -> None:
    """Print an uncaught exception, from the user's first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in OURS:
        trace = trace.tb_next
    if isinstance(error, GateClosed):
        _say(str(error))  # no mistake: the whole system ends
        return
    with contextlib.suppress(Exception):
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(type(error), error, trace)
        else:
            sys.excepthook(type(error), error, trace)
    _say(hint(error))


def _show_of_thread(arguments: threading.ExceptHookArgs) -> None:
    """Print an uncaught exception of a thread."""
    threading.__excepthook__(arguments)
    if arguments.exc_value is not None:
        _say(hint(arguments.exc_value))


def _say(text: str) -> None:
    """Tell the program's user something, in one line."""
    if text:
        with contextlib.suppress(Exception):
            print(f"exo: {text}", file=sys.stderr)  # noqa: T201 - for the program's user


OURS = frozenset(
    {__file__, runpy.__file__, importlib.__file__, "<frozen runpy>", "<frozen importlib._bootstrap>"}
)
"""Files whose frames are above the user's in a traceback."""


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

    But the nursery's modules are not taken apart: that would cost time, and pages shared until then.
    """
    # As multiprocessing does: the interpreter has no public name for the first half of its exit.
    shutdown, exits = threading._shutdown, atexit._run_exitfuncs  # type: ignore[attr-defined]  # noqa: SLF001
    for finish in (shutdown, termination.leave, exits, _flush):
        try:
            finish()
        except Terminated:
            status = -signal.SIGTERM
        except BaseException as error:  # noqa: BLE001 - the others must be called too
            _show(error)
    _end(status)


def _end(status: int) -> NoReturn:
    """End with *status*, or, if negative, by its signal."""
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        signal.raise_signal(-status)
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.flush()

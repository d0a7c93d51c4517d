"""Run a program in an environment of its own, and be to it what a shell would be.

PROGRAM.py is Python, started by a fork from a parent that has libexo imported already; anything else is an
executable, looked for along PATH. Its standard streams are ours, it starts in our directory with our
variables, signals sent to us reach it, and its exit status becomes ours: 128+N if signal N ended it, 125 if
the kernel did (the fault is printed), 126 or 127 if it could not be started.

A signal, and so Ctrl-C, reaches the program alone: programs that it started run on, until 'exo kill --family'.
"""

import _signal  # type: ignore[import-not-found]  # under `signal`, which brings enum along: 4 ms
import os
import sys

from exo.arguments import Given, is_name, is_text, named, variables
from exo.console import Console, own_directory
from exo.streams import Streams
from exo.system import Trouble, run_directory

TYPE_CHECKING = False  # as typing has it, which takes 4 ms to import
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import Any

ARGUMENTS = (
    "[--name N] [--share N] [--reserve R] [--budget B] [--paged] [--write DIR] [-d] [--env K=V]... "
    "[--] PROGRAM [ARG]..."
)
EXAMPLES = """\
  exo run -- hello.py                    Python, with libexo loaded already
  exo run -- sort -u names.txt           any other program
  exo run --share 3 -- burn.py           three parts of the processor, where others have one
  exo run --reserve 2ms/10ms -- beat.py  2 ms of CPU time in every 10 ms, whatever else runs
  exo run --budget threads=4,children=0 -- few.py
  exo run -d --name web -- web.py        in the background: 'exo logs web', 'exo kill web'"""

PYTHON, FOREIGN = 1, 3
DIRECTORY, SOURCE, IMPORTS, WRITABLE = 3, 4, 5, 8
FAULT_NOT_STARTED = 5
"""These are numbers of `kernel.abi`, which would take 30 ms to import; a test compares them."""

FAULTED, NOT_EXECUTABLE, NOT_FOUND, BY_SIGNAL = 125, 126, 127, 128
FORWARDED = (
    _signal.SIGINT,
    _signal.SIGTERM,
    _signal.SIGHUP,
    _signal.SIGQUIT,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGWINCH,
)


class Request:
    """A program to run, with its options."""

    def __init__(self) -> None:
        """Start with nothing to run."""
        self.system: str | None = None
        self.name = ""
        self.share = 1
        self.reserve = ""
        self.budget: dict[str, int] = {}
        self.paged = False
        self.write = ""
        self.detach = False
        self.environ: list[str] = []
        self.argv: list[str] = []


def quick(words: list[str]) -> Request | None:
    """Read a command line without argparse; None: it needs help, or is wrong."""
    request = Request()
    rest = iter(words)
    for word in rest:
        if word == "--":
            request.argv = list(rest)
        elif not word.startswith("-") or word == "-":
            request.argv = [word, *rest]
        elif word in ("-d", "--detach"):
            request.detach = True
        elif word == "--paged":
            request.paged = True
        else:
            option, equals, value = word.partition("=")
            if not _set(request, option, value if equals else next(rest, None)):
                return None
    return request if request.argv and all(map(_is_variable, request.environ)) else None


def _set(request: Request, option: str, value: str | None) -> bool:
    """Set one option; return whether that was possible."""
    if value is None:
        return False
    match option:
        case "--run":
            request.system = value
        case "--name" if is_name(value):
            request.name = value
        case "--write" if value:
            request.write = value
        case "--env":
            request.environ.append(value)
        case "--reserve" if "/" in value:
            request.reserve = value
        case "--share" if value.isascii() and value.isdecimal() and int(value) <= 1000:  # noqa: PLR2004
            request.share = int(value)
        case "--budget" if limits := _limits(value):
            request.budget.update(limits)
        case _:
            return False
    return True


def configure(parser: "ArgumentParser") -> None:
    """Add the options of `run`."""
    parser.add_argument(
        "--name", metavar="N", type=named, help="what to call it (default: after its program)"
    )
    parser.add_argument(
        "--share",
        metavar="N",
        type=parts,
        default=1,
        help="parts of the processor, 0..1000 (default: 1); 0: outside the plan",
    )
    parser.add_argument(
        "--reserve",
        metavar="RUNTIME/PERIOD",
        default="",
        help="CPU time that the kernel gives it in every period, as in 2ms/10ms, beside its slices of the plan",
    )
    parser.add_argument(
        "--budget",
        metavar="ITEM=N,...",
        action="append",
        type=limits,
        default=[],
        help="how much of what 'exo ps --budget' shows it may make the system hold (default: docs/budgets.md)",
    )
    parser.add_argument(
        "--paged", action="store_true", help="it may map memory that other programs page; Python only"
    )
    parser.add_argument(
        "--write",
        metavar="DIR",
        default="",
        help="it may write files in that directory, as far as its uid may",
    )
    parser.add_argument(
        "-d", "--detach", action="store_true", help="leave it running, its output in the log; print its name"
    )
    parser.add_argument(
        "--env", metavar="K=V", action="append", type=_variable, default=[], help="set a variable"
    )
    parser.add_argument("program", metavar="PROGRAM")
    parser.add_argument("arguments", metavar="ARG", nargs="...").required = False


def parts(text: str) -> int:
    """Return the share that *text* means. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and int(text) <= 1000):  # noqa: PLR2004 - the bound is the console's
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r}: write how many parts of the processor it gets, 0..1000")
    return int(text)


def limits(text: str) -> "dict[str, int]":
    """Return the budget that *text* means; the system knows the items. Raises ArgumentTypeError."""
    found = _limits(text)
    if not found:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r}: write ITEM=NUMBER, with commas between several")
    return found


def _limits(text: str) -> "dict[str, int]":
    """Return the limits in *text*; empty: it is not a list of limits."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if not (is_name(name) and number.isascii() and number.isdecimal() and len(number) < 10):  # noqa: PLR2004
            return {}
        found[name] = int(number)
    return found


def _variable(text: str) -> str:
    if not _is_variable(text):
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r}: write NAME=VALUE")
    return text


def _is_variable(text: str) -> bool:
    return text.find("=") > 0


def main(options: "Namespace") -> int:
    """Run what argparse read."""
    request = Request()
    request.system, request.name, request.share = options.run, options.name or "", options.share
    request.detach, request.environ = options.detach, options.env
    request.paged, request.reserve = options.paged, options.reserve
    request.budget = {item: limit for each in options.budget for item, limit in each.items()}
    request.argv = [options.program, *options.arguments]
    return start(request)


def start(request: Request) -> int:
    """Start the program, and stay until it has ended unless it was detached; return our exit status."""
    if request.reserve:
        from exo.sched import amount

        amount(request.reserve)
    console = Console(run_directory(request.system))
    handlers: dict[int, Any] = {}
    streams = None if request.detach else Streams()
    try:
        # The program may run before our next line: a signal waits until it can be passed on.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, FORWARDED)
        try:
            _ask(console, request, streams)
            if not request.detach:
                _forward(console, handlers)
        finally:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, FORWARDED)
        answer = console.receive()
        if answer is None:
            raise Trouble("the process server is gone: 'exo status' says whether it is back", FAULTED)
        if "error" in answer:
            raise Trouble(f"{request.argv[0]} was not started: {answer['error']}", NOT_FOUND)
        if request.reserve:
            _reserve(request, answer["ok"]["name"])
        if not request.detach:
            return _wait(console, answer["ok"]["name"])
        print(answer["ok"]["name"])
        return 0
    finally:
        for number, handler in handlers.items():
            _signal.signal(number, handler)
        console.close()
        if streams is not None:
            streams.restore()


def _ask(console: Console, request: Request, streams: Streams | None) -> None:
    """Send the request, with our parts of the program."""
    kind, argv, descriptors, roles = _program(request.argv)
    if request.write:
        descriptors, roles = [*descriptors, _writable(request.write)], [*roles, WRITABLE]
    given = Given(argv, variables(request.environ))
    try:
        console.send(
            "run",
            [*(streams.descriptors if streams else ()), *descriptors, *given.descriptors],
            kind=kind,
            argv=given.argv,
            name=request.name,
            environ=given.environ,
            share=request.share,
            budget=request.budget,
            paged=request.paged,
            roles=[*(streams.roles if streams else ()), *roles, *given.roles],
            detach=request.detach,
        )
    finally:
        if streams:
            streams.given()
        given.close()
        for number in descriptors:
            os.close(number)


def _reserve(request: Request, name: str) -> None:
    """Reserve CPU time for the program, which runs already; without it, it is ended."""
    from exo.sched import reserve

    try:
        reserve(request.system, name, request.reserve)
    except Trouble as trouble:
        console = Console(run_directory(request.system))
        try:
            console.ask("kill", name=name, signal=9)
        except Trouble:
            return  # it has ended already, and needs none
        finally:
            console.close()
        raise Trouble(f"{name} was ended: {trouble}", FAULTED) from None


def _forward(console: Console, handlers: "dict[int, Any]") -> None:
    """Pass signals on, from now on."""
    for number in FORWARDED:
        handlers[number] = _signal.signal(number, lambda number, _: console.send("signal", signal=number))


def _wait(console: Console, name: str) -> int:
    """Return the exit status for the end of the program."""
    answer = console.receive()
    while answer is not None and "exit" not in answer:  # a signal could not be sent
        print(f"exo: {answer.get('error')}", file=sys.stderr)
        answer = console.receive()
    if answer is None:
        raise Trouble(f"the system ended, or its process server, while {name} ran: see 'exo status'", FAULTED)
    return _status(name, **answer["exit"])


def _status(name: str, status: int, fault: int, text: str) -> int:
    """Return the exit status a shell would give; report what a shell cannot know."""
    if fault == FAULT_NOT_STARTED:
        raise Trouble(f"{name} was not started: {text}", NOT_FOUND)
    if fault:
        raise Trouble(f"{name} was ended by the kernel: {text}", FAULTED)
    return BY_SIGNAL - status if status < 0 else status


def _program(argv: list[str]) -> "tuple[int, list[str], list[int], list[int]]":
    """Return kind, arguments, descriptors and their roles."""
    if not argv[0].endswith(".py"):
        path = find(argv[0])
        if not is_text(path):
            raise Trouble(f"{os.fsencode(path)!r} is not UTF-8: call the program by another path", NOT_FOUND)
        return FOREIGN, [path, *argv[1:]], [own_directory()], [DIRECTORY]
    try:
        source = os.open(argv[0], os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        status = NOT_EXECUTABLE if isinstance(error, PermissionError) else NOT_FOUND
        raise Trouble(f"cannot read {argv[0]}: {error.strerror}", status) from None
    beside = own_directory(os.path.dirname(argv[0]) or ".")  # noqa: PTH120 - pathlib is slow to import
    return PYTHON, argv, [own_directory(), source, beside], [DIRECTORY, SOURCE, IMPORTS]


def _writable(path: str) -> int:
    """Return a descriptor of the directory in which the program may write. Raises Trouble."""
    try:
        return own_directory(path)
    except OSError as error:
        raise Trouble(f"--write {path}: {error.strerror}: name a directory", NOT_FOUND) from None


def find(name: str) -> str:
    """Return the path of the executable *name*, along PATH unless it names a directory itself."""
    if not name:
        raise Trouble("the program's name is empty: write 'exo run -- PROGRAM [ARG]...'", NOT_FOUND)
    places = [""] if "/" in name else os.environ.get("PATH", os.defpath).split(":")
    found = [path for place in places if os.path.isfile(path := os.path.join(place, name))]  # noqa: PTH113, PTH118
    for path in found:
        if os.access(path, os.X_OK):
            return os.path.abspath(path)  # noqa: PTH100 - as everywhere here: pathlib takes 7 ms to import
    if found:
        raise Trouble(
            f"{found[0]} is not executable: 'chmod +x' it, or call it .py if it is Python", NOT_EXECUTABLE
        )
    where = "no such file" if "/" in name else "not found along PATH"
    raise Trouble(f"{name}: {where}", NOT_FOUND)

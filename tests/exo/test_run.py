"""`exo run`: what it asks for, and what it makes of how a program ended."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exo import run as verb
from exo.__main__ import main
from exo.serve import SERVER
from exo.streams import STREAMS
from exo.system import Trouble
from exo.verbs import parser
from kernel.abi.errors import Fault
from kernel.abi.program import ProgramKind, Role

STARTED = {"ok": {"thread": 1, "name": "prog"}}


def ended(status: int, fault: int = 0, text: str = "") -> dict[str, Any]:
    return {"packets": [STARTED, {"exit": {"status": status, "fault": fault, "text": text}}]}


def test_the_numbers_are_the_abis() -> None:
    """They are written down here, for importing them would take longer than all the rest."""
    assert (verb.PYTHON, SERVER, verb.FOREIGN) == (
        ProgramKind.PYTHON,
        ProgramKind.SERVER,
        ProgramKind.FOREIGN,
    )
    assert STREAMS == (Role.STDIN, Role.STDOUT, Role.STDERR)
    assert (verb.DIRECTORY, verb.SOURCE, verb.IMPORTS) == (Role.DIRECTORY, Role.SOURCE, Role.IMPORTS)
    assert verb.WRITABLE == Role.WRITABLE
    assert verb.FAULT_NOT_STARTED == Fault.NOT_STARTED


def test_nothing_heavy_is_imported() -> None:
    """Until the request is sent: each of these takes longer than our own code."""
    script = "import sys, exo.__main__, exo.run; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    heavy = {
        "argparse",
        "asyncio",
        "enum",
        "json",
        "msgspec",
        "pathlib",
        "re",
        "socket",
        "subprocess",
        "typing",
        "zmq",
    }
    assert heavy.isdisjoint(found.stdout.split())


@pytest.mark.parametrize(
    "line",
    [
        "a.py",
        "-- a.py -d --name x",
        "a.py -d --name x",
        "--name n --share 3 -d -- sort -u",
        "--name=n --share=0 --env A=1 --env B=2=3 --detach prog",
        "--env=A= --run /x prog y",
        "--share 1000 -- --odd",
        "--name -x prog",
        "--budget threads=4,children=0 --budget=waits=7 -- prog",
        "--paged -- prog.py",
        "--write given -- prog.py",
        "--write=/given prog.py",
    ],
)
def test_the_quick_way_reads_as_argparse_does(line: str) -> None:
    """Where it reads a line at all."""
    words = line.split()
    request = verb.quick(words)
    assert request is not None
    if "-x" in words:
        return  # argparse has no way to give a value that looks like an option, but by "="

    options = parser("run").parse_args(words)

    program = [options.program, *options.arguments]
    assert program[-len(request.argv) :] == request.argv
    assert (request.name, request.share, request.detach) == (
        options.name or "",
        options.share,
        options.detach,
    )
    assert (request.environ, request.system) == (options.env, options.run)
    assert request.write == options.write
    assert request.budget == {item: limit for each in options.budget for item, limit in each.items()}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--",
        "--help",
        "-h",
        "--share x a",
        "--share -1 a",
        "--share 1001 a",
        "--budget threads a",
        "--budget threads=x a",
        "--budget threads=-1 a",
        "--budget threads=1000000000 a",
        "--budget threads=1,=2 a",
        "--budget threads=1, a",
        "--env A a",
        "--nam n a",
        "--name",
    ],
)
def test_what_needs_an_explanation_is_left_to_argparse(line: str) -> None:
    """The quick way refuses what is not plainly right."""
    assert verb.quick(line.split()) is None


def test_a_python_program_comes_with_all_it_needs(
    run: Path, operator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its streams, our directory, its text, its arguments and our variables but those that say where it is."""
    script = run / "prog.py"
    script.touch()
    monkeypatch.chdir(run)
    monkeypatch.setenv("EXO_NAME", "somebody else")
    monkeypatch.setenv("COLOUR", "red")
    heard = operator(ended(0))
    streams = [str(Path(f"/proc/self/fd/{number}").readlink()) for number in (0, 1, 2)]

    options = ["--share", "3", "--budget", "threads=4,children=0", "--env", "SHAPE=a=b"]
    assert main(["--run", str(run), "run", *options, "--", "prog.py", "x", "é"]) == 0

    request = heard.requests[0]
    environ = dict(request.pop("environ"))
    assert request == {
        "op": "run",
        "kind": 1,
        "argv": ["prog.py", "x", "é"],
        "name": "",
        "share": 3,
        "budget": {"threads": 4, "children": 0},
        "paged": False,
        "roles": [0, 1, 2, 3, 4, 5],
        "detach": False,
    }
    assert heard.descriptors == [[*streams, str(run), str(script), str(run)]]
    assert (environ["COLOUR"], environ["SHAPE"]) == ("red", "a=b")
    assert "EXO_NAME" not in environ


def test_a_detached_program_has_no_streams_of_ours(
    run: Path, operator: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is printed, for the verbs that take one."""
    heard = operator(STARTED)

    assert main(["--run", str(run), "run", "-d", "--name", "web", "/bin/true"]) == 0

    assert capsys.readouterr().out == "prog\n"
    assert (heard.requests[0]["roles"], heard.requests[0]["detach"]) == ([3], True)
    assert (heard.requests[0]["kind"], heard.requests[0]["argv"]) == (3, ["/bin/true"])


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (ended(0), 0, ""),
        (ended(7), 7, ""),
        (ended(-9), 137, ""),
        (ended(-2), 130, ""),
        (
            ended(0, 1, "the bytes are not a trap"),
            125,
            "exo: prog was ended by the kernel: the bytes are not a trap\n",
        ),
        (ended(-9, 5, "no such program"), 127, "exo: prog was not started: no such program\n"),
        ({"error": "the name is taken"}, 127, "exo: /bin/true was not started: the name is taken\n"),
        (STARTED, 125, "exo: the system ended, or its process server, while prog ran: see 'exo status'\n"),
    ],
)
def test_the_end_of_a_program_becomes_ours(
    answer: dict[str, Any],
    status: int,
    said: str,
    run: Path,
    operator: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a shell would have it: its status, or 128 and the signal; what only the kernel knows in one line."""
    operator(answer)

    assert main(["--run", str(run), "run", "/bin/true"]) == status
    assert capsys.readouterr().err == said


def test_signals_are_passed_on(run: Path, operator: Callable[..., Any]) -> None:
    """Signals that reach us while the program runs reach it."""
    heard = operator(STARTED, ended(-signal.SIGUSR1)["packets"][1])
    words = [sys.executable, "-m", "exo", "--run", str(run), "run", "/bin/true"]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2]) as child:
        while not heard.requests:
            pass
        while not _catches(child.pid, signal.SIGUSR1):
            pass
        child.send_signal(signal.SIGUSR1)

    assert child.returncode == 128 + signal.SIGUSR1
    assert heard.requests[1] == {"op": "signal", "signal": int(signal.SIGUSR1)}


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> number - 1 & 1)


def test_executables_are_found_along_path(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that can be executed; the way a shell looks."""
    for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (run / folder).mkdir()
        (run / folder / "tool").touch(mode)
    monkeypatch.setenv("PATH", ":".join(str(run / folder) for folder in "abc"))

    assert verb.find("tool") == str(run / "b" / "tool")
    monkeypatch.chdir(run / "c")
    assert verb.find("./tool") == str(run / "c" / "tool")


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("nosuch", 127, "not found along PATH"),
        ("./nosuch", 127, "no such file"),
        ("./plain", 126, "chmod \\+x"),
    ],
)
def test_what_cannot_be_executed_is_told(
    name: str, status: int, said: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the status a shell has for it."""
    monkeypatch.chdir(run)
    Path("plain").touch(0o644)

    with pytest.raises(Trouble, match=said) as caught:
        verb.find(name)
    assert caught.value.status == status


def test_a_script_that_is_not_there_is_told(
    run: Path, operator: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """By us, for the environment could not read it anyway."""
    operator({})

    assert main(["--run", str(run), "run", "/nowhere/a.py"]) == 127
    assert capsys.readouterr().err == "exo: cannot read /nowhere/a.py: No such file or directory\n"

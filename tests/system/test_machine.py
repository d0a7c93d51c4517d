"""Real programs on the real machine: how they start, what they find, how they end, how they trap."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.abi.program import Program, Role
from tests.system.machines import FOREIGN, PYTHON, SERVER, TRAP, System, booted_machine

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]


@pytest.fixture
def system() -> Iterator[System]:
    with booted_machine() as system:
        yield system


# ------------------------------------------------------------------------------------------ starting, ending


def test_a_program_runs_and_its_output_and_status_come_back(system: System) -> None:
    """Streams that were not given: nothing to read, and a log."""
    status, output = system.finish(
        "import sys; print(sys.argv, repr(sys.stdin.read())); sys.exit(3)", "one", "two"
    )

    assert (status, output) == (3, "['program.py', 'one', 'two'] ''\n")
    assert [what for what, *_ in system.events] == ["started", "ended"]


def test_a_program_has_its_own_environment_only(system: System) -> None:
    """Its own variables and its place; nothing of ours."""
    _, output = system.finish("import os; print(dict(os.environ))", environ={"A": "b", "EXO_NAME": "forged"})

    expected = {"A": "b", "EXO_NAME": "test", "EXO_RUN": str(system.run), "EXO_TRAP_FD": "3"}
    assert output.strip() == str(expected)


def test_a_program_starts_with_its_descriptors_and_no_others(system: System) -> None:
    """Streams, gate, source, and directories to import from, which lead nowhere else."""
    _, output = system.finish(
        "import os\n"
        "for number in sorted(map(int, os.listdir('/proc/self/fd'))):\n"
        "    try: print(number, os.readlink(f'/proc/self/fd/{number}'))\n"
        "    except OSError: pass\n"
    )

    numbers = [int(line.split()[0]) for line in output.splitlines()]
    rest = [line.split()[1] for line in output.splitlines() if int(line.split()[0]) >= 10]
    assert numbers[:4] == [0, 1, 2, 3]
    assert all(Path(path).exists() or path == "/memfd:source" for path in rest)
    assert len(rest) <= len(sys.path) + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_each_program_has_a_uid_of_its_own(system: System) -> None:
    """The body says which, and the program finds the same."""
    bodies = [system.start(source="import os; print(os.getresuid(), os.getgroups())") for _ in range(2)]
    for body in bodies:
        system.wait("ended", body)

    assert bodies[0].uid != bodies[1].uid
    assert sorted(system.output().splitlines()) == sorted(str((b.uid,) * 3) + " []" for b in bodies)


@pytest.mark.parametrize(
    ("source", "status", "says"),
    [
        pytest.param("", 0, "", id="nothing"),
        pytest.param("import sys; sys.exit('enough')", 1, "enough\n", id="exit with a text"),
        pytest.param("import sys; sys.exit(257)", 1, "", id="exit with a large status"),
        pytest.param("import os; os.kill(os.getpid(), 9)", -9, "", id="killed"),
        pytest.param("import os; os.abort()", -6, "", id="aborted"),
        pytest.param("raise KeyboardInterrupt", -2, "KeyboardInterrupt", id="interrupted"),
        pytest.param("def f():\n  1 / 0\nf()", 1, "line 2, in f\n    1 / 0\n", id="uncaught error"),
        pytest.param("x = = 1", 1, "SyntaxError", id="syntax error"),
        pytest.param("import atexit; atexit.register(print, 'bye')", 0, "bye\n", id="exit function"),
        pytest.param(
            "import threading; threading.Thread(target=lambda: print('done')).start()",
            0,
            "done\n",
            id="thread",
        ),
    ],
)
def test_a_program_ends_as_under_an_interpreter_of_its_own(
    system: System, source: str, status: int, says: str
) -> None:
    """Its status, its last words, and of a traceback only its own lines."""
    ended, output = system.finish(source)

    assert ended == status
    assert says in output
    assert "libexo" not in output


def test_a_program_runs_as_main_from_its_directory(system: System, tmp_path: Path) -> None:
    """The directory is where it is, and where it imports from; its own uid need not reach it by path."""
    (tmp_path / "helper.py").write_text("value = 5")
    (tmp_path / "main.py").write_text(
        "import helper, os, __main__; print(helper.value, __name__, __main__.os.getcwd())"
    )
    tmp_path.chmod(0o755)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    places = {Role.DIRECTORY: directory, Role.IMPORTS: os.dup(directory)}
    body = system.start("main.py", roles=places)

    assert (system.wait("ended", body), system.output()) == (0, f"5 __main__ {tmp_path}\n")


def test_a_server_that_is_a_package_is_run(system: System) -> None:
    """`name` stands for `python -m name`."""
    body = system.start("platform", kind=SERVER)

    assert system.wait("ended", body) == 0
    assert "Linux" in system.output()


def test_a_foreign_program_gets_the_streams_it_was_given(system: System) -> None:
    """Found on the path, run in our place, its output in the pipe it was handed."""
    reading, writing = os.pipe()

    body = system.start(
        "sh", "-c", "echo $0 $A; exit 4", "x", kind=FOREIGN, environ={"A": "b"}, roles={Role.STDOUT: writing}
    )

    assert system.wait("ended", body) == 4
    with os.fdopen(reading) as output:
        assert output.read() == "x b\n"


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("no-such-thing",), "no such program"),
        (("/no/such",), "no such program"),
        (("/etc/passwd",), "cannot execute"),
    ],
)
def test_a_program_that_cannot_be_executed_has_failed_and_not_ended(
    system: System, argv: tuple[str, ...], reason: str
) -> None:
    """The reason names it; nothing else is said about it."""
    body = system.start(*argv, kind=FOREIGN)

    said = str(system.wait("failed", body))

    assert reason in said
    assert argv[0] in said
    assert [what for what, *_ in system.events] == ["failed"]


def test_a_layer_the_host_lacks_is_named_in_the_failure(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uid 0 cannot be an environment's: the confinement refuses, the nursery goes on."""
    if os.geteuid() != 0:
        pytest.skip("only root has uids to give")
    monkeypatch.setattr(system.machine._uids, "take", lambda: 0)
    refused = system.start(source="print('never')")
    reason = system.wait("failed", refused)
    monkeypatch.undo()
    refused.on_discard = None

    status, output = system.finish("print('fine')")

    assert "uid" in str(reason)
    assert (status, output) == (0, "fine\n")


def test_roles_without_descriptors_are_a_failure(system: System) -> None:
    """The kernel should have refused them; the nursery does too."""
    program = Program(PYTHON, ("x",), (), (Role.STDIN,))

    body = system.machine.launch(7, "test", program, [], cpu=-1)

    assert "1 roles" in str(system.wait("failed", body))


# ------------------------------------------------------------------------------------------------- the gate


def test_a_program_traps_and_is_answered(system: System) -> None:
    """Never before the kernel was told of its start."""
    body = system.start(source=TRAP + "print(gate.recv(10))")
    system.wait("trap", body)
    body.port.send(b"answer")
    system.wait("ended", body)

    assert system.output() == "b'answer'\n"
    assert [what for what, *_ in system.events] == ["started", "trap", "ended"]


def test_a_program_may_close_its_gate_and_live(system: System) -> None:
    """Its end is what the nursery says, not what the gate says."""
    body = system.start(source=TRAP + "gate.close(); input()", roles={Role.STDIN: (pipe := os.pipe())[0]})
    system.wait("trap", body)
    system.pass_time(20)
    alive = not system.told("ended", body)
    os.close(pipe[1])

    assert system.wait("ended", body) == 1
    assert alive


def test_somebody_attaches_and_leaves(system: System) -> None:
    """The host tells its identity; its packets are traps; its end is noticed."""
    source = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])\n"
        "s.send(b'it is me'); s.send(b'trap'); print(s.recv(10)); "
    )
    visitor = subprocess.Popen(
        [sys.executable, "-c", source, str(system.run / "gate")], stdout=subprocess.PIPE, text=True
    )
    system.run_until(lambda: any(what == "trap" for what, *_ in system.events))
    (_, body, data), _ = system.events
    assert body is not None

    body.port.send(b"welcome")
    system.wait("ended", body)
    output, _ = visitor.communicate()

    assert (body.pid, body.uid, body.owned, data) == (visitor.pid, os.getuid(), False, b"it is me")
    assert output == "b'welcome'\n"
    body.discard()

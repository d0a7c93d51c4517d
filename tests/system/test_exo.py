"""The `exo` command on a real system: what a user types, and what it does to the host."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.system.command import DEGRADED, PATIENCE, ROOT, Command, family, living, place, until

pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]

CLIENT = """
import sys, libexo
from mine import Mine
print(Mine.connect(libexo.attach(), sys.argv[1]).twice(21))
"""
SERVER = """
import os
from libexo.stub import Interface, operation

class Mine(Interface, label=0x77):
    @operation(1)
    def twice(self, n: int) -> int: ...
    @operation(2)
    def process(self) -> int: ...

class Server(Mine):
    def twice(self, n: int) -> int:
        print("asked for", n)
        return 2 * n
    def process(self) -> int:
        return os.getpid()
"""
BREAKS_ITS_CONTRACT = """
import os, socket, time
socket.socket(fileno=int(os.environ["EXO_TRAP_FD"])).send(b"no trap at all")
time.sleep(60)
"""


@pytest.fixture(scope="module")
def system() -> Iterator[Command]:
    """A system that is up, for tests that leave it as it was."""
    with place(Command) as made:
        made.up()
        yield made


@pytest.fixture
def fresh() -> Iterator[Command]:
    """A place without a system."""
    with place(Command) as made:
        yield made


# -------------------------------------------------------------------------------------------------- looking


def test_the_listings_of_a_real_system(system: Command) -> None:
    """Each says what it should, and its JSON can be read."""
    status = json.loads(system.exo("status", "--json").stdout)

    assert status["state"] == "up"
    assert status["servers"] == dict.fromkeys(("memory", "process", "scheduler"), "ready")
    assert {"memory", "process", "scheduler"} <= set(system.exo("ps", "--names").stdout.split())
    assert all(each["cpu_ns"] > 0 for each in system.listed().values())
    assert json.loads(system.exo("mem", "--json").stdout)["frames"] == status["frames"]
    assert "host core" in system.exo("sched").stdout
    assert "memory" in system.exo("top").stdout
    assert " | " in system.exo("logs").stdout or not system.exo("logs").stdout
    assert "created         thread" in system.exo("trace", "--count", "100000").stdout
    assert system.exo("doctor", "--json", status=0 if os.geteuid() == 0 else 1).stdout


def test_a_second_system_in_the_same_place_is_refused(system: Command) -> None:
    """By a line that names the first one."""
    assert f"(process {system.pid()}): 'exo down' ends it" in system.exo("up", "-d", status=1).stderr


# -------------------------------------------------------------------------------------------------- running


def test_python_runs_as_under_a_shell(system: Command) -> None:
    """Streams, arguments, directory, variables, exit status."""
    text = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['SHAPE'], sys.stdin.read()); sys.exit('no')"
    system.write("prog.py", text)

    done = system.exo("run", "--env", "SHAPE=round", "--", "prog.py", "a b", "é", stdin="typed", status=1)

    assert done.stdout == f"['a b', 'é'] {system.folder} round typed\n"
    assert done.stderr == "no\n"


def test_any_other_program_runs_too(system: Command) -> None:
    """Found along PATH, in a pipe."""
    assert system.exo("run", "--", "tr", "a-z", "A-Z", stdin="hello").stdout == "HELLO"


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        (["sh", "-c", "exit 42"], 42, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["nosuch"], 127, "exo: nosuch: not found along PATH\n"),
        (["nosuch.py"], 127, "exo: cannot read nosuch.py: No such file or directory\n"),
        (
            ["/etc/passwd"],
            126,
            "exo: /etc/passwd is not executable: 'chmod +x' it, or call it .py if it is Python\n",
        ),
    ],
)
def test_the_exit_status_is_a_shells(program: list[str], status: int, said: str, system: Command) -> None:
    """128 and the signal, 127 for what is not there, 126 for what cannot be executed."""
    assert system.exo("run", "--", *program, status=status).stderr == said


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_nobodys(closed: str, system: Command) -> None:
    """A program that is run with a standard stream closed has none of exo's own connections in its place."""
    sockets = "sys.exit(sum(stat.S_ISSOCK(os.fstat(n).st_mode) for n in (0, 1, 2)))"
    program = system.write("streams.py", f"import os, stat, sys\n{sockets}\n")
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", *system.words("run", "--", program)]
    done = subprocess.run(
        words,
        env=system.environ,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=PATIENCE,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_fault_is_told_in_a_line(system: Command) -> None:
    """The kernel ended it: no shell has a number for that."""
    system.write("bad.py", BREAKS_ITS_CONTRACT)

    done = system.exo("run", "bad.py", status=125)

    assert done.stderr.startswith("exo: bad was ended by the kernel: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_program(number: signal.Signals, system: Command) -> None:
    """One that has no handler for it ends by it, and so do we, in a shell's words."""
    words = system.words("run", "--", "sh", "-c", "echo ready; exec sleep 60")
    with subprocess.Popen(words, env=system.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)

    assert child.returncode == 128 + number


def test_a_program_ends_with_the_one_who_ran_it(system: Command) -> None:
    """By any kind of end."""
    words = system.words("run", "--name", "orphan", "--", "sh", "-c", "echo ready; exec sleep 60")
    with subprocess.Popen(words, env=system.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()

    until(lambda: "orphan" not in system.listed())


def test_a_detached_program_is_found_by_its_name(system: Command) -> None:
    """In the list, in the log, and by kill."""
    assert (
        system.exo("run", "-d", "--name", "web", "--", "sh", "-c", "echo hello; sleep 60").stdout == "web\n"
    )
    until(lambda: system.exo("logs", "web").stdout == "hello\n")

    assert system.listed()["web"]["processor"] == 0
    assert "web" in system.exo("sched").stdout
    system.exo("kill", "web")
    until(lambda: "web" not in system.listed())
    assert "no program is called 'web'" in system.exo("kill", "web", status=1).stderr


# -------------------------------------------------------------------------------------------------- servers


def test_a_server_of_ones_own(system: Command) -> None:
    """Served from this directory, called by a program, ended for good."""
    system.write("mine.py", SERVER)
    system.write("client.py", CLIENT)

    system.exo("serve", "mine:Server", "--name", "mine")
    assert system.exo("run", "client.py", "mine").stdout == "42\n"
    assert system.exo("logs", "mine").stdout == "asked for 21\n"
    system.exo("kill", "--end", "mine")
    assert "mine" not in system.listed()
    system.exo("serve", system.folder / "mine.py:Server", "--name", "mine")
    assert system.exo("run", "client.py", "mine").stdout == "42\n"
    system.exo("kill", "--end", "mine")


def test_a_server_with_a_rule_is_back_until_it_is_ended_for_good(system: Command) -> None:
    """A kill is what the rule is for; --end is the way around it."""
    system.exo("serve", "exo.programs.counter:CounterServer", "--name", "adder", "--restart", "always")
    before = system.listed()["adder"]["thread"]
    system.exo("kill", "-s", "KILL", "adder")

    until(lambda: system.listed().get("adder", {}).get("thread", before) != before)
    system.exo("kill", "--end", "adder")
    until(lambda: "adder" not in system.listed())


@pytest.mark.parametrize("name", ["memory", "scheduler", "process"])
def test_a_killed_server_is_back(name: str, system: Command) -> None:
    """Under its name, without an operator, the root task too."""
    before = system.listed()[name]["thread"]
    system.exo("kill", "-s", "KILL", name)

    until(lambda: system.listed().get(name, {}).get("thread", before) != before)
    assert system.exo("run", "--", "echo", "on").stdout == "on\n"


def test_a_server_attaches_from_outside(fresh: Command) -> None:
    """One with start = "attach" is this very process, as in a container or under a debugger."""
    config = fresh.write(
        "system.toml",
        (ROOT / "system.toml").read_text(encoding="utf-8")
        + '\n[server.mine]\nmodule = "mine:Server"\nthread = 110\nimportance = 5\nstart = "attach"\n'
        f"uid = {os.geteuid()}\ncalls = ['process', 'memory']\n",
    )
    fresh.write("mine.py", SERVER)
    fresh.write("client.py", CLIENT)
    fresh.exo("up", "-d", *DEGRADED, "--config", config)
    environ = {**fresh.environ, "PYTHONPATH": f"{ROOT}:{fresh.folder}"}
    words = fresh.words("serve", "--config", config, "mine")
    with subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL) as server:
        until(lambda: "mine" in fresh.listed())
        pid = fresh.listed()["mine"]["pid"]
        answer = fresh.exo("run", "client.py", "mine").stdout
        fresh.exo("down")

    assert (pid, answer, server.returncode) == (server.pid, "42\n", 0)


# ------------------------------------------------------------------------------------------- its beginning, end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_in_the_foreground_a_signal_ends_all_of_it(number: signal.Signals, fresh: Command) -> None:
    """Cleanly: status 0, nothing left of processes and files."""
    words = fresh.words("up", *DEGRADED)
    with subprocess.Popen(words, env=fresh.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        processes = family(fresh.pid())
        child.send_signal(number)
        child.stdout.read()

    assert first.startswith(f"the system is up at {fresh.run}")
    assert child.returncode == 0
    assert not living(processes)
    assert {path.name for path in fresh.run.parent.iterdir()} == {"run.log", "run.logs", "work"}


def test_a_killed_foreground_takes_the_system_along(fresh: Command) -> None:
    """Nobody would be there to end it."""
    words = fresh.words("up", *DEGRADED)
    with subprocess.Popen(words, env=fresh.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        processes = family(fresh.pid())
        child.kill()

    until(lambda: not living(processes) and not fresh.run.exists())


def test_a_terminal_shows_a_status_line_and_ends_the_system_when_it_closes(fresh: Command) -> None:
    """Text printed on it stays above the line."""
    pid, terminal, shown = fresh.on_terminal()
    processes = family(fresh.pid())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)

    assert b"the system is up at " in shown
    assert b"\r\x1b[K3 environments" in shown
    assert os.waitstatus_to_exitcode(status) == 0
    assert not living(processes)
    assert not fresh.run.exists()


def test_the_profile_names_the_phases(fresh: Command) -> None:
    """From the imports to the last server."""
    words = fresh.words("up", "--profile", *DEGRADED)
    with subprocess.Popen(words, env=fresh.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(8)]
        child.send_signal(signal.SIGINT)
        child.stdout.read()

    reached = [line.rsplit(maxsplit=2)[0] for line in lines[1:7]]
    assert reached[:3] == ["imports", "machine", "kernel"]
    assert sorted(reached[3:]) == ["memory ready", "process ready", "scheduler ready"]


def test_down_leaves_nothing(fresh: Command) -> None:
    """But the logs; a second one says that there is nothing to end."""
    fresh.up()
    fresh.exo("run", "-d", "--", "sleep", "60")
    processes = family(fresh.pid())
    fresh.exo("down")

    assert not living(processes)
    assert {path.name for path in fresh.run.parent.iterdir()} == {"run.log", "run.logs", "work"}
    assert "no system runs" in fresh.exo("down", status=1).stderr


def test_two_systems_run_side_by_side(system: Command, fresh: Command) -> None:
    """Each has its own programs, and the end of one is not the other's."""
    fresh.up()
    fresh.exo("run", "-d", "--name", "here", "--", "sleep", "60")

    assert "here" in fresh.listed()
    assert "here" not in system.listed()
    fresh.exo("down")
    assert system.exo("run", "--", "echo", "on").stdout == "on\n"


def test_the_death_of_the_kernel_is_told(fresh: Command) -> None:
    """A user who runs a program there is told, and the kernel's log is still there to be read."""
    fresh.up()
    pid = fresh.pid()
    processes = family(pid)
    words = fresh.words("run", "--", "sh", "-c", "echo ready; exec sleep 60")
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=fresh.environ, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        os.kill(pid, signal.SIGKILL)
        said = child.stderr.read()

    assert said.startswith("exo: the system ended")
    assert child.returncode == 125
    until(lambda: not living(processes) and not fresh.run.exists())
    assert fresh.run.with_suffix(".log").exists()


def test_a_boot_that_fails_shows_why(fresh: Command) -> None:
    """The kernel's own last words, and exit status 1."""
    config = fresh.write("bad.toml", "[machine]\ncpus = [63]\n")

    for detach in ([], ["-d"]):
        said = fresh.exo("up", *detach, "--config", config, status=1).stderr
        assert said.startswith("exo: the system did not boot; the kernel's last words:\n    exo: ")
        assert "core 63" in said
        assert not fresh.run.exists()


def test_the_tour_works_and_cleans_up(fresh: Command) -> None:
    """Every check passes, and the system it booted is gone."""
    environ = {**fresh.environ, "TMPDIR": str(fresh.folder)}
    done = subprocess.run(
        fresh.words("tour"), env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "every check passed" in done.stdout
    assert list(fresh.folder.parent.iterdir()) == [fresh.folder]


def test_the_tour_visits_a_system_that_runs(system: Command) -> None:
    """And leaves it as it was."""
    before = set(system.listed())

    assert system.exo("tour").stdout.startswith(f"visiting the system at {system.run}\n")
    until(lambda: set(system.listed()) == before)

"""Deaths: of servers, of the kernel, of the nursery, of programs at bad moments; and their bystanders."""

import os
import signal
from collections.abc import Iterator

import pytest

from kernel.abi.ids import thread_number, thread_version
from tests.system.booted import SERVERS, Running, System, boot, ended, wait_until
from tests.system.programs import PRELUDE, VAULT

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

CLIENT = (
    PRELUDE
    + """
memory, scheduler, process = Memory.connect(env), Scheduler.connect(env), Processes.connect(env)
extent = memory.allocate(2)
view = vm.map(env, extent)
view[:4] = b"mine"
child = process.spawn(ProgramSpec(3, ("/usr/bin/tail", "-f", "/dev/null"), "child"))
calls = {"memory": memory.statistics, "scheduler": scheduler.plan, "process": lambda: process.wait(ended)}
ended = process.spawn(ProgramSpec(3, ("/bin/true",), "true"))
process.wait(ended)
"""
)
ALTERNATE = "[outcome(memory.statistics) + outcome(scheduler.plan) for _ in range(200)].count('donedone')"
TOLD = """
print("ready")
for line in sys.stdin:
    print(eval(line))
"""
CLIENT += TOLD


def kill(system: System, name: str) -> int:
    """Kill a server, wait until it is back, and return the thread id it had."""
    before = system.server(name)
    os.kill(before.pid, signal.SIGKILL)
    assert wait_until(lambda: (row := system.row(name)) is not None and row.pid not in (0, before.pid))
    return before.thread


def held(system: System) -> dict[str, int]:
    """Return how many frames each environment holds."""
    return {row.name: row.frames for row in system.kip.environments()}


@pytest.fixture
def client(own: System) -> Iterator[Running]:
    """A client of every server, that does what it is told."""
    with own.start(CLIENT, name="client") as running:
        assert running.line() == "ready"
        yield running


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_server_is_back(own: System, client: Running, name: str) -> None:
    """Under its name and number, with the next version: its old id is refused, and not mistaken for the new."""
    old = kill(own, name)

    new = own.server(name).thread
    assert own.kip.names()[name] == new
    assert thread_number(new) == thread_number(old)
    assert thread_version(new) > thread_version(old)
    assert client.ask(f"outcome(lambda: env.sys.bind({old}))") == "STALE_THREAD"
    assert client.ask(f"outcome(lambda: env.thread.call({old}, ipc.Message(1)))") == "NoPartner"


@pytest.mark.parametrize("name", SERVERS)
def test_the_calls_of_clients_go_on(own: System, client: Running, name: str) -> None:
    """Three times killed, each time in the middle of a client's calls, and the client notices nothing."""
    for _ in range(3):
        client.tell(ALTERNATE)
        kill(own, name)
        assert client.line() == "200"
    assert client.ask("bytes(view[:4]), memory.statistics().total") == "(b'mine', 65536)"


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_killed_server_held_is_still_held(own: System, client: Running, name: str) -> None:
    """Frames, handles and children are those of before; memory is allocated and freed as before."""
    assert wait_until(lambda: "true" not in held(own)), "a program that ended is still in the tables"
    before = held(own)

    kill(own, name)

    assert client.ask("bytes(view[:4])") == "b'mine'"
    assert client.ask("memory.free(memory.allocate(7))") == "None"
    assert wait_until(lambda: held(own) == before), (before, held(own))


def test_programs_outlive_the_process_server(own: System, client: Running) -> None:
    """It answers for them again: their starter can signal them, wait for them, and others cannot."""
    with own.start("input()", name="bystander", detach=True):
        kill(own, "process")

        assert own.row("child") is not None
        assert client.ask("outcome(lambda: process.kill(env.lookup('bystander')))") == "NotYours"
        assert client.ask("process.kill(child, 15) or process.wait(child).status") == "-15"
        os.kill(own.server("bystander").pid, signal.SIGKILL)
        assert wait_until(lambda: own.row("bystander") is None)


def test_an_end_while_the_process_server_is_gone_is_not_missed(own: System, client: Running) -> None:
    """A program that ended meanwhile has ended, and a wait for it says how."""
    victims = [own.server("child").pid, own.server("process").pid]
    os.kill(victims[1], signal.SIGSTOP)
    os.kill(victims[0], signal.SIGKILL)
    assert ended(victims[0])
    os.kill(victims[1], signal.SIGKILL)

    assert client.ask("process.wait(child).status") == "-9"


def test_a_wait_outlives_the_process_server(own: System, client: Running) -> None:
    """A call that was waiting when it died is answered by its successor."""
    client.tell("process.wait(child).status")
    kill(own, "process")
    os.kill(own.server("child").pid, signal.SIGTERM)

    assert client.line() == "-15"


def test_everybody_is_killed_at_once(own: System, client: Running) -> None:
    """All three servers, together: each is back, and the client goes on with what it had."""
    before = {name: own.server(name).pid for name in SERVERS}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    assert wait_until(
        lambda: all((r := own.row(n)) is not None and r.pid not in (0, before[n]) for n in SERVERS)
    )
    assert client.ask("bytes(view[:4]), memory.statistics().total") == "(b'mine', 65536)"
    own.settle()


def test_a_program_is_restarted_by_its_rule(own: System) -> None:
    """Killed, it is back; ended for good by an operator, it is not."""
    with own.start("input()", name="phoenix", restart="always", detach=True):
        first = own.server("phoenix")
        os.kill(first.pid, signal.SIGKILL)

        assert wait_until(lambda: (row := own.row("phoenix")) is not None and row.pid not in (0, first.pid))
        assert thread_version(own.server("phoenix").thread) > thread_version(first.thread)


def test_a_promise_to_restart_outlives_the_process_server(own: System) -> None:
    """The successor of the process server keeps the restarts that it promised."""
    with own.start(LASTING, name="phoenix", restart="always", detach=True) as phoenix:
        assert phoenix.line() == "here"
        first = own.server("phoenix")
        kill(own, "process")
        os.kill(first.pid, signal.SIGKILL)

        assert wait_until(lambda: (row := own.row("phoenix")) is not None and row.pid not in (0, first.pid))


LASTING = "import signal\nprint('here')\nsignal.pause()"

# ------------------------------------------------------------------------------------ the end of the system


def everybody(system: System) -> list[int]:
    return [row.pid for row in system.kip.environments() if row.pid] + [system.nursery]


@pytest.mark.parametrize(
    ("victim", "number"),
    [("kernel", signal.SIGKILL), ("nursery", signal.SIGKILL), ("kernel", signal.SIGTERM),
     ("kernel", signal.SIGINT), ("kernel", signal.SIGHUP)],
)  # fmt: skip
def test_the_system_ends(victim: str, number: int) -> None:
    """However it comes, every environment, socket and the run directory are gone."""
    with boot() as system, system.start(CLIENT, name="client") as client:
        assert client.line() == "ready"
        loops = system.start("while True: pass", name="loop", detach=True)
        pids = everybody(system)
        os.kill(system.pid if victim == "kernel" else system.nursery, number)

        assert system.process.wait(20) == (-number if (victim, number) == ("kernel", signal.SIGKILL) else 0)
        assert all(ended(pid) for pid in pids)
        assert wait_until(lambda: not system.run_directory.exists())
        loops.close()


def test_two_systems_side_by_side() -> None:
    """Same names, other uids; the end of one is nothing to the other."""
    with boot() as one, boot() as two, two.start(CLIENT, name="client") as client:
        assert client.line() == "ready"
        assert one.run("print('one')", name="same").out == "one\n"
        uids = [{row.uid for row in system.kip.environments()} for system in (one, two)]
        assert not uids[0] & uids[1]
        assert one.close() == 0
        assert client.ask("bytes(view[:4]), memory.statistics().total") == "(b'mine', 65536)"


# ------------------------------------------------------------------------------------ programs at bad moments

WAITER = PRELUDE + "print('waits', flush=True)\nProcesses.connect(env).wait(env.lookup('vault'))"
READER = (
    PRELUDE
    + """
vault = Vault.connect(env)
extent = vault.share()
view = vm.map(env, extent)
print(bytes(view[:6]), flush=True)
input()
print(view[0])
"""
)


def test_a_program_is_killed_in_the_middle_of_a_call(booted: System) -> None:
    """The one that would have answered it is not disturbed; the books balance."""
    with booted.start(VAULT, name="vault") as vault, booted.start(WAITER, name="waiter") as waiter:
        vault.line()
        waiter.line()
        os.kill(booted.server("waiter").pid, signal.SIGKILL)
        assert waiter.finish().status == -signal.SIGKILL
        assert booted.run("print('on')").out == "on\n"


def test_the_owner_of_shared_memory_is_killed(booted: System) -> None:
    """Its memory ends with it: a program that still touches it ends by a bus error, others go on."""
    with (
        booted.start(VAULT, name="vault") as vault,
        booted.start(READER, name="reader") as reader,
        booted.start(READER, name="careful") as careful,
    ):
        vault.line()
        assert (reader.line(), careful.line()) == ("b'secret'", "b'secret'")
        os.kill(booted.server("vault").pid, signal.SIGKILL)
        assert vault.finish().status == -signal.SIGKILL
        reader.tell("touch")
        assert reader.finish().status == -signal.SIGBUS
        careful.signal(signal.SIGTERM)
        assert careful.finish().status == -signal.SIGTERM


def test_a_reader_of_shared_memory_is_killed(booted: System) -> None:
    """The others share it still, where it is."""
    with (
        booted.start(VAULT, name="vault") as vault,
        booted.start(READER, name="reader") as reader,
        booted.start(READER, name="other") as other,
    ):
        vault.line()
        assert (reader.line(), other.line()) == ("b'secret'", "b'secret'")
        os.kill(booted.server("reader").pid, signal.SIGKILL)
        reader.finish()
        other.tell("touch")
        assert other.finish().out.endswith("115\n")

"""The table of attacks, each tried by a real program on a real system, which goes on."""

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from kernel.abi.kip import Head
from tests.system.attacks import ATTACKER, GATES, MEMORY, MESSAGES, OTHERS, Attack
from tests.system.booted import Running, System, wait_until
from tests.system.hoards import HOARDS
from tests.system.programs import VAULT

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

ATTACKS = (*MEMORY, *OTHERS, *MESSAGES, *GATES, *HOARDS)


@pytest.fixture(scope="module")
def vault(shared_system: System) -> Iterator[Running]:
    """A bystander with a secret."""
    with shared_system.start(VAULT, name="vault") as running:
        running.line()
        shared_system.run(ATTACKER + "memory.statistics(); vault.secret()")
        shared_system.rebase()
        yield running
    shared_system.rebase()


def matches(said: str, wanted: str) -> bool:
    """Compare word by word; `{a,b}` stands for either."""
    words, patterns = said.split(), wanted.split()
    alternatives = [
        pattern.strip("{}").split(",") if pattern[0] == "{" else [pattern] for pattern in patterns
    ]
    return len(words) == len(patterns) and all(w in a for w, a in zip(words, alternatives, strict=True))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(booted: System, vault: Running, attack: Attack) -> None:
    """It gets what the table says, and the one it was meant for has its secret still."""
    rows = [booted.server(name).pid for name in ("vault", "memory")]

    finished = booted.run(ATTACKER + attack.program, *rows, booted.nursery, booted.pid)
    after = booted.run(ATTACKER + "print(vault.secret(), memory.statistics().total)")

    assert (finished.status, finished.fault) == (attack.status, attack.fault), finished
    assert not finished.err
    assert matches(finished.out, attack.says), (attack.tries, finished.out)
    assert after.out == "b'secret' 65536\n"
    assert [booted.server(name).pid for name in ("vault", "memory")] == rows


def high_water(pid: int) -> int:
    """Return the most memory a process ever had, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def test_a_huge_message_costs_its_receiver_nothing(booted: System, vault: Running) -> None:
    """A frame larger than a message may be is cut off at once, and not gathered in the receiver's memory."""
    pid = booted.server("vault").pid
    before = high_water(pid)
    program = (
        "good = bound('vault'); good.send(framing.HEAD.pack(2, 8, 0) + (4 << 20).to_bytes(4, 'little'))\n"
    )

    finished = booted.run(
        ATTACKER + program + "good.send(bytes(64 << 20)); print(good.ended(), vault.secret())"
    )

    assert finished.out == "True b'secret'\n"
    assert high_water(pid) - before < 16 << 20


HOARD = """
extents = [memory.allocate(3) for _ in range(100)]
views = [vm.map(env, extent) for extent in extents]
for extent in extents: env.sys.transfer(extent.handle, env.lookup("vault"), extent.rights)
Processes.connect(env).register("hoarder")
env.sys.incoming()
print(sum(row.frames for row in env.kip.environments() if row.name == "program"), flush=True)
"""


@pytest.mark.parametrize(
    ("end", "status"), [("os._exit(3)", 3), ("os.kill(os.getpid(), 9)", -9), ("1 / 0", 1)]
)
def test_who_exits_without_freeing_leaks_nothing(
    booted: System, vault: Running, end: str, status: int
) -> None:
    """Three hundred frames in a hundred shared extents, a name, bindings: all are back at once."""
    free = booted.kip.head(Head.FREE_FRAMES)

    finished = booted.run(ATTACKER + HOARD + end)

    assert (finished.out, finished.status) == ("300\n", status)
    assert booted.kip.head(Head.FREE_FRAMES) == free
    assert "hoarder" not in booted.kip.names()


FAMILY = """
(sleep 1000 & sleep 1000 &)
setsid sleep 1000 2>/dev/null &
sh -c 'trap "" TERM HUP INT; sleep 1000 & wait' &
echo started
"""


def is_of(pid: int, uid: int) -> bool:
    """Say whether process *pid* is there, and of *uid*."""
    try:
        return psutil.Process(pid).uids().real == uid
    except psutil.NoSuchProcess:
        return False  # it has ended since it was listed


@pytest.mark.parametrize("ending", ["read go; exit 5", "sleep 1000"])
def test_the_whole_family_of_a_foreign_program_ends_with_it(booted: System, ending: str) -> None:
    """However it ends, no child is left, in the background, orphaned, or deaf to signals."""
    with booted.start(["/bin/sh", "-c", FAMILY + ending], name="family") as running:
        assert running.line() == "started"
        uid = booted.server("family").uid
        if ending == "sleep 1000":
            running.signal(signal.SIGKILL)
        else:
            running.tell("go")
        status = running.finish().status

    assert status == (-signal.SIGKILL if ending == "sleep 1000" else 5)
    assert wait_until(lambda: not any(is_of(pid, uid) for pid in booted.processes()))


def test_a_fork_bomb_of_a_foreign_program_ends_with_its_signal(booted: System) -> None:
    """One that forks without end under the plan is stopped by its group, and others go on."""
    bomb = "n=0; while [ $n -lt 40 ]; do (while :; do :; done) & n=$((n+1)); done; echo lit; wait"
    with booted.start(["/bin/sh", "-c", bomb], name="bomb") as running:
        assert running.line() == "lit"
        finished = booted.run("print('on')")
        running.signal(signal.SIGKILL)
        status = running.finish().status

    assert (finished.out, status) == ("on\n", -signal.SIGKILL)

"""The table of attacks, between containers: on a vault, the servers and the kernel, each in one of its own."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.containers.engine import SERVERS, Deployment
from tests.system.attacks import ATTACKER, GATES, MEMORY, MESSAGES, OTHERS, Attack
from tests.system.booted import wait_until
from tests.system.hoards import HOARDS
from tests.system.programs import PRELUDE, VAULT

pytestmark = [pytest.mark.containers, pytest.mark.slow]

MEMBER, STRANGER = 10_300, 12_345
STATUS = {-9: 137, -7: 135, -11: 139}
"""What `exo run` makes of a signal."""
FAULT = 125
OTHERWISE = {
    "files": "{EACCES,EROFS} EACCES {EACCES,ENOENT} {EACCES,ENOENT}",  # read-only, too; servers log to Docker
    "not_mine": "NoSuchProgram {NotYours,NoSuchProgram} NameTaken NameTaken NotAllowed SpawnRefused",
}
ATTACKS = [
    replace(attack, says=OTHERWISE.get(attack.name, attack.says))
    for attack in (*MEMORY, *OTHERS, *MESSAGES, *GATES, *HOARDS)
]


@pytest.fixture(scope="module")
def vault(deployment: Deployment) -> str:
    """A bystander with a secret, in a container of its own."""
    name = deployment.member("vault", MEMBER, "python", "-c", VAULT)
    assert wait_until(lambda: deployment.exo("ping", "vault", check=False).returncode == 0)
    return name


def pid_of_vault(deployment: Deployment) -> int:
    return next(int(row["pid"]) for row in deployment.environments().values() if row["uid"] == MEMBER)


NURSERY = """
import psutil
print(next(p.pid for p in psutil.process_iter() if "libexo.launch.nursery" in p.cmdline()))
"""


def targets(deployment: Deployment) -> list[int]:
    """Return the process ids, in their common namespace, of vault, memory server, nursery and kernel."""
    kernel = json.loads(deployment.exo("status", "--json").stdout)["pid"]
    found = deployment.inside(deployment.named("shell"), "python", "-c", NURSERY).stdout
    memory = deployment.environments()["memory"]["pid"]
    return [pid_of_vault(deployment), int(memory), int(found), int(kernel)]


@pytest.fixture(scope="module")
def pids(deployment: Deployment, vault: str) -> Iterator[list[int]]:
    """The targets; they are the same processes at the end."""
    before = targets(deployment)
    yield before
    assert targets(deployment) == before


def matches(said: str, wanted: str) -> bool:
    """Compare word by word; `{a,b}` stands for either."""
    patterns = [word.strip("{}").split(",") if word[0] == "{" else [word] for word in wanted.split()]
    words = said.split()
    return len(words) == len(patterns) and all(w in p for w, p in zip(words, patterns, strict=True))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack(deployment: Deployment, pids: list[int], attack: Attack) -> None:
    """It gets what the table says though its victim is in another container, which has its secret still."""
    finished = deployment.program(ATTACKER + attack.program, *pids)
    after = deployment.program(ATTACKER + "print(vault.secret(), memory.statistics().total)", *pids)

    status = FAULT if attack.fault else STATUS.get(attack.status, attack.status)
    assert finished.returncode == status, finished
    assert matches(finished.stdout, attack.says), (attack.tries, finished.stdout, finished.stderr)
    assert after.stdout == "b'secret' 65536\n"


# ------------------------------------------------------------------------------------- from a server's container

FROM_A_SERVER = """
import ctypes, errno, json, os, pathlib, signal, socket, sys
RUN = "/run/exo"
libc = ctypes.CDLL(None, use_errno=True)

def called(name, *arguments):
    if libc[name](*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)

def outcome(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def on(pid):
    piece = (ctypes.c_size_t * 2)(id(pid), 8)
    return [outcome(call) for call in (
        lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR),
        lambda: os.listdir(f"/proc/{pid}/fd"),
        lambda: os.open(f"/proc/{pid}/root/etc/passwd", os.O_RDONLY),
        lambda: called("ptrace", 16, pid, 0, 0),
        lambda: called("process_vm_readv", pid, piece, 1, piece, 1, 0),
        lambda: called("syscall", 438, os.pidfd_open(pid), 3, 0),
        lambda: os.kill(pid, signal.SIGKILL),
        lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
    )]

def on_files():
    return [outcome(call) for call in (
        lambda: os.open(RUN + "/kip", os.O_RDWR),
        lambda: os.truncate(RUN + "/kip", 0),
        lambda: os.unlink(RUN + "/ipc/96"),
        lambda: os.mkdir(RUN + "/new"),
        lambda: pathlib.Path("/etc/passwd").write_text("x"),
        lambda: pathlib.Path("/opt/exokernel/kernel/boot.py").write_text("x"),
        lambda: socket.socket(socket.AF_UNIX).bind(RUN + "/ipc/9999"),
        lambda: os.setuid(0),
        lambda: called("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
        lambda: called("unshare", 0x20000),
    )]

print(json.dumps({"processes": {pid: on(int(pid)) for pid in sys.argv[1:]}, "files": on_files()}))
"""
REFUSED = {"EPERM", "EACCES", "EROFS"}


@pytest.mark.parametrize("server", SERVERS)
def test_a_servers_uid_can_do_nothing_to_others(deployment: Deployment, pids: list[int], server: str) -> None:
    """An attacker in a server's place reads, traces, signals only itself, and writes no file."""
    rows = deployment.environments()
    others = {*pids, *(rows[name]["pid"] for name in SERVERS)} - {rows[server]["pid"]}
    words = ["python", "-", *map(str, others)]

    done = deployment.inside(deployment.service(server), *words, text=FROM_A_SERVER)

    said = json.loads(done.stdout)
    assert set(said["processes"]) == set(map(str, others))
    assert {each for outcomes in said["processes"].values() for each in outcomes} <= REFUSED, said
    assert set(said["files"]) <= REFUSED, said


def test_a_guessed_token_of_another_container_is_hung_up_on(deployment: Deployment, vault: str) -> None:
    """A bound sender that says another token than its own is not heard."""
    script = (
        PRELUDE.replace("env = libexo.attach()", "env = libexo.attach(os.environ['EXO_RUN'], 'guesser')")
        + "binding, _ = env.sys.bind(env.lookup('scheduler')); guess = Bare(binding.address, os.urandom(16))\n"
        "guess.say(*request(label=0x44)); print(guess.ended())"
    )

    done = deployment.inside(deployment.service("memory"), "python", "-", text=script)

    assert done.stdout == "True\n", done


ATTACH = """
import sys, libexo
from libexo.errors import TrapRefused
for name in sys.argv[1:]:
    try: libexo.attach("/run/exo", name)
    except TrapRefused as refused: print(refused)
    else: print("done")
"""


def test_nobody_attaches_as_somebody_else(deployment: Deployment) -> None:
    """The host tells who a container is: a server's uid is that server's alone, and no name helps."""
    done = deployment.inside(deployment.service("scheduler"), "python", "-", "memory", "process", text=ATTACH)
    name = deployment.member("stranger", STRANGER, "python", "-c", ATTACH, "memory", "anybody")
    stranger = deployment.logs(name)

    assert ["uid 10099 is not memory's" in line for line in done.stdout.splitlines()] == [True, False]
    assert "uid 10099 is not process's" in done.stdout
    assert "uid 12345 is not memory's" in stranger
    assert "uid 12345 may not attach" in stranger


def test_only_operators_command(deployment: Deployment) -> None:
    """The console turns the uid of a server, of a member and of a stranger away."""
    command = ["exo", "kill", "-s", "KILL", "process"]
    server = deployment.inside(deployment.service("memory"), *command)
    before = deployment.environments()["process"]["thread"]
    said = [deployment.logs(deployment.member(f"uid{uid}", uid, *command)) for uid in (MEMBER + 1, STRANGER)]

    assert server.returncode == 1
    assert all("not" in text or "belongs to another user" in text for text in (server.stderr, *said)), said
    assert deployment.environments()["process"]["thread"] == before

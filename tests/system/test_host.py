"""The host layer under a real program: interrupted traps, upcalls between answers, mappings, attaching."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.privileges import may_place_others
from tests.system.booted import ROOT, System, boot, wait_until
from tests.system.programs import PRELUDE, VAULT

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

INTERRUPTED = (
    PRELUDE
    + """
memory = Memory.connect(env)
extents = [memory.allocate(1) for _ in range(8)]

class Tick(Exception): pass
def tick(*_): raise Tick
signal.signal(signal.SIGALRM, tick)
interrupted = wrong = 0
for n in range(4000):
    extent = extents[n % 8]
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + n % 60))
        if env.sys.inspect(extent.handle).first != extent.first: wrong += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Tick:
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
wrong += sum(env.sys.inspect(extent.handle).first != extent.first for extent in extents)
print(interrupted > 100, wrong, memory.statistics().total)
"""
)


def test_an_interrupted_trap_leaves_the_gate_in_step(booted: System) -> None:
    """A handler that raises in the middle of traps: each later answer is still the one to its own question."""
    finished = booted.run(INTERRUPTED)

    assert finished.out == "True 0 65536\n", finished


COMES_AND_GOES = """
import os, sys
import libexo
from servers.memory.api import Memory

def descriptors(): return len(os.listdir("/proc/self/fd"))
counts = []
for _ in range(6):
    env = libexo.attach(sys.argv[1], "visitor")
    Memory.connect(env, timeout=5).statistics()
    env.close()
    counts.append(descriptors())
print(counts[0] == counts[-1], counts)
"""


def test_who_leaves_keeps_no_descriptor(booted: System) -> None:
    """A process that attaches, calls a server and leaves, again and again, has as many as after the first time."""
    command = [sys.executable, "-c", COMES_AND_GOES, str(booted.run_directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("True"), done.stdout


def autogroup(pid: int) -> Path:
    """The host's weight of the session of process *pid*, if it weighs sessions against each other."""
    return Path(f"/proc/{pid}/autogroup")


def test_the_host_prefers_servers_to_programs(booted: System) -> None:
    """The kernel and servers of the topology, with all their threads, come before programs.

    The kernel comes before servers, too, where it may come before others at all.
    """
    before_others = may_place_others()
    with booted.start("while True: pass", name="busy"):
        memory, busy = (booted.server(name).pid for name in ("memory", "busy"))
        threads = [thread.id for thread in psutil.Process(memory).threads()]
        niceness = [os.getpriority(os.PRIO_PROCESS, each) for each in (booted.pid, *threads, busy)]
        groups = [
            group.read_text().split()[-1]
            for pid in (booted.pid, memory, busy)
            if (group := autogroup(pid)).exists()
        ]

    assert niceness == ([-10, *[-5] * len(threads), 0] if before_others else [0] * (1 + len(threads)) + [10])
    assert groups in ([], ["-10", "-5", "0"] if before_others else ["0"] * 3)
    assert len(threads) > 1


UPCALLS = (
    PRELUDE
    + """
vault = Vault.connect(env)
for n in range(30):
    extent = vault.share()
    view = vm.map(env, extent)
    threading.Thread(target=lambda: [env.sys.inventory() for _ in range(20)]).start()
    vault.revoke()
    assert all(env.sys.inspect(h) for h in env.sys.inventory())
print(env.page[kip.Page.REPOSSESSED], vault.secret())
"""
)


def test_upcalls_arrive_between_answers(booted: System) -> None:
    """Thirty capabilities taken while two threads trap: no answer is lost, and the page says what was taken."""
    with booted.start(VAULT, name="vault") as vault:
        vault.line()

        finished = booted.run(UPCALLS)

        assert finished.out == "30 b'secret'\n", finished


STRANDS = (
    PRELUDE
    + """
memory = Memory.connect(env)
extents = [memory.allocate(1) for _ in range(2)]
wrong, ended = [0, 0], []
waker = env.host.waker()

def ask(extent, n):
    for _ in range(1000):
        wrong[n] += env.sys.inspect(extent.handle).first != extent.first
    ended.append(n)
    waker.wake()

for n, extent in enumerate(extents):
    env.host.start_strand(lambda n=n, extent=extent: ask(extent, n), f"asker-{n}")
while len(ended) < 2:
    env.host.wait((env.gate, waker), None)
    waker.clear()
    env.gate.upcalls()
print(wrong, memory.statistics().total)
"""
)


def test_strands_trap_at_once(booted: System) -> None:
    """Two strands that make a thousand traps each: every answer is the one to the question of its strand."""
    finished = booted.run(STRANDS)

    assert finished.out == "[0, 0] 65536\n", finished


MAPPINGS = (
    PRELUDE
    + """
def mapped(): return sum("exo-" in line and "(deleted)" in line for line in open("/proc/self/maps"))
memory = Memory.connect(env)
memory.statistics()
before, fds = mapped(), len(os.listdir("/proc/self/fd"))
extents = [memory.allocate(1) for _ in range(50)]
views = [vm.map(env, extent) for extent in extents]
part = views[7][10:20]
part[0] = 42
most = mapped() - before
del views
print(most, mapped() - before, part[0], len(os.listdir("/proc/self/fd")) - fds)
del part
print(mapped() - before)
for extent in extents: memory.free(extent)
"""
)


def test_a_mapping_lives_as_long_as_somebody_looks_at_it(booted: System) -> None:
    """Fifty views are fifty mappings and no descriptor; a part of one keeps that one."""
    finished = booted.run(MAPPINGS)

    assert finished.out == "50 1 42 0\n0\n", finished


READ_ONLY = (
    PRELUDE
    + """
vault = Vault.connect(env)
view = vm.map(env, vault.share())
print(view.readonly, view[:6].readonly, outcome(lambda: memoryview(view).cast("Q").__setitem__(0, 1)))
at = vault.where()
vault.revoke()
print(vault.where() == at, vault.secret())
"""
)


def test_memory_that_moved_is_where_it_was(booted: System) -> None:
    """A view for reading is one, however it is cast; a revoker's own view goes on at its address."""
    with booted.start(VAULT, name="vault") as vault:
        vault.line()

        finished = booted.run(READ_ONLY)

        assert finished.out == "True True TypeError\nTrue b'secret'\n", finished


DERIVED = (
    PRELUDE
    + """
vault = Vault.connect(env)
memory = Memory.connect(env)
extent = memory.allocate(2)
words = vm.map(env, extent).cast("Q")
part = vm.map(env, extent)[4096:4104]
words[0], words[512] = 5, 7
try:
    import numpy
    made = numpy.frombuffer(vm.map(env, extent), dtype="<u8")
except ImportError:
    made = words
shared = vault.take(extent)[0]
print(shared, vm.revoke(env, extent))
words[1] = 9
print(words[0], part[0], int(made[512]), int(made[1]))
"""
)


def test_what_was_derived_goes_on(booted: System) -> None:
    """A cast, a slice and an array of three mappings show the memory that replaced what was shared."""
    with booted.start(VAULT, name="vault") as vault:
        vault.line()

        finished = booted.run(DERIVED)

        assert finished.out == "5 1\n5 7 7 9\n", finished


FULL = (
    PRELUDE
    + """
memory = Memory.connect(env)
extent = memory.allocate(1)
kept = []
try:
    while True: kept.append(os.dup(0))
except OSError as error:
    print(errno.errorcode[error.errno])
print(outcome(lambda: env.sys.map_extent(extent.handle)) != "done")
for fd in kept[-40:]: os.close(fd)
view = vm.map(env, extent)
print(view[0], memory.statistics().total)
"""
)


def test_a_program_out_of_descriptors_goes_on(booted: System) -> None:
    """Descriptors that it cannot receive are lost to it, the gate stays in step, and with room again all works."""
    finished = booted.run(FULL)

    assert finished.out == "EMFILE\nTrue\n0 65536\n", finished


# ---------------------------------------------------------------------------------------- attaching from outside

OUTSIDE = """
import os, sys
import libexo
import libexo.host.real, libexo.transport.zmq
from libexo.errors import TrapRefused
from servers.memory.api import Memory
os.setuid(int(sys.argv[2]))
try:
    env = libexo.attach(sys.argv[1], sys.argv[3])
    print(env.kip.names()[sys.argv[3]] == env.thread.id, Memory.connect(env).statistics().total)
except TrapRefused as refused:
    print(refused.refusal.name)
"""
NOBODY = 65534


def attach(system: System, uid: int, name: str) -> str:
    """Attach from a process of *uid*, that the kernel did not start, and return what it says."""
    command = [sys.executable, "-c", OUTSIDE, str(system.run_directory), str(uid), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=20, check=False)
    assert not done.stderr
    return done.stdout.strip()


def test_who_may_attach(booted: System) -> None:
    """Root under a free name, nobody else; not under the name of one that lives."""
    assert attach(booted, 0, "visitor") == "True 65536"
    assert attach(booted, NOBODY, "visitor") == "MAY_NOT_ATTACH"
    assert attach(booted, NOBODY, "memory") == "MAY_NOT_ATTACH"
    assert attach(booted, 0, "memory") == "NAME_TAKEN"
    assert wait_until(lambda: booted.row("visitor") is None)


def test_an_operator_may_attach() -> None:
    """A server that the topology names, of any uid."""
    topology = (ROOT / "system.toml").read_text().replace("operators = []", f"operators = [{NOBODY}]")
    with boot(topology) as system:
        assert attach(system, NOBODY, "visitor") == "True 65536"


HOARDER = (
    PRELUDE
    + """
memory = Memory.connect(env)
extents = []
def hoard():
    while True: extents.append(memory.allocate(1))
print(outcome(hoard), len(extents) > 100, flush=True)
print(memory.statistics().total)
"""
)


def test_a_kernel_out_of_descriptors_goes_on() -> None:
    """Where the host lends no more, the one who asks is refused, and everybody goes on."""
    with boot(prefix=("prlimit", "--nofile=400:400")) as system:
        first = system.run(HOARDER)
        assert first.out == "OutOfMemory True\n65536\n", first
        assert system.run("print('on')").out == "on\n"
        system.settle()

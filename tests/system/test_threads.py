"""Threads of the host, and forks, of programs that use an environment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.booted import System, wait_until
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

THREADS = (
    PRELUDE
    + """
import asyncio, concurrent.futures
memory, scheduler = Memory.connect(env), Scheduler.connect(env)
ring = Memory.connect(env, transport="ring")
def total(stub=memory):
    return stub.statistics().total
def own():
    number = env.kip.thread(env.thread.id).environment
    return sum(row.environment == number for row in env.kip.threads())
"""
)
POOL = (
    THREADS
    + """
[ring.statistics() for _ in range(10)]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    found = {f.result() for f in [pool.submit(total, s) for _ in range(200) for s in (memory, ring)]}
print(len(found), total() in found, own() <= 5, total(ring) in found)
"""
)
SHORT_LIVED = (
    THREADS
    + """
done = []
for n in range(1000):
    thread = threading.Thread(target=lambda: done.append(total()))
    thread.start()
    thread.join()
print(len(done), len(set(done)), own() <= 3, len(os.listdir("/proc/self/fd")) < 60)
"""
)
BLOCKED = (
    THREADS
    + """
def work():
    for _ in range(20):
        total()
    env.current.send(env.thread.id, ipc.Message(5, (env.current.id,)))
threading.Thread(target=work).start()
sender, message = env.thread.wait(timeout=30)
print(message.label, sender == message.words[0], sender != env.thread.id)
"""
)
LOOP = (
    THREADS
    + """
from libexo import aio
async def main():
    stub = aio.connect(Memory, aio.Thread(env), "memory")
    one, two, *rest = await asyncio.gather(stub.statistics(), *[asyncio.to_thread(total) for _ in range(20)])
    print(one.total == two, len(set(rest)))
for runner in (aio.run, asyncio.run):
    runner(main())
"""
)
SERVED = (
    THREADS
    + """
class Own(Interface, label=0x66, name="own"):
    @operation(1)
    def double(self, n: int) -> int: ...
class Server(Own):
    def double(self, n): return 2 * n
threading.Thread(target=lambda: serve(Server(), "own"), daemon=True).start()
env.lookup("own", 10)
print(Own.connect(env).double(4), total() > 0)
"""
)


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (POOL, "1 True True True\n"),
        (SHORT_LIVED, "1000 1 True True\n"),
        (BLOCKED, "5 True True\n"),
        (LOOP, "True 1\nTrue 1\n"),
        (SERVED, "8 True\n"),
    ],
    ids=["an executor", "a thousand short-lived", "the first waits", "event loops", "one serves"],
)
def test_threads_of_the_host(booted: System, program: str, printed: str) -> None:
    """They call stubs, each as an IPC thread of its own; those are used again, and the first is not disturbed."""
    finished = booted.run(program)

    assert finished.out == printed, finished


def attached(system: System, program: str) -> str:
    """Run *program* as a process of the host that attaches by itself; return what it prints."""
    environ = os.environ | {"EXO_RUN": str(system.run_directory)}
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=90, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    return ran.stdout


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        (POOL, "1 True True True\n"),
        (BLOCKED, "5 True True\n"),
        (LOOP, "True 1\nTrue 1\n"),
        (SERVED, "8 True\n"),
    ],
    ids=["an executor", "the first waits", "event loops", "one serves"],
)
def test_threads_of_an_attached_program(booted: System, program: str, printed: str) -> None:
    """The same of a program that was started elsewhere."""
    assert attached(booted, program) == printed


NO_SERVER = (
    THREADS
    + """
kip_lookup = env.kip.lookup
type(env.kip).lookup = lambda self, name: 0 if name == "process" else kip_lookup(name)
import libexo.stub.client, libexo.lending
libexo.lending.PATIENCE = 0.5
libexo.stub.interface.PATIENCE = libexo.stub.client.PATIENCE = 0.5
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    error = pool.submit(total).exception()
print(type(error).__name__, "no thread is called 'process'" in str(error), total() > 0)
"""
)


def test_where_there_is_none_to_lend(booted: System) -> None:
    """Where nobody makes one, the thread that needs it hears so; the first goes on."""
    assert attached(booted, NO_SERVER) == "NoThread True True\n"


FORK = (
    THREADS
    + """
import multiprocessing
context = multiprocessing.get_context("fork")
[ring.statistics() for _ in range(10)]
extent = memory.allocate(1)
view = vm.map(env, extent)
view[0] = 7
def refused(call):
    try:
        call()
    except ExoError as error:
        return type(error).__name__ + " " * ("call libexo.attach() again" not in str(error))
    return "done"
thread, sys_ = env.thread, env.sys
calls = [
    memory.statistics, ring.statistics, lambda: env.lookup("memory"), lambda: thread.wait(0), lambda: thread.call(1,
    ipc.Message()), sys_.inventory, lambda: vm.map(env, extent), lambda: env.current, lambda: env.kip,
    lambda: aio_main(), lambda: serve(Vault(), "vault", env),
]
def aio_main():
    import asyncio
    from libexo import aio
    async def main(): aio.Thread(env)
    asyncio.run(main())
def child(results, how):
    results.put({refused(call) for call in calls})
    anew = libexo.attach()
    results.put((anew is not env, Memory.connect(anew).statistics().total))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results.put(pool.submit(lambda: Memory.connect(anew, transport="ring").statistics().total).result())
    results.close()
    results.join_thread()
    if how == "exit": os._exit(0)
    if how == "raise": raise SystemExit(0)
    if how == "close": anew.close()
for how in ("return", "exit", "raise", "close"):
    results = context.Queue()
    process = context.Process(target=child, args=(results, how))
    process.start()
    said = [results.get(timeout=20) for _ in range(3)]
    process.join(20)
    is_same = said[1][1] == total() == total(ring) == said[2]
    print(said[0], said[1][0], is_same, process.exitcode, view[0])
pid = os.fork()
if pid == 0:
    sys.exit(0)
print(os.waitpid(pid, 0)[1], total() == total(ring), env.lookup("memory") > 0, vm.revoke(env, extent), view[0])
"""
)


def test_a_fork(booted: System) -> None:
    """A child's requests to its parent's environment are refused, and it may attach again; the parent goes on."""
    once = "{'ForkedProcess'} True True 0 7\n"

    assert attached(booted, FORK) == once * 4 + "0 True True 0 7\n"


ORPHAN = (
    THREADS
    + """
pid = os.fork()
if pid == 0:
    os.close(1)
    os.close(2)
    import time
    time.sleep(5)
    os._exit(0)
print(pid)
"""
)


def test_a_child_that_lives_on(booted: System) -> None:
    """The environment ends with the process that is it, however long a child of that lives."""
    before = len(booted.kip.environments())
    pid = int(attached(booted, ORPHAN))
    gone = wait_until(lambda: len(booted.kip.environments()) == before, 3)
    lives = Path(f"/proc/{pid}").exists()
    os.kill(pid, signal.SIGKILL)

    assert (gone, lives) == (True, True)

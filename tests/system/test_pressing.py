"""Frames asked back from real processes: of a stopped one, and of those that do what they can against it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kernel.abi.kip import Head
from servers.memory.api import Pressed
from tests.system.booted import PATIENCE, ROOT, Running, System, wait_until
from tests.system.programs import PRELUDE
from tests.system.test_threads import attached

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

EXTENTS, PAGES = 40, 64
FRAMES = EXTENTS * PAGES
GRACE = 0.2
BOUND = 2.0
"""Seconds after the deadline, on a host that may be busy with much else."""
HOLDER = (
    PRELUDE
    + f"""
from libexo import pressure
memory = Memory.connect(env)
some = [memory.allocate({PAGES}) for _ in range({EXTENTS})]
views = [vm.map(env, each) for each in some]
for view in views:
    view[::4096] = bytes([7]) * {PAGES}
"""
)
POLITE = """
def give_back(frames, seconds):
    while frames > 0:
        each = some.pop()
        vm.unmap(env, views.pop())
        env.sys.drop(each.handle)
        frames -= each.pages
pressure.on_pressure(env, give_back)
print("runs", flush=True)
env.thread.wait()
"""
HOSTILE = {
    "stopped": "print('runs', flush=True)\nos.kill(os.getpid(), 19)",
    "deaf": "print('runs', flush=True)\nwhile True: pass",
    "writes": """
def write(fd, size):
    data = bytes(size)
    while True:
        try: os.pwrite(fd, data, 0)
        except OSError: pass
for each in some[-4:]:
    fd = env.sys.map_extent(each.handle)[1]
    for _ in range(2): threading.Thread(target=write, args=(fd, each.pages * 4096), daemon=True).start()
print('runs', flush=True)
while True: time.sleep(1)
""",
    "moves": """
print('runs', flush=True)
while True:
    for each in some:
        try:
            own = env.sys.derive(each.handle, 31); lent = env.sys.derive(own, 4)
            os.close(env.sys.map_extent(lent)[1]); env.sys.revoke(own); env.sys.drop(own)
        except ExoError: pass
""",
    "asks": """
print('runs', flush=True)
ram = memory.ram()
while True:
    for call in (lambda: memory.promise(100), lambda: env.sys.carve(ram.handle, 10), lambda: memory.allocate(10)):
        try: call()
        except ExoError: pass
""",
    "rubbish": """
import random
rules = pressure.Rules(env)
rules.set(first=some[:20], spared=some[20:])
print('runs', flush=True)
words = [0, 1, 47, (1 << 64) - 1]
while True: rules._words[random.randrange(1, 512)] = random.choice([*words, random.getrandbits(16)])
""",
    "shares": """
import socket
print('runs', flush=True)
for view in views:
    ours, theirs = socket.socketpair()
    threading.Thread(target=lambda: [ours.sendall(view) for _ in range(10**9)], daemon=True).start()
while True: time.sleep(1)
""",
}
PRESSER = """
import libexo, time
from servers.memory.api import Memory
env = libexo.attach()
memory = Memory.connect(env)
memory.statistics()
started = time.monotonic()
pressed = memory.press({0}, {1}, {2})
print(pressed.frames, pressed.given, pressed.taken, time.monotonic() - started - {2})
"""
SAVED = (
    HOLDER
    + """
place = memory.allocate(64)
views[3][:5] = b"hello"
rules = pressure.Rules(env)
rules.set(first=[(some[3], place), *some[5:10]], spared=[place, some[20], some[0]])
print("runs", flush=True)
input()
lost = set(pressure.repossessed(env))
print([at for at, each in enumerate(some) if each.handle in lost])
print([(t.first == some[3].first, t.place == place.first) for t in memory.taken()][0])
print(bytes(vm.map(env, place)[:5]), views[20][0], views[0][0])
"""
)


def press(system: System, victim: Running, keeps: int, grace: float = GRACE) -> tuple[Pressed, float]:
    """Press as an operator; return with the answer how many seconds after the deadline it came."""
    said = attached(system, PRESSER.format(victim.thread, keeps, grace))
    frames, given, taken, late = said.split()
    return Pressed(int(frames), int(given), int(taken)), float(late)


def test_given_back(booted: System) -> None:
    """A program gives back what is asked for, and goes on; nothing is taken, and the deadline is not waited for."""
    with booted.start(HOLDER + POLITE, name="holder") as holder:
        holder.line()
        pressed, late = press(booted, holder, FRAMES // 2, 20)

        assert (pressed, late < 0) == (Pressed(FRAMES // 2, FRAMES // 2, 0), True)


@pytest.mark.parametrize("how", HOSTILE)
def test_taken_in_time(booted: System, how: str, report: Callable[[str], None]) -> None:
    """Whatever a program does or does not, what it may not keep is free soon after the deadline."""
    free = booted.kip.head(Head.FREE_FRAMES)
    with booted.start(HOLDER + "import time\n" + HOSTILE[how], name="holder") as holder:
        holder.line()
        if how == "stopped":
            assert wait_until(lambda: _is_stopped(booted))
        pressed, late = press(booted, holder, 10)
        report(f"frames of one that {how}: {pressed.taken} taken, {1000 * late:.0f} ms after the deadline")

        assert (pressed.frames <= 10, late < BOUND) == (True, True)
        if how != "asks":  # it has its quota again, and uses it
            assert booted.kip.head(Head.FREE_FRAMES) >= free - 10


def _is_stopped(booted: System) -> bool:
    row = booted.row("holder")
    with open(f"/proc/{row.pid if row else 0}/stat", encoding="utf-8") as stat:  # noqa: PTH123
        return stat.read().rpartition(")")[2].split()[0] == "T"


def test_by_its_rules(booted: System) -> None:
    """A stopped program loses what it named, and keeps what it spared; contents are in their place."""
    with booted.start(SAVED, name="holder") as holder:
        holder.line()
        holder.signal(signal.SIGSTOP)
        pressed, _ = press(booted, holder, FRAMES + PAGES + 1 - 7 * PAGES)
        holder.signal(signal.SIGCONT)
        said = holder.ask("")

        assert pressed == Pressed(FRAMES + PAGES + 1 - 7 * PAGES, 0, 7 * PAGES)
        assert said == str([3, 5, 6, 7, 8, 9, 39])
        assert holder.line() == "(True, True)"
        assert holder.line() == "b'hello' 7 7"
        assert holder.finish().status == 0


def test_the_server_is_killed(own: System) -> None:
    """Killed before the deadline, the memory server has a successor that takes by the same rules."""
    with ThreadPoolExecutor() as pool, own.start(SAVED, name="holder") as holder:
        holder.line()
        holder.signal(signal.SIGSTOP)
        before = own.server("memory").pid
        known = len(own.kip.environments())
        pressing = pool.submit(press, own, holder, FRAMES + PAGES + 1 - 7 * PAGES, 3)
        assert wait_until(lambda: len(own.kip.environments()) > known)  # the presser has attached
        os.kill(before, signal.SIGKILL)
        pressed, _ = pressing.result()
        holder.signal(signal.SIGCONT)
        said = holder.ask("")

        assert (pressed.frames, own.server("memory").pid == before) == (FRAMES + PAGES + 1 - 7 * PAGES, False)
        assert said == str([3, 5, 6, 7, 8, 9, 39])


def test_taken_memory_is_gone(booted: System) -> None:
    """The next access to memory that was taken ends the program with a bus error, and shows nothing."""
    program = HOLDER + "print('runs', flush=True)\ninput()\nprint(views[-1][0])"
    with booted.start(program, name="holder") as holder:
        holder.line()
        press(booted, holder, FRAMES - 1, 0)
        holder.tell("")
        finished = holder.finish()

        assert (finished.out, finished.status) == ("", -signal.SIGBUS)


def exo(system: System, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "exo", "--run", str(system.run_directory), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_an_operator_asks(booted: System) -> None:
    """`exo press` has a program give back what it likes, and of a stopped one says what was taken and spared."""
    with booted.start(HOLDER + POLITE, name="polite") as polite, booted.start(SAVED, name="holder") as holder:
        polite.line()
        holder.line()
        given = exo(booted, "press", "polite", str(PAGES), "--json")
        holder.signal(signal.SIGSTOP)
        taken = exo(booted, "press", "--within", "0.1", "holder", str(2 * PAGES))

        said = json.loads(given.stdout)
        assert (given.returncode, said["given"], said["taken"], said["extents"]) == (0, PAGES, 0, [])
        rows = [line.split() for line in taken.stdout.splitlines()[2:6]]
        assert [row[-3] for row in rows[:3]] == ["0", str(2 * PAGES), str(1 + 3 * PAGES)]
        assert "(saved at " in taken.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nosuch", "1"), "no environment is called nosuch"),
        (("memory", "1"), "it keeps what it has"),
        (("idle", "1"), "idle holds no memory"),
    ],
)
def test_what_cannot_be_asked_for(booted: System, words: tuple[str, ...], says: str) -> None:
    """Is told in one line."""
    program = "import libexo; libexo.attach(); print('runs', flush=True); input()"
    with booted.start(program, name="idle") as idle:
        idle.line()
        done = exo(booted, "press", *words)

        assert (done.returncode, done.stderr.count("\n"), says in done.stderr) == (1, 1, True)
        assert "Traceback" not in done.stderr


def test_ctrl_c(booted: System) -> None:
    """Who asked may go; the press goes on, and takes what is missing at its end."""
    asked = "pressure.on_pressure(env, lambda *_: print('asked', flush=True))\nprint('runs', flush=True)\n"
    with booted.start(HOLDER + asked + "env.thread.wait()", name="holder") as holder:
        holder.line()
        command = [sys.executable, "-m", "exo", "--run", str(booted.run_directory), "press", "holder"]
        with subprocess.Popen(
            [*command, str(FRAMES), "--within", "1"], cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as asks:
            assert holder.line() == "asked"
            asks.send_signal(signal.SIGINT)
            said = asks.communicate(timeout=PATIENCE)[1]

        assert (asks.returncode, said) == (
            130,
            "exo: the press goes on: holder loses what is missing at its end\n",
        )
        assert wait_until(lambda: booted.server("holder").frames == 0)


FULL = """
memory = Memory.connect(env)
some = [memory.allocate(256) for _ in range({0})]
print("runs", flush=True)
while True: os.kill(os.getpid(), 19)  # the kernel may continue one that stops as its slice ends
"""
LATE = """
from libexo import pressure
import time
memory, started = Memory.connect(env), time.monotonic()
before = pressure.level(env)
memory.claim(15_000)
print(before.name, time.monotonic() - started < 10)
try: memory.claim(30_000)
except ExoError as error: print(error)
"""


OPERATOR = """
import libexo
from servers.memory.api import Memory
env = libexo.attach()
memory = Memory.connect(env)
print(memory.claim(memory.pressure().free + {0}) is None)
"""


def test_a_late_program_gets_its_share(own: System) -> None:
    """Where two stopped programs have nearly all, a third gets its share of what they have too many, no more."""
    with (
        own.start(PRELUDE + FULL.format(128), name="one") as one,
        own.start(PRELUDE + FULL.format(85), name="two") as two,
    ):
        one.line()
        two.line()
        late = own.run(PRELUDE + "from libexo.errors import ExoError\n" + LATE)
        said = late.out.splitlines()
        one_has, two_has = own.server("one").frames, own.server("two").frames

        assert (said[0], late.err) == ("NONE True", "")
        assert "30000 would be above the caller's share" in said[1]
        assert 18_000 < two_has < one_has < 128 * 256
        assert exo(own, "status").returncode == 0
        assert attached(own, OPERATOR.format(1000)) == "True\n"
        assert own.server("one").frames < one_has

"""Swapped memory of real programs: more of it than frames, through real faults, to a real file."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.abi.kip import Head
from servers.memory.policies import POLICIES
from tests.privileges import may_give_files
from tests.system.booted import ROOT, System, boot, wait_until
from tests.system.programs import PRELUDE
from tests.system.users import NOBODY, as_user, python
from tests.system.users import TOPOLOGY as USERS

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

TOPOLOGY = """
[server.pager]
module = "servers.memory.pagers"
thread = 100
importance = 2
holds = ["swap"]
calls = ["memory"]
"""


@contextmanager
def swapping(size: str = "16 MiB") -> Iterator[System]:
    """Boot a system with a pager and a swap file of *size*."""
    with tempfile.TemporaryDirectory(prefix="exo-swap-", dir="/var/tmp") as folder:
        text = (ROOT / "system.toml").read_text()
        text = text.replace("[machine]", f'[machine]\nswap = "{folder}"\nswap_size = "{size}"', 1)
        with boot(text + TOPOLOGY) as system:
            system.server("pager")
            system.settle()
            yield system
            assert "Traceback" not in system.log.read_text()
        assert os.listdir(folder) == []  # noqa: PTH208


USER = (
    PRELUDE
    + """
import random, time
from servers.memory.api import Pager
FRAME = 4096
pager = Pager.connect(env, timeout=60)

def content(page, turn):
    return random.Random(page << 16 | turn).randbytes(FRAME)

class Paper:
    def __init__(self, pages, frames, **named):
        self.extent = pager.paged(pages, frames, **named)
        self.view = vm.map(env, self.extent)
    def write(self, page, turn):
        self.view[page * FRAME:(page + 1) * FRAME] = content(page, turn)
    def holds(self, page, turn):
        return self.view[page * FRAME:(page + 1) * FRAME] == content(page, turn)
"""
)
TWICE = """
policy, pages, frames, around = sys.argv[1], *map(int, sys.argv[2:5])
paper, draw, turns = Paper(pages, frames, policy=policy, around=around), random.Random(7), [1] * pages
began = time.monotonic()
def told(pages):
    for number, page in enumerate(pages):
        if number % 1024 == 1023:
            print("goes on", flush=True)  # who reads that need not know how fast the machine is
        yield page
for page in told(range(pages)):
    paper.write(page, 1)
for turn in range(2, 4):
    for page in told(draw.sample(range(pages), pages // 4)):
        paper.write(page, turn)
        turns[page] = turn
wrong = [page for page in told(draw.sample(range(pages), pages)) if not paper.holds(page, turns[page])]
[usage] = [each for each in pager.statistics().objects if each.first == paper.extent.first]
print(len(wrong), usage.resident <= frames, usage.written >= pages - frames, usage.failed)
print(usage, f"{time.monotonic() - began:.2f} s")
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_twice_the_frames(policy: str, report: Callable[[str], None]) -> None:
    """Memory of twice the frames is, byte for byte, what was written last, under every policy."""
    with swapping() as system:
        twice(system, policy, 1024, report)


@pytest.mark.soak
@pytest.mark.parametrize("policy", POLICIES)
def test_a_large_working_set(policy: str, report: Callable[[str], None]) -> None:
    """So is a working set of 64 MiB in 32 MiB of frames."""
    with swapping("128 MiB") as system:
        twice(system, policy, 16384, report)


def twice(system: System, policy: str, pages: int, report: Callable[[str], None]) -> None:
    """Have a program use *pages* in half as many frames, and see that all is free after."""
    system.rebase()
    before = accounts(system)
    finished = system.run(USER + TWICE, policy, pages, pages // 2, 16, paged=True)
    report(f"{pages} pages, {policy}: {finished.out.splitlines()[-1:]}")

    assert (finished.out.splitlines()[-2:-1], finished.err) == (["0 True True 0"], "")
    assert wait_until(lambda: accounts(system) == before)


def accounts(system: System) -> object:
    """Return which of the living has how many handles and frames, and what is free."""
    rows = sorted((row.name, row.handles, row.frames) for row in system.kip.environments())
    return rows, sorted(system.kip.names()), system.kip.head(Head.FREE_FRAMES)


WARM = """
paper, began = Paper(1024, 512, name="paper", around=int(sys.argv[1])), time.monotonic()
for page in range(0, 900, 3):
    paper.view[page * FRAME] = 1
usage = pager.statistics().objects[0]
print(usage.faults, usage.preloaded, f"{1e3 * (time.monotonic() - began):.1f}")
"""


@pytest.mark.slow
def test_a_warm_start(report: Callable[[str], None]) -> None:
    """A program that is started again waits for at most a tenth of the pages it waited for before."""
    with swapping() as system:
        cold, warm = (system.run(USER + WARM, 1, name="warm", paged=True).out.split() for _ in range(2))
        report(f"faults, preloaded, ms: cold {cold}, warm {warm}")

        assert int(cold[0]) == 300
        assert int(warm[0]) <= 30


@pytest.mark.skipif(not may_give_files(), reason="needs CAP_CHOWN, to give the user a folder")
def test_a_users_system() -> None:
    """A system that an ordinary user booted swaps as well, into a file of that user's."""
    text = USERS.replace("[machine]", '[machine]\nswap = "/var/tmp"\nswap_size = "4 MiB"', 1)
    with boot(text + TOPOLOGY, as_user(), NOBODY, python()) as system:
        system.server("pager")
        finished = system.run(USER + TWICE, "2q", 512, 256, 16, paged=True)

        assert (finished.out.splitlines()[-2:-1], finished.err) == (["0 True True 0"], "")


def test_no_directory_for_the_file() -> None:
    """A swap file that cannot be made ends the boot, with the place, the size, and where to change it."""
    text = (ROOT / "system.toml").read_text().replace("[machine]", '[machine]\nswap = "/gone"', 1)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        path = Path(folder, "system.toml")
        path.write_text(text + TOPOLOGY)
        done = subprocess.run(
            [sys.executable, "-m", "kernel", "--config", path, "--run", f"{folder}/run"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )

    assert done.returncode != 0
    assert "cannot have 1024 MiB of swap there: No such file or directory; see [machine] swap" in done.stderr


WRITTEN = """
paper, draw = Paper(256, 64, policy=sys.argv[1], around=4), random.Random(7)
first, wrong = paper.extent.first, 0
for turn in range(1, 20):
    written = draw.sample(range(256), draw.randrange(256))
    for page in written:
        paper.write(page, turn)
    for page in draw.sample(range(256), 40):
        paper.view[page * FRAME]
    wrong += pager.clean(first, 0, 256) != sorted(written)
stopped = lambda: pager.statistics().objects[-1].stopped
print(wrong, stopped())
paper = Paper(8, 8)
first = paper.extent.first
paper.view[::FRAME] = bytes(8)
pager.clean(first, 0, 8)
pager.protect(first, 0, 8)
for page in (3, 5, 3):
    paper.view[page * FRAME] = 1
print(stopped(), pager.clean(first, 0, 8))
pager.unprotect(first, 0, 8)
paper.view[4 * FRAME] = 1
print(stopped(), pager.clean(first, 0, 8))
"""


@pytest.mark.parametrize("policy", ["fifo", "clock"])
def test_what_was_written(policy: str) -> None:
    """A program is told exactly which pages were written, in memory or not; the first write to each is seen."""
    with swapping() as system:
        finished = system.run(USER + WRITTEN, policy, paged=True)
        assert (finished.out.splitlines(), finished.err) == (["0 0", "2 [3, 5]", "2 [4]"], "")


HOT = """
paper = Paper(1024, 512, name="paper", around=1)
for page in range(0, 900, 3):
    paper.view[page * FRAME] = 1
    if page == 450 and sys.argv[1] == "stops":
        print("half", flush=True)
        sys.stdin.readline()
print(pager.statistics().objects[0].faults)
pager.release(paper.extent.first)
"""


@pytest.mark.slow
def test_a_warm_start_after_a_kill() -> None:
    """A start is warm after kill -9 of the pager, also of one that is killed in the middle of the first start."""
    with swapping() as system:
        with system.start(USER + HOT, "stops", name="warm", paged=True) as user:
            assert user.line() == "half"
            os.kill(system.server("pager").pid, signal.SIGKILL)
            user.tell("on")
            user.line()
            assert user.finish().status == 0
        os.kill(system.server("pager").pid, signal.SIGKILL)
        system.server("pager")
        assert system.run(USER + HOT, "", name="warm", paged=True).out == "0\n"


KILLED = """
paper, draw, turns, turn = Paper(256, 64, policy=sys.argv[1], around=4), random.Random(7), [0] * 256, 0
print(paper.view[0], flush=True)
while (told := int(sys.stdin.readline())) >= 0:
    for each in range(100):
        if each == told:
            print("now", flush=True)
        page, turn = draw.randrange(256), turn + 1
        if turns[page]:
            assert paper.holds(page, turns[page]), page
        turns[page] = turn
        paper.write(page, turn)
    print(turn, flush=True)
print([page for page in range(256) if turns[page] and not paper.holds(page, turns[page])], flush=True)
pager.release(paper.extent.first)
print(pager.statistics().objects, pager.statistics().free, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fifo", "lru"])
def test_kill_9(policy: str) -> None:
    """A pager that is killed again and again in the middle of its work loses no byte of anybody, and no frame."""
    with swapping() as system:
        system.rebase()
        before = accounts(system)
        with system.start(USER + KILLED, policy, paged=True) as user:
            assert user.line() == "0"
            for each in range(8):
                user.tell(str(11 * each))
                assert user.line() == "now"
                os.kill(system.server("pager").pid, signal.SIGKILL)
                assert user.line() == str(100 * each + 100)
                system.server("pager")
            user.tell("-1")
            assert (user.line(), user.line()) == ("[]", "[] 4096")
            assert user.finish().status == 0
        assert wait_until(lambda: accounts(system) == before), (accounts(system), before)


GREEDY = """
policies = "fifo", "lru", "clock", "2q", "random"
papers = [Paper(24, 8, policy=policies[each % 5], around=1, name=str(each)) for each in range(6)]
small = []
try:
    while True:
        small.append(pager.paged(9, 8, name="small" + str(len(small))).first)
except Exception as refused:
    if "QuotaExceeded" not in repr(refused):
        raise
for first in small[1::2]:
    pager.release(first)
def thrash(paper):
    for turn in range(1 << 30):
        for page in range(24):
            vm.touch(env, paper.view, page * FRAME, 1, write=True)
for paper in papers:
    threading.Thread(target=thrash, args=(paper,), daemon=True).start()
print(len(small), flush=True)
draw = random.Random(1)
while True:
    first = draw.choice(papers).extent.first
    pager.set_policy(first, draw.choice(policies))
    pager.protect(first, 0, 24)
    pager.clean(first, 0, 24)
    pager.unprotect(first, 0, 24)
    pager.release(pager.paged(9, 8, name=str(draw.random())).first)
"""


@pytest.mark.slow
def test_greedy_families(report: Callable[[str], None]) -> None:
    """Families that fill and scatter the swap file, and keep pager and disk busy, leave both to others."""
    with swapping("2 MiB") as system:
        system.rebase()
        pid, before = system.server("pager").pid, accounts(system)
        with (
            system.start(USER + GREEDY, paged=True) as first,
            system.start(USER + GREEDY, paged=True) as second,
        ):
            made = int(first.line()), int(second.line())
            finished = system.run(USER + TWICE, "clock", 40, 20, 4, paged=True)
            report(f"greedy families had {made} small objects each; {finished.out.splitlines()[-1:]}")
            assert (finished.out.splitlines()[-2:-1], finished.err) == (["0 True True 0"], "")
        assert system.server("pager").pid == pid
        assert wait_until(lambda: accounts(system) == before), (accounts(system), before)


HOSTILE = """
from servers.memory.api import _RAM
def use(paper):
    for turn in range(1000):
        for page in range(0, 512, 3):
            paper.view[page * FRAME] = turn & 255
paper = Paper(512, 64, policy="random", around=4)
threading.Thread(target=use, args=(paper,), daemon=True).start()
while pager.statistics().objects[-1].written < int(sys.argv[1]):
    pass
print("taking", flush=True)
env.sys.revoke(_RAM[env].handle)
print("taken", flush=True)
threading.Event().wait(20)
"""


@pytest.mark.slow
def test_memory_taken_in_the_middle() -> None:
    """A program that takes back the frames while they are swapped ends itself at most; pager and others go on."""
    with swapping() as system:
        system.rebase()
        pid, before = system.server("pager").pid, accounts(system)
        with system.start(USER + KILLED, "clock", paged=True) as user:
            assert user.line() == "0"
            for each in range(6):
                with system.start(USER + HOSTILE, 1 + 90 * each, paged=True) as hostile:
                    assert hostile.line() == "taking"
                    user.tell("50")
                    assert (user.line(), user.line()) == ("now", str(100 * each + 100))
                    assert hostile.finish().status != 0
            user.tell("-1")
            assert user.line() == "[]"
            assert user.finish().status == 0
        assert system.server("pager").pid == pid
        assert wait_until(lambda: accounts(system) == before), (accounts(system), before)

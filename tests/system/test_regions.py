"""Regions, forks and windows between real processes: real faults, a pager that is a process of its own."""

import os
import signal

import pytest

from kernel.abi.errors import Fault
from tests.system.booted import System
from tests.system.programs import PRELUDE
from tests.system.test_pressing import press

pytest.importorskip("numpy")
pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

HEAD = (
    PRELUDE
    + """
import numpy
from libexo import process, regions
FRAME = 4096
"""
)

SNAPSHOT = """
PAGES = 256
region = regions.start(env).make(PAGES)
array = numpy.frombuffer(region.view, "u8")
array[:] = numpy.arange(len(array))
stop = threading.Event()
def count():
    at = 0
    while not stop.is_set():
        vm.touch(env, region.view, at * 8 // FRAME * FRAME, FRAME, write=True)
        array[at] += 1 << 32
        at = (at + 997) % len(array)
writer = threading.Thread(target=count)
writer.start()
for _ in range(3):
    then = region.copy()
    first = [bytes(piece) for piece in then.pieces(16)]
    again = [bytes(piece) for piece in then.pieces(16)]
    saved = numpy.frombuffer(b"".join(first), "u8")
    order = (numpy.arange(len(array)) * 997) % len(array)
    rounds = (saved[order] >> 32).astype("i8")
    print(first == again, bool(((saved & 0xFFFFFFFF) == numpy.arange(len(saved))).all()),
          sorted(set(numpy.diff(rounds).tolist())) in ([0], [-1, 0]), rounds[0] - rounds[-1] in (0, 1))
    then.close()
stop.set()
writer.join()
print(sorted(set(region.written())) == list(range(PAGES)))
"""


def test_an_array_goes_on_while_it_is_saved(booted: System) -> None:
    """A copy of an array that another thread writes all the time is of one moment, and stays what it was."""
    finished = booted.run(HEAD + SNAPSHOT, paged=True)

    assert (finished.out, finished.err) == ("True True True True\n" * 3 + "True\n", "")


SAVE = """
region = regions.start(env).make(32)
region.view[:] = b"A" * len(region.view)
then = region.copy()
for number, piece in enumerate(then.pieces(5)):
    part = region.view[number * 5 * FRAME:(number + 2) * 5 * FRAME]
    part[:] = b"B" * len(part)
    os.write(1, piece)
os.write(1, bytes(region.view[:1]))
"""


def test_a_checkpoint_by_system_calls(booted: System) -> None:
    """The pieces of a copy are written to a file while the region is overwritten, before and behind them."""
    finished = booted.run(HEAD + SAVE, paged=True)

    assert (finished.out, finished.err) == ("A" * 32 * 4096 + "B", "")


FORK = """
import libexo, numpy
from libexo import ipc, process, regions

def child(env, region, word, parent):
    array = numpy.frombuffer(region.view, "u8")
    before = int(array.sum())
    array[:] = 5
    env.thread.send(parent, ipc.Message(words=(before, int(array.sum()), word)))

if __name__ == "__main__":
    env = libexo.attach()
    region = regions.start(env).make(32)
    array = numpy.frombuffer(region.view, "u8")
    array[:] = 1
    children = []
    for word in range(3):
        children.append(process.fork(env, child, region, word, env.thread.id))
        array[:] += 1
    print([env.thread.receive(each.thread)[1].words for each in children])
    print([each.wait().status for each in children], int(array.sum()))
"""


def test_children_of_a_program_without_a_file(booted: System) -> None:
    """A program that came as text is forked three times; each child has the array as it was then, and its own."""
    finished = booted.run(FORK, paged=True)

    words = 32 * 512
    told = [(words * (1 + number), words * 5, number) for number in range(3)]
    assert (finished.out, finished.err) == (f"{told}\n[0, 0, 0] {words * 4}\n", "")


REFUSING = """
import libexo
from libexo import regions

class Refusing(regions.Pager):
    patience = 1.0
    def let_write(self, region, page):
        return page != 3

if __name__ == "__main__":
    env = libexo.attach()
    region = regions.start(env, Refusing).make(8)
    region.protect()
    region.view[2 * 4096] = 1
    print(region.view[3 * 4096], region.written(), flush=True)
    region.view[3 * 4096] = 1
    print("never")
"""


def test_a_write_that_is_refused(booted: System) -> None:
    """Its program is ended, and the record names the pager; other pages are written, and all are read."""
    finished = booted.run(REFUSING, name="writer", paged=True)

    assert finished.out == "0 [2]\n"
    assert (finished.status, finished.fault) == (-signal.SIGKILL, Fault.NO_PAGE)
    assert ": pager-" in finished.text


STRANGER = """
from libexo.regions.api import Regions
pager = regions.start(env)
region = pager.make(4)
print(pager.name, region.extent.first, flush=True)
input()
print(region.view[0])
"""


def test_a_stranger(booted: System) -> None:
    """A pager serves its program, and nobody who only knows its name."""
    with booted.start(HEAD + STRANGER, paged=True) as owner:
        name, first = owner.line().split()
        asking = f"from libexo.regions.api import Regions\nasked = Regions.connect(env, {name!r})\n"
        show = f"show(lambda: asked.make(1), lambda: asked.copy({first}), lambda: asked.close({first}))"
        finished = booted.run(HEAD + asking + show)
        owner.tell("go on")
        last = owner.finish()

    assert (finished.out, last.out) == ("NotYours NotYours NotYours\n", "0\n")


@pytest.mark.parametrize("offset", [0, 160_000])
def test_a_pager_that_is_killed(booted: System, offset: int) -> None:
    """Its regions go with it: the next access ends the program, and finds neither zeros nor what was there."""
    program = """
pager = regions.start(env)
region = pager.make(64)
region.view[0] = 7
print(pager.name, flush=True)
pager.child.wait()
print(region.view[int(sys.argv[1])], flush=True)
"""
    with booted.start(HEAD + program, offset, paged=True) as user:
        os.kill(booted.server(user.line()).pid, signal.SIGKILL)
        finished = user.finish()

    assert (finished.out, finished.status) == ("", -signal.SIGBUS)


BESIDE = """
window = vm.reserve(env, 100, vm.Inverted)
region = regions.start(env).make(8)
window.map(region, at=10)
window.map(Memory.connect(env).allocate(8), at=18)
array = numpy.frombuffer(window.view(10, 16), "u8")
array[:] = 3
region.clean()
then = region.copy()
array[8 * 512 - 2:8 * 512 + 1] = 4
print(numpy.frombuffer(region.view, "u8").sum() - numpy.frombuffer(then.view, "u8").sum(), region.written())
window.protect(17, 2)
print(window.view(10, 8).readonly, window.view(17, 2).readonly)
array[7 * 512] = 5
window.advise(vm.Advice.DONT_NEED, 10, 16)
print(array[7 * 512], array[8 * 512 + 1])
"""


def test_a_region_in_a_window(booted: System) -> None:
    """One array goes over pages that a pager supplies, and others; of the first, the pager decides."""
    finished = booted.run(HEAD + BESIDE, paged=True)

    assert (finished.out, finished.err) == ("2 [7]\nFalse True\n0 3\n", "")


WINDOW = """
memory = Memory.connect(env)
window = vm.reserve(env, 1 << 20, vm.Hierarchical)
first, second = memory.allocate(2), memory.allocate(3)
window.map(first, at=700_000)
window.map(second, at=700_002)
array = numpy.frombuffer(window.view(700_000, 5), "u8")
array[:] = numpy.arange(len(array))
print(vm.map(env, second).cast("Q")[0], address(window.find(700_002).view) - address(window.find(700_000).view))
window.protect(700_003, 1)
print(window.view(700_000, 5).readonly, window.view(700_000, 3).readonly, vm.revoke(env, second))
del array
window.unmap(700_000)
window.map(memory.allocate(1), at=700_001)[0] = 1
print(list(window.table), len(window.view(700_001, 4)), flush=True)
"""


@pytest.mark.parametrize("page", [700_000, 700_003])
def test_a_window(booted: System, page: int) -> None:
    """One array goes over two extents; a write where nothing lies, or to what is protected, ends the program."""
    wrong = f"ctypes.memset(address(window.find(700_002).view) + {page - 700_002} * FRAME, 1, 1)"
    finished = booted.run(HEAD + WINDOW + wrong)

    assert finished.out == "1024 8192\nTrue False 0\n[700001, 700002, 700003, 700004] 16384\n"
    assert (finished.status, finished.err) == (-signal.SIGSEGV, "")


TAKEN = """
pager = regions.start(env)
region = pager.make(32)
region.view[:] = b"A" * len(region.view)
then = region.copy()
kept = bytes(then.touch(5 * FRAME, 1))
def kind(action):
    try: return action() or "none"
    except ExoError as error: return getattr(error, "kind", type(error).__name__)
print("runs", flush=True)
while not kept.startswith(b"x"):
    kept = b"x" if input() else kept
    print(*[kind(lambda: str(len(each.lost()))) for each in (region, then)], flush=True)
one = pager.make(1)
one.view[:1] = b"C"
print(bytes(one.view[:1]), pager.statistics().taken, kind(region.close), kind(then.close))
"""


def test_regions_that_are_taken(booted: System) -> None:
    """Pressed, a pager loses regions and no more: it tells which, and makes new ones."""
    with booted.start(HEAD + "from libexo.errors import ExoError\n" + TAKEN, name="user", paged=True) as user:
        user.line()
        some, _ = press(booted, user, 63)
        first = user.ask("")
        rest, _ = press(booted, user, 0)
        last = user.ask("end")

        assert (some.taken, rest.taken) == (32, 32)
        assert first in ("RegionTaken 31", "0 RegionTaken")  # the copy had one page
        assert last == "RegionTaken RegionTaken"
        assert user.line() == "b'C' 2 none none"
        assert user.finish().status == 0

"""The heap between real processes: threads of the host, memory that moves, deaths on either side."""

import os
import signal

import pytest

from tests.system.booted import System
from tests.system.programs import PRELUDE, VAULT
from tests.system.test_moved_memory import HOSTILE, MOVER
from tests.system.test_threads import attached

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

HEAP = PRELUDE + "from libexo.heap import Heap\n"
THREADS = (
    HEAP
    + """
import random
heap, wrong = Heap(env, chunk=64), []
def work(number):
    draw, live = random.Random(number), []
    for _ in range(2000):
        if draw.random() < 0.55:
            block = heap.allocate(int(2 ** draw.uniform(0, 17)))
            block.view[:1] = block.view[-1:] = bytes([number])
            live.append(block)
        elif live:
            block = live.pop(draw.randrange(len(live)))
            if block.view[0] != number or block.view[-1] != number:
                wrong.append(number)
            heap.free(block)
        if len(live) > 40:
            heap.free(live.pop())
    for block in live:
        heap.free(block)
threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
for each in threads:
    each.start()
for each in threads:
    each.join()
used = heap.usage().blocks
heap.trim()
print(len(wrong), used, heap.usage().frames, env.kip.environment_of(env.thread.id).frames)
"""
)
READS = (
    HEAP
    + MOVER
    + """
from libexo import Extent
block = Heap(env).allocate(5000)
pattern = bytes(range(250)) * 20
block.view[:] = pattern
wrong, over = 0, False
def read():
    global wrong
    while not over:
        wrong += bytes(block.view) != pattern
reader = threading.Thread(target=read)
reader.start()
whole = block.extent
taken = Mover.connect(env).move(Extent(whole.handle, whole.pages, whole.first, 4 | 16), int(sys.argv[1]))
over = True
reader.join()
print(taken, wrong)
"""
)
GROWS = (
    HEAP
    + """
heap = Heap(env, chunk=16)
blocks = [heap.allocate(16384) for _ in range(20)]
blocks[0].view[:2] = b"ok"
print(heap.usage().frames, flush=True)
input()
blocks += [heap.allocate(16384) for _ in range(60)]
print(heap.usage().frames, bytes(blocks[0].view[:2]).decode(), flush=True)
input()
"""
)
FORKS = (
    HEAP
    + """
heap = Heap(env)
block = heap.allocate(10)
child = os.fork()
if not child:
    for use in (lambda: heap.allocate(10), lambda: heap.free(block), lambda: heap.trim()):
        try:
            use()
        except ExoError as error:
            print(type(error).__name__, end=" ", flush=True)
    os._exit(0)
os.waitpid(child, 0)
heap.free(block)
print(heap.usage().blocks)
"""
)


def test_a_fork(booted: System) -> None:
    """A process that was forked is refused: its heap's memory is its parent's, and goes on being that."""
    assert attached(booted, FORKS) == "ForkedProcess " * 3 + "0\n"


def test_threads(booted: System) -> None:
    """Four threads of the host allocate and free at once: nobody's block is another's, and nothing is left."""
    finished = booted.run(THREADS)
    assert (finished.out, finished.err, finished.status) == ("0 0 0 0\n", "", 0)


def test_a_block_moves(booted: System) -> None:
    """Memory that moves under a block, because of others who had it, is found where it was."""
    with booted.start(VAULT, name="vault") as vault, booted.start(HOSTILE, name="mover") as mover:
        vault.line()
        mover.line()

        finished = booted.run(READS, 20)
        assert (finished.out, finished.err, finished.status) == ("20 0\n", "", 0)


def test_the_server_dies_and_the_heap_grows(own: System) -> None:
    """Carved memory is there when the memory server is restarted, and the successor promises more."""
    with own.start(GROWS, name="grower") as grower:
        before = grower.line()
        os.kill(own.server("memory").pid, signal.SIGKILL)
        after = grower.ask("")
        grower.tell("")

        assert (before, after) == ("80", "320 ok")
        assert grower.finish().status == 0


def test_its_owner_dies(booted: System) -> None:
    """With a program that is killed goes all its heap; the books say so."""
    with booted.start(GROWS, name="grower") as grower:
        grower.line()
        grower.signal(signal.SIGKILL)
        assert grower.finish().status == -signal.SIGKILL

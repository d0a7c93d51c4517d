"""The heap, against a model of it: blocks never overlap, keep what is in them, and cost traps only as it grows."""

import random
import re
from itertools import pairwise

import pytest

from kernel.abi.kip import Counter
from kernel.abi.limits import FRAME_SIZE, MAX_EXTENT_FRAMES
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.taking import Taking
from libexo import vm
from libexo.environment import Environment
from libexo.errors import NoMemory
from libexo.extent import Ram
from libexo.heap import Block, Heap, drop_inherited
from libexo.heap.chunk import rounded
from libexo.ipc import MapItem, Message
from servers.memory.api import Memory
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, faults, ram_of, theatre
from tests.libexo import moves
from tests.servers.rig import ask, servers


def heap_of(stage: Theatre, chunk: int = 16) -> tuple[Puppet, Heap]:
    """Return a puppet that has all RAM, and a heap in it."""
    a = stage.puppet("a", holds=("ram",))
    return a, Heap(a.env, Ram(a.handles[0], stage.kernel.frames.total, 0, int(ALL_RIGHTS)), chunk)


def lent_by(root: Puppet, a: Puppet) -> tuple[list[int], list[Heap]]:
    """Return two capabilities to RAM of *root*, and the heaps that *a* has in what is passed to it of them."""
    pools = [root.sys.derive(root.handles[0], ALL_RIGHTS) for _ in range(2)]
    shares = [Ram(passed(root, pool, a, ALL_RIGHTS), 256, 0, int(ALL_RIGHTS)) for pool in pools]
    return pools, [Heap(a.env, share, 16) for share in shares]


def traps(stage: Theatre) -> int:
    return stage.kernel.kip.counter(Counter.TRAPS)


def places(blocks: list[Block]) -> list[tuple[int, int, int]]:
    return sorted((b.extent.first, b.offset, b.offset + len(b.view)) for b in blocks)


def test_a_block() -> None:
    """A block has the bytes it was asked for, writable, at a multiple of 16 in its extent."""
    with theatre() as stage:
        _, heap = heap_of(stage)
        blocks = [heap.allocate(size) for size in (1, 16, 17, 1000, 4096, 5000, 16384)]
        for number, block in enumerate(blocks):
            block.view[:] = bytes([number]) * len(block.view)

        assert [len(block.view) for block in blocks] == [1, 16, 17, 1000, 4096, 5000, 16384]
        assert [bytes(block.view) for block in blocks] == [
            bytes([n]) * len(b.view) for n, b in enumerate(blocks)
        ]
        assert {block.offset % 16 for block in blocks} == {0}


@pytest.mark.parametrize("size", [0, -1])
def test_no_size(size: int) -> None:
    """A block has at least one byte."""
    with theatre() as stage, pytest.raises(ValueError, match="at least one byte"):
        heap_of(stage)[1].allocate(size)


@pytest.mark.parametrize("chunk", [0, 2, 24, 1 << 19])
def test_no_chunk(chunk: int) -> None:
    """A chunk is a power of two of frames, within what an extent may have."""
    with theatre() as stage, pytest.raises(ValueError, match="a power of two"):
        heap_of(stage, chunk)


def test_warm() -> None:
    """While there is room, no block costs a trap, of whatever size a chunk serves."""
    with theatre() as stage:
        _, heap = heap_of(stage, 64)
        sizes = [1 << at for at in range(17)]
        for size in sizes:
            heap.free(heap.allocate(size))
        before = traps(stage)
        for _ in range(3):
            for block in [heap.allocate(size) for size in sizes[:14]]:
                heap.free(block)
            for size in sizes:
                heap.free(heap.allocate(size))

        assert traps(stage) == before


def test_a_large_block_is_an_extent() -> None:
    """A block larger than a quarter of a chunk has an extent of its own, and is given back at once."""
    with theatre() as stage:
        a, heap = heap_of(stage)
        block = heap.allocate(5 * FRAME_SIZE)
        there = a.environment.frames, block.offset, block.extent.pages
        heap.free(block)

        assert (there, a.environment.frames) == ((5, 0, 5), 0)


def test_an_empty_chunk_is_given_back() -> None:
    """Of the chunks in which nothing is in use one is kept; trim gives that back, too."""
    with theatre() as stage:
        a, heap = heap_of(stage)
        blocks = [heap.allocate(4 * FRAME_SIZE) for _ in range(12)]
        grown = a.environment.frames
        for block in blocks:
            heap.free(block)
        kept = a.environment.frames

        assert (grown, kept, heap.trim(), a.environment.frames) == (48, 16, 16, 0)
        assert heap.usage() == (0, 0, 0)


def test_pages_of_unused_spans_serve_others() -> None:
    """Before it grows, a heap uses the pages again that were cut for blocks of another size."""
    with theatre() as stage:
        a, heap = heap_of(stage)
        for size in (16, 100, 1000, 4000, 16000, 3000, 500, 7000):
            heap.free(heap.allocate(size))

        assert a.environment.frames == 16


def test_freed_twice() -> None:
    """A block that was freed cannot be used, or freed again."""
    with theatre() as stage:
        _, heap = heap_of(stage)
        block = heap.allocate(10)
        heap.free(block)

        with pytest.raises(ValueError, match="already"):
            heap.free(block)
        with pytest.raises(ValueError, match="released"):
            block.view[0] = 1
        with pytest.raises(ValueError, match="freed"):
            _ = block.extent


def test_anothers() -> None:
    """A block is freed by the heap it is of."""
    with theatre() as stage:
        a, heap = heap_of(stage)
        other = Heap(a.env, Ram(a.handles[0], 256, 0, int(ALL_RIGHTS)), 16)

        with pytest.raises(ValueError, match="another heap"):
            other.free(heap.allocate(10))


def test_in_use() -> None:
    """A block of which an array is made is not freed, and nothing is lost."""
    with theatre() as stage:
        _, heap = heap_of(stage)
        block = heap.allocate(16)
        search = re.finditer(rb"x", block.view)
        with pytest.raises(BufferError, match="exported buffer"):
            heap.free(block)
        still = heap.usage().blocks, len(block.view)
        del search
        heap.free(block)

        assert (still, heap.usage().blocks) == ((1, 16), 0)


def test_no_more() -> None:
    """When RAM is full the error says so; smaller blocks are served from what is left, and freeing helps."""
    with theatre(ram_of(28)) as stage:
        _, heap = heap_of(stage)
        blocks = [heap.allocate(4 * FRAME_SIZE) for _ in range(7)]
        with pytest.raises(NoMemory, match="no free run"):
            heap.allocate(4 * FRAME_SIZE)
        with pytest.raises(NoMemory):
            heap.allocate(30 * FRAME_SIZE)
        heap.free(blocks.pop())
        assert len(heap.allocate(100).view) == 100


@pytest.mark.parametrize("size", [MAX_EXTENT_FRAMES * FRAME_SIZE + 1, 1 << 40, 1 << 64, 1 << 1000])
def test_more_than_an_extent_has(size: int) -> None:
    """A block that no extent has room for is memory there is none of; the heap goes on."""
    with theatre() as stage:
        _, heap = heap_of(stage)
        before = traps(stage)
        with pytest.raises(NoMemory, match="an extent has"):
            heap.allocate(size)

        assert (heap.usage(), traps(stage)) == ((0, 0, 0), before)
        heap.free(heap.allocate(1))


def test_asked_back() -> None:
    """The lender asks for its memory: unused memory is given at once, the rest is taken when its time is up."""
    with theatre() as stage:
        root, a = stage.puppet("root", holds=("ram",)), stage.puppet("a")
        pools, heaps = lent_by(root, a)
        blocks = [[heap.allocate(4 * FRAME_SIZE) for _ in range(8)] for heap in heaps]
        for heap, some in zip(heaps, blocks, strict=True):
            for block in some[4:]:
                heap.free(block)
        held = [heap.usage().frames for heap in heaps]
        root.sys.revoke(pools[0], 1_000_000)
        moves.pump_gate(a.env)
        given = [heap.usage().frames for heap in heaps]
        readable = [faults(some[0].view) for some in blocks]
        stage.pass_time(1500)

        assert (held, given, readable) == ([32, 32], [16, 32], [False, False])
        assert [heap.usage().frames for heap in heaps] == [0, 32]
        assert [faults(some[0].view) for some in blocks] == [True, False]
        with pytest.raises(NoMemory, match="earlier generation"):
            heaps[0].allocate(1)


def test_shared() -> None:
    """A block is shared by its extent and offset."""
    with theatre() as stage:
        a, heap = heap_of(stage)
        b = stage.puppet("b")
        heap.allocate(100)
        block = heap.allocate(100)
        block.view[:5] = b"hello"
        seen = b.env.views.map(passed(a, block.extent.handle, b, 4))

        assert bytes(seen[block.offset : block.offset + 5]) == b"hello"
        vm.revoke(a.env, block.extent)
        assert (faults(seen), bytes(block.view[:5])) == (True, b"hello")
        block.view[:5] = b"again"
        assert bytes(heap.allocate(100).view[:5]) == bytes(5)


def test_moved_by_another() -> None:
    """When memory moves because another owner took a share back, blocks go on where they were."""
    with theatre() as stage:
        a, heap = heap_of(stage)
        b, c = stage.puppet("b"), stage.puppet("c")
        block = heap.allocate(100)
        block.view[:2] = b"ok"
        theirs = passed(a, block.extent.handle, b, 22)
        c.env.views.map(passed(b, theirs, c, 4))
        b.sys.revoke(theirs)
        moves.pump_gate(a.env)

        assert bytes(block.view[:2]) == b"ok"
        heap.free(block)


def test_taken() -> None:
    """Memory taken by force is not given out again; its blocks are lost, and the heap goes on."""
    with theatre() as stage:
        root, a = stage.puppet("root", holds=("ram",)), stage.puppet("a")
        ram = Ram(passed(root, root.handles[0], a, ALL_RIGHTS), 256, 0, int(ALL_RIGHTS))
        heap = Heap(a.env, ram, 16)
        lost = heap.allocate(100)
        root.sys.revoke(root.handles[0])

        assert faults(lost.view)
        assert heap.usage() == (0, 0, 0)
        heap.free(lost)
        with pytest.raises(NoMemory, match="earlier generation"):
            heap.allocate(100)


def test_taken_with_much_else() -> None:
    """Also when more was taken than the environment page has room for, a heap knows what of it was its own."""
    with theatre() as stage:
        root, a = stage.puppet("root", holds=("ram",)), stage.puppet("a")
        pools, heaps = lent_by(root, a)
        blocks = [heap.allocate(100) for heap in heaps]
        root.sys.revoke(pools[0])
        for _ in range(600):
            share = root.sys.derive(root.handles[0], ALL_RIGHTS)
            passed(root, share, a, Rights.READ)
            root.sys.drop(share)

        assert [heap.usage().frames for heap in heaps] == [0, 16]
        assert [faults(block.view) for block in blocks] == [True, False]


def test_a_successor() -> None:
    """A successor can give up all that it inherits of a heap at once."""
    with theatre() as stage:
        root, a = stage.puppet("root", holds=("ram",)), stage.puppet("a", keeps=True)
        stage.system.give(root.task, a.environment)
        ram = Ram(passed(root, root.handles[0], a, ALL_RIGHTS), 256, 0, int(ALL_RIGHTS))
        Heap(a.env, ram, 16).allocate(100)
        a.sys.derive(ram.handle, 0)
        stage.kill(a)
        heir = stage.heir(a)
        before = heir.environment.frames

        assert (before, drop_inherited(heir.env), heir.environment.frames) == (16, 2, 0)
        assert heir.sys.inventory() == ()


def test_taken_from_who_has_a_server() -> None:
    """A heap whose RAM was taken by the memory server asks for other, and goes on."""

    def client(env: Environment) -> tuple[int, int]:
        heap = Heap(env, chunk=16)
        block = heap.allocate(100)
        env.thread.sleep(5)
        block = heap.allocate(100)
        block.view[0] = 7
        return block.view[0], heap.usage().frames

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(1)
        [memory] = [e for e in system.kernel.environments if e.name == "memory"]
        [pool] = [c for c in memory.table if any(child.holder is task.environment for child in c.children)]
        system.kernel.jobs.add(Taking(system.kernel.exposure, pool, pool.holder).steps(itself=False))
        system.run(task)
        assert task.result == (7, 16)


def test_from_the_memory_server() -> None:
    """A heap grows by promises of the memory server, within the quota, and asks it seldom."""

    def client(env: Environment) -> tuple[str, int, int]:
        memory, heap = Memory.connect(env), Heap(env, chunk=16)
        blocks = [heap.allocate(2 * FRAME_SIZE) for _ in range(64)]
        with pytest.raises(NoMemory) as failed:
            heap.allocate(2 * FRAME_SIZE)
        [own] = [usage for usage in memory.statistics().users if usage.name == "client"]
        for block in blocks:
            heap.free(block)
        heap.close()
        return str(failed.value).split(":")[1], own.frames, heap.usage().frames

    with servers() as system:
        assert ask(system, client) == (" QuotaExceeded", 128, 0)


def test_shared_in_a_message() -> None:
    """A block's extent goes to another program like any other."""

    def reader(env: Environment) -> bytes:
        sender, message = env.thread.wait()
        [item] = message.items
        assert isinstance(item, MapItem)
        at = message.words[0]
        found = bytes(vm.map(env, item)[at : at + 5])
        env.thread.reply(sender, Message())
        return found

    def writer(env: Environment) -> None:
        with Heap(env, chunk=16) as heap:
            block = heap.allocate(5)
            block.view[:] = b"hello"
            item = Memory.connect(env).share(block.extent)
            env.thread.call(env.lookup("reader", 1), Message(words=(block.offset,), items=(item,)))

    with servers() as system:
        tasks = system.spawn(reader, "reader"), system.spawn(writer, "writer")
        system.run(*tasks)
        assert tasks[0].result == b"hello"


@pytest.mark.parametrize("chunk", [4, 16, 64])
def test_against_a_model(chunk: int, seed: int) -> None:
    """At random: no two blocks overlap, each keeps its bytes, counts are true, and in the end all is back."""
    with theatre(ram_of(1024)) as stage:
        draw = random.Random(f"{seed}/{chunk}")
        a, heap = heap_of(stage, chunk)
        live: list[tuple[Block, bytes]] = []
        for step in range(1500):
            grows = draw.random() < (0.7 if step % 500 < 250 else 0.3)
            if grows:
                size = int(2 ** draw.uniform(0, 15))
                block, fill = heap.allocate(size), draw.randbytes(1) * size
                block.view[:] = fill
                live.append((block, fill))
            elif live:
                block, fill = live.pop(draw.randrange(len(live)))
                assert block.view == fill
                heap.free(block)
            if step % 100 == 0:
                check(a, heap, live)
            if step % 400 == 399:
                heap.trim()
        check(a, heap, live)
        for block, _ in live:
            heap.free(block)
        heap.trim()

        assert a.environment.frames == 0


def check(a: Puppet, heap: Heap, live: list[tuple[Block, bytes]]) -> None:
    spans = places([block for block, _ in live])
    assert all(one[0] != next_[0] or one[2] <= next_[1] for one, next_ in pairwise(spans))
    assert all(block.view == fill for block, fill in live)
    usage = heap.usage()
    assert (usage.blocks, usage.frames) == (len(live), a.environment.frames)


def test_only_as_large_as_asked() -> None:
    """From 64 bytes on a block takes at most a quarter more than was asked for."""
    assert all(size <= rounded(size) for size in range(1, 70_000))
    assert max(rounded(size) / size for size in range(64, 70_000)) <= 1.25
    assert [rounded(size) for size in (1, 16, 17, 64, 65, 80, 81, 1024, 1025)] == [
        16, 16, 32, 64, 80, 80, 96, 1024, 1280,
    ]  # fmt: skip

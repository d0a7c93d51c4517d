"""The heap: blocks of any size in memory of one's own, without asking a server while there is room.

    exo run examples/heap.py

A block is a slice of an extent, so it can be shared by handle and offset. The kernel counts the frames; its own
table shows that most blocks cost no trap.
"""

import libexo
from libexo.heap import Heap


def traps(env: libexo.Environment) -> int:
    """Return how many traps this program has made, by the table that everybody may read."""
    row = env.kip.environment_of(env.thread.id)
    assert row is not None
    return row.traps


if __name__ == "__main__":
    env = libexo.attach()
    with Heap(env) as heap:
        block = heap.allocate(1000)
        block.view[:5] = b"hello"
        print(f"{len(block.view)} bytes: {bytes(block.view[:5]).decode()}, at {block.offset} of their extent")

        before = traps(env)
        blocks = [heap.allocate(1 << at) for at in range(16)]
        for each in blocks:
            heap.free(each)
        print(
            f"{len(blocks)} blocks took {traps(env) - before} traps; the heap has {heap.usage().frames} frames"
        )
        heap.free(block)
        print(f"given back: {heap.trim()}")

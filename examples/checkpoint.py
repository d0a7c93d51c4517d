"""Checkpoint: an array is saved as it was at one moment, while its program goes on writing it.

    exo run --paged examples/checkpoint.py

The program counts in every word of 64 pages. In its fifth round it forks: a child has all of it as it is then, and
works out a checksum, while we go on. A page is copied when it is first written, or read by the child.
"""

import zlib

import libexo
from libexo import ipc, process, regions
from libexo.environment import Environment
from libexo.regions import Region

PAGES = 64


def save(env: Environment, region: Region, starter: int) -> None:
    """Say the checksum of the region."""
    checksum = 0
    for piece in region.pieces(8):
        checksum = zlib.crc32(piece, checksum)
    env.thread.send(starter, ipc.Message(words=(checksum,)))


if __name__ == "__main__":
    env = libexo.attach()
    region = regions.start(env).make(PAGES)
    words, before = region.view.cast("Q"), 0
    for at in range(1, 10):
        words[:] = memoryview(at.to_bytes(8, "little") * len(words)).cast("Q")
        if at == 5:  # noqa: PLR2004 - any moment does
            before = zlib.crc32(region.view)
            process.fork(env, save, region, env.thread.id)
    _, saved = env.thread.wait()
    print(f"we are at {words[0]}; saved was what there was at 5: {saved.words == (before,)}")

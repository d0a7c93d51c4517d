"""Bytes there and back through memory both share, each side waking the other by an eventfd: the floor of sleepers.

At the start of the memory is a word, the length; a payload is copied in and out on each side, as others do it.
"""

import mmap
import os
import struct

from bench.worker import SIZES, peer, round_trips, work

LENGTH = struct.Struct("=Q")


def put(memory: mmap.mmap, payload: bytes) -> None:
    """Leave *payload* in *memory*."""
    LENGTH.pack_into(memory, 0, len(payload))
    memory[LENGTH.size : LENGTH.size + len(payload)] = payload


def take(memory: mmap.mmap) -> bytes:
    """Return what was left in *memory*."""
    return memory[LENGTH.size : LENGTH.size + LENGTH.unpack_from(memory)[0]]


def main() -> None:
    """Measure until stdin ends."""
    memory = mmap.mmap(-1, LENGTH.size + SIZES[-1])
    there, back = os.eventfd(0), os.eventfd(0)

    def serve() -> None:
        while os.eventfd_read(there):
            put(memory, take(memory))
            os.eventfd_write(back, 1)

    def call(payload: bytes) -> bytes:
        put(memory, payload)
        os.eventfd_write(there, 1)
        os.eventfd_read(back)
        return take(memory)

    with peer(serve, own_session=True):
        work(round_trips(call))


if __name__ == "__main__":
    main()

"""Bytes one way through a pipe of the host, as large as it may be, into a buffer; a byte comes back at the end."""

import fcntl
import os
import struct
from functools import partial

from bench.worker import PIECE, Sampler, bulks, peer, pieces, timed, work

SIZE = struct.Struct("=Q")


def serve(reading: int, answering: int) -> None:
    """Read as many bytes as the first ones say, over and over; answer each time."""
    buffer = bytearray(PIECE)
    while True:
        (left,) = SIZE.unpack(os.read(reading, SIZE.size))
        while left:
            left -= os.readv(reading, [memoryview(buffer)[: min(left, PIECE)]])
        os.write(answering, b"\0")


def bulk(writing: int, answered: int, size: int) -> Sampler:
    """Return a sampler of *size* bytes."""
    piece, count = pieces(size)

    def send() -> None:
        os.write(writing, SIZE.pack(size))
        for _ in range(count):
            os.write(writing, piece)  # of a pipe that waits, all of it
        os.read(answered, 1)

    return timed(send)


def main() -> None:
    """Measure until stdin ends."""
    (reading, writing), (answered, answering) = os.pipe(), os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIECE)
    with peer(lambda: serve(reading, answering), own_session=True):
        work(bulks({"bulk": partial(bulk, writing, answered)}))


if __name__ == "__main__":
    main()

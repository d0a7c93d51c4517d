"""One word there and one back in memory both share, each side spinning until it sees the other's: the floor.

Only a number is sent. The other side spins only while samples are taken: in between it sleeps at a pipe.
"""

import mmap
import os

from bench.worker import WORD_BYTES, peer, timed, work

THERE, BACK = 0, 16
"""The two words: 128 bytes apart, since lines of the cache come in pairs."""


def main() -> None:
    """Measure until stdin ends."""
    words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
    waiting, telling = os.pipe()

    def serve() -> None:
        while count := os.read(waiting, WORD_BYTES):
            first = words[BACK] + 1
            for number in range(first, first + int.from_bytes(count, "little")):
                while words[THERE] != number:
                    pass
                words[BACK] = number

    def trip() -> None:
        words[THERE] = number = words[BACK] + 1
        while words[BACK] != number:
            pass

    def sample(count: int) -> list[int]:
        os.write(telling, (count + 1).to_bytes(WORD_BYTES, "little"))
        trip()  # this one waits for the other side to wake up
        return timed(trip)(count)

    with peer(serve, own_session=True):
        work({"word": lambda: sample})


if __name__ == "__main__":
    main()

"""Two processes that compute, which a third stops and continues in turn: what any scheduler of this kind must do.

The argument is the slice, in microseconds.
"""

import os
import signal
import sys
import time
from contextlib import ExitStack

from bench.programs.looper import stretches
from bench.worker import peer, work

LOOPS = 2


class Loop:
    """A process that computes when it is told to."""

    def __init__(self, opened: ExitStack) -> None:
        """Fork it; it ends with *opened*."""
        told, self._tell = os.pipe()
        self._hear, says = os.pipe()
        self.pid = opened.enter_context(peer(lambda: self._serve(told, says), own_session=True))

    @staticmethod
    def _serve(told: int, says: int) -> None:
        while length := int.from_bytes(os.read(told, 8), "little"):
            with os.fdopen(os.dup(says), "wb") as out:
                found = stretches(length)
                out.write(b"".join(each.to_bytes(8, "little") for each in (len(found), *found)))

    def begin(self, length: int) -> None:
        """Have it compute for so many ns."""
        os.write(self._tell, length.to_bytes(8, "little"))

    def answer(self) -> list[int]:
        """Return its stretches."""
        with os.fdopen(os.dup(self._hear), "rb", buffering=0) as file:
            count = self._word(file.read(8))
            data = b""
            while len(data) < 8 * count:
                data += file.read(8 * count - len(data)) or b""
        return [self._word(data[at : at + 8]) for at in range(0, len(data), 8)]

    @staticmethod
    def _word(data: bytes | None) -> int:
        return int.from_bytes(data or b"", "little")


def alternated(loops: list[Loop], slice_s: float, length: int) -> list[int]:
    """Let *loops* take turns for *length* ns; return the count of the first one's stretches, and all of them."""
    for loop in loops:
        loop.begin(length)
    until, turn = time.monotonic_ns() + length, 0
    while time.monotonic_ns() < until:
        os.kill(loops[1 - turn].pid, signal.SIGSTOP)
        os.kill(loops[turn].pid, signal.SIGCONT)
        time.sleep(slice_s)
        turn = 1 - turn
    for loop in loops:
        os.kill(loop.pid, signal.SIGCONT)
    first, second = (loop.answer() for loop in loops)
    return [len(first), *first, *second]


def main() -> None:
    """Measure what is asked for until stdin ends."""
    slice_s = int(sys.argv[1]) / 1e6
    with ExitStack() as opened:
        loops = [Loop(opened) for _ in range(LOOPS)]
        work({"stretches": lambda: lambda length: alternated(loops, slice_s, length)})


if __name__ == "__main__":
    main()

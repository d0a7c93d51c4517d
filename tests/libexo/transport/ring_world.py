"""Two ends of a ring, access by access, on a host that keeps stores in order but lets loads overtake them (TSO).

Each side runs in a thread of its own, and hands over before every access to the memory. What it stores waits in its
store buffer: it sees that itself at once, the other side when a later step lets it out, oldest first. A side that
sleeps goes on when its doorbell rang, or once for the second look: by then everybody sees that it sleeps, and what
was stored before that.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import cast

from libexo.transport.ring.duplex import Duplex
from libexo.transport.ring.layout import CONTROL

Choose = Callable[[int], int]
MOST = 4000
"""Steps a world may take: many times what any of the scenarios needs."""


class LostWakeUpError(AssertionError):
    """Everybody sleeps, and there is something to do."""


class Pruned(Exception):
    """From here on, all goes as in an order that was tried."""


class View:
    """The memory as one side sees it; with *unit* 8 in words, with 1 in bytes."""

    def __init__(self, side: "Side", unit: int) -> None:
        self._side = side
        self._unit = unit

    def __getitem__(self, index: int | slice) -> int | memoryview:
        start, stop = self._range(index)
        self._side.hand_over()
        loaded = self._side.load(start, stop)
        return memoryview(loaded) if isinstance(index, slice) else int.from_bytes(loaded, "little")

    def __setitem__(self, index: int | slice, value: int | bytes) -> None:
        start, stop = self._range(index)
        data = value.to_bytes(8, "little") if isinstance(value, int) else bytes(value)
        assert len(data) == stop - start
        for at in range(0, len(data), 8):
            self._side.hand_over()
            self._side.store(start + at, data[at : at + 8])

    def _range(self, index: int | slice) -> tuple[int, int]:
        if isinstance(index, slice):
            return index.start, index.stop
        return index * self._unit, index * self._unit + self._unit


class Side:
    """One end: its line, its doorbell, its store buffer, and the thread its program runs in."""

    def __init__(self, world: "World", name: str, *, receiver: bool) -> None:
        self.name = name
        self.world = world
        self.buffer: deque[tuple[int, bytes]] = deque()
        self.issued = self.turns = 0
        """Stores ever made, and turns ever had."""
        self.seen_when_asleep = -1
        """How many stores the other side had made when all of ours became visible since we sleep; -1: not yet."""
        self.rung = False
        self.sleeping = self.may_look = False
        self.done = False
        self.history: list[object] = []
        """All it ever loaded: with this, what it does next is decided."""
        self.error: BaseException | None = None
        self.line = Duplex(
            memoryview(bytearray(CONTROL + world.size)), self, lambda _: None, receiver=receiver
        )
        self.line._memory, self.line._words = (
            cast("memoryview", View(self, 1)),
            cast("memoryview", View(self, 8)),
        )
        self._turn = threading.Semaphore(0)

    @property
    def other(self) -> "Side":
        first, second = self.world.sides
        return second if self is first else first

    # ------------------------------------------------------------------------------------------- the memory

    def load(self, start: int, stop: int) -> bytes:
        """Return what this side sees there."""
        seen = bytearray(self.world.memory[start:stop])
        for at, data in self.buffer:
            for offset, byte in enumerate(data, at - start):
                if 0 <= offset < len(seen):
                    seen[offset] = byte
        self.history.append(bytes(seen))
        return bytes(seen)

    def store(self, at: int, data: bytes) -> None:
        """Store, for now for this side alone."""
        self.issued += 1
        self.buffer.append((at, data))

    def drain(self) -> None:
        """Let the other side see the oldest store."""
        at, data = self.buffer.popleft()
        self.world.memory[at : at + len(data)] = data
        if self.sleeping and not self.buffer and self.seen_when_asleep < 0:
            self.seen_when_asleep = self.other.issued

    # --------------------------------------------------------------------------------------- the doorbell

    def ring(self) -> None:
        """Wake the other side; a system call lets all stores out."""
        while self.buffer:
            self.drain()
        self.other.rung = True

    def silence(self) -> bool:
        was_rung, self.rung = self.rung, False
        return was_rung

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is held."""

    def await_news(self) -> None:
        """Sleep as `libexo.host.ring_poll` does: until the doorbell, with a second look on the way."""
        if not self.line.prepare_to_sleep():
            self.sleeping, self.may_look = True, True
            self.seen_when_asleep = -1 if self.buffer else self.other.issued
            self.hand_over()
            if not self.rung:
                self.sleeping = False
                has_news = self.line.has_news()
                if not has_news:
                    self.sleeping, self.may_look = True, False
                    self.hand_over()
            self.sleeping = False
        self.history.append(("silenced", self.silence()))
        self.line.wake(-1)

    # ------------------------------------------------------------------------------------------ its thread

    def can_run(self) -> bool:
        """Say whether it would do something with its turn."""
        if self.done:
            return False
        return not self.sleeping or self.rung or (self.may_look and self.seen_when_asleep >= 0)

    def run(self, program: Callable[["Side"], None]) -> None:
        """Its whole life."""
        self._turn.acquire()
        try:
            if not self.world.ended:
                program(self)
        except Pruned:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where the test is
            self.error = error
        self.done = True
        self.world.turn.release()

    def hand_over(self) -> None:
        """Wait for the next turn."""
        self.world.turn.release()
        self._turn.acquire()
        if self.world.ended:
            raise Pruned

    def go_on(self) -> None:
        """Give it its turn, and wait until it hands over."""
        if self.sleeping and not self.rung:  # the second look: what was stored before is visible by now
            old = self.seen_when_asleep - (self.other.issued - len(self.other.buffer))
            for _ in range(old):
                self.other.drain()
        self.turns += 1
        self._turn.release()
        self.world.turn.acquire()


class World:
    """The memory, both sides, and the order of what they do."""

    def __init__(self, size: int, choose: Choose, seen: dict[object, tuple[int, ...]] | None = None) -> None:
        """Make rings of *size* bytes in all; *seen*: states met before, with the choices that led there first."""
        self.size = size
        self.memory = bytearray(CONTROL + size)
        self.turn = threading.Semaphore(0)
        self.ended = False
        self._choose = choose
        self._seen = seen
        self._path: list[int] = []
        self.sides = (Side(self, "sender", receiver=False), Side(self, "receiver", receiver=True))

    def run(self, *programs: Callable[[Side], None]) -> None:
        """Run both programs to their ends. Raises what they raise, LostWakeUpError, and Pruned."""
        threads = [
            threading.Thread(target=side.run, args=(program,), daemon=True)
            for side, program in zip(self.sides, programs, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(MOST):
                if not self._step():
                    break
            else:
                raise AssertionError("it goes on for ever")
        finally:
            asleep = [side.name for side in self.sides if not side.done]
            self.ended = True
            for side, thread in zip(self.sides, threads, strict=True):
                side._turn.release()
                thread.join()
        if asleep:
            raise LostWakeUpError(asleep)

    def _step(self) -> bool:
        """Do one thing of those that could be next. False: there is none."""
        for side in self.sides:
            if side.error is not None:
                raise side.error
        actions = [side.go_on for side in self.sides if side.can_run()]
        actions += [side.drain for side in self.sides if side.buffer]
        if not actions or all(side.done for side in self.sides):
            return False
        choice = 0
        if len(actions) > 1:
            self._prune()
            choice = self._choose(len(actions))
            self._path.append(choice)
        actions[choice]()
        return True

    def _prune(self) -> None:
        """Raise Pruned when this state was met by other choices before."""
        if self._seen is None:
            return
        state = (
            bytes(self.memory),
            *(
                (s.turns, s.rung, s.sleeping, s.may_look, s.seen_when_asleep, s.issued, *s.buffer, *s.history)
                for s in self.sides
            ),
        )
        path = tuple(self._path)
        if self._seen.setdefault(state, path) != path:
            raise Pruned

"""Copying the strings of messages: gathered from the sender's address space, scattered into the receiver's.

A string item names memory: one run, or many (substrings, compound strings), which are one string to the other
side. Each side copies for itself, between its memory and the message, so page faults of either are its own
affair, handled in its own thread. What they may cost is bounded by the transfer time-outs, which bound nothing
else: one `Limit` serves all strings of a message at one side, and its clock starts at the first fault there. The
sender's faults come before anybody takes the message, within his own time-out; the receiver's come after, within
the earlier of both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from kernel.abi.limits import MAX_STRING
from kernel.abi.messages import Phase
from libexo.l4.errors import Cut, Overflow, XferTimeout
from libexo.l4.format.fpage import Readable, Writable
from libexo.l4.format.strings import StringItem
from libexo.l4.format.times import Never, expires
from libexo.l4.space.addresses import Addresses, Fault
from libexo.l4.space.buffers import BadAddress

BoundedFault = Callable[[int, int, int | None], None]
"""Handles a page fault during a copy: the address, the access, and until when (clock, us), if not for ever."""


class Limit:
    """How long page faults may hold up the strings of one message. Handles those faults, as a `Fault`."""

    def __init__(
        self, fault: BoundedFault, clock: Callable[[], int], sender: int = Never, receiver: int = Never
    ) -> None:
        """Let *fault* handle them within the transfer time-outs (`Time`) of both sides; Never, where unknown.

        *clock* returns the system clock, in microseconds.
        """
        self._fault = fault
        self._clock = clock
        self._times = sender, receiver
        self._started = False
        self._deadline: int | None = None
        self._side = Phase.SEND

    def __call__(self, address: int, access: int) -> None:
        """Handle a page fault. Raises XferTimeout when the time is up."""
        if not self._started:
            self._start()
        self._check()
        self._fault(address, access, self._deadline)
        self._check()

    def _start(self) -> None:
        """Fix the deadline: the earlier of both. Equal ones, and one that leaves no time, are the sender's."""
        self._started = True
        now = self._clock()
        sender, receiver = (expires(time, now) for time in self._times)
        if receiver is not None and (sender is None or receiver < sender):
            self._deadline = receiver
            self._side = Phase.RECEIVE if receiver > now else Phase.SEND
        else:
            self._deadline = sender

    def _check(self) -> None:
        if self._deadline is not None and self._clock() >= self._deadline:
            raise XferTimeout(self._side)


def gather(space: Addresses, items: Sequence[StringItem], fault: Fault | None = None) -> list[bytes]:
    """Return the strings *items* name in *space*. Page faults go to *fault*, or else to the space's own.

    Raises Overflow at one longer than MAX_STRING, or in memory that no fault can bring; what *fault* raises.
    The offset of a `Cut` is how many bytes were copied, of all strings together.
    """
    strings: list[bytearray] = []
    with _counted(lambda: sum(map(len, strings))):
        for item in items:
            if item.size > MAX_STRING:
                raise Overflow(f"a string of {item.size} bytes: at most {MAX_STRING}; map an extent instead")
            strings.append(bytearray())
            for piece in _pieces(space, item, Readable, fault, item.size):
                strings[-1] += piece
    return [bytes(string) for string in strings]


def scatter(
    space: Addresses,
    strings: Sequence[bytes],
    buffers: Sequence[StringItem],
    fault: Fault | None = None,
) -> int:
    """Write each of *strings* into the buffer in its place, which may be longer; return how many bytes that were.

    Raises Overflow at a shorter or missing buffer; for the rest as `gather`.
    """
    copied = 0
    with _counted(lambda: copied):
        for number, string in enumerate(strings):
            if number >= len(buffers):
                raise Overflow(f"there are {len(buffers)} buffers for {len(strings)} strings")
            rest = memoryview(string)
            for piece in _pieces(space, buffers[number], Writable, fault, len(rest)):
                piece[:] = rest[: len(piece)]
                rest = rest[len(piece) :]
                copied += len(piece)
            if rest:
                raise Overflow(f"a buffer of {buffers[number].size} bytes for a string of {len(string)}")
    return copied


def _pieces(
    space: Addresses, item: StringItem, access: int, fault: Fault | None, wanted: int
) -> Iterator[memoryview]:
    """Yield the memory of *item*'s substrings one after another, *wanted* bytes at most."""
    for address, length in item.pieces():
        size = min(length, wanted)
        wanted -= size
        yield from space.pieces(address, size, access, fault)


@contextmanager
def _counted(copied: Callable[[], int]) -> Iterator[None]:
    """Give a `Cut` its offset; memory that cannot be had cuts the message, too."""
    try:
        yield
    except BadAddress as bad:
        raise Overflow(str(bad), copied()) from bad
    except Cut as cut:
        cut.offset = copied()
        raise

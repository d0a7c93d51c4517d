"""Virtual registers: the contents of a thread's UTCB in X.2.

Each thread has 64 message registers (MR0 is the tag), 33 buffer registers (BR0 is the acceptor) and the thread
control registers (TCRs). `Registers` is one thread's set. The functions of X.2 act on the set of the thread that
calls them, which is `current()`.

A thread of execution gets its set on first use: the IPC engine gives the way to make one by `attach_by`, and the
set stays with the thread of execution until `use` puts another in its place. This module knows no engine, so
the formats can be used, and tested, without one.
"""

import threading
from collections.abc import Callable, Iterable

from kernel.abi.ids import NIL_THREAD
from kernel.abi.limits import MAX_WORDS
from libexo.errors import ExoError
from libexo.l4.format.words import WORD_MASK, within, word, words

__all__ = [
    "LoadBR",
    "LoadBRs",
    "LoadMR",
    "LoadMRs",
    "StoreBR",
    "StoreBRs",
    "StoreMR",
    "StoreMRs",
]

NUM_MRS = MAX_WORDS + 1
NUM_BRS = 33

_THREAD_WORDS = 2


class Registers:
    """The virtual registers of one thread, as plain ints: X.2's functions check what they store."""

    __slots__ = (
        "br",
        "cop_flags",
        "error_code",
        "exception_handler",
        "intended_receiver",
        "mr",
        "my_global_id",
        "my_local_id",
        "page",
        "pager",
        "preempt_flags",
        "preemptions",
        "processor_no",
        "thread_words",
        "user_defined_handle",
        "virtual_actual_sender",
        "word_size_mask",
        "xfer_timeouts",
    )

    def __init__(
        self,
        global_id: int = NIL_THREAD,
        local_id: int = NIL_THREAD,
        processor: Callable[[], int] = lambda: 0,
    ) -> None:
        """Be the registers of thread *global_id*, whose UTCB is at *local_id*; *processor* returns its processor.

        The rest is zero.
        """
        self.mr = [0] * NUM_MRS
        self.br = [0] * NUM_BRS
        self.my_global_id = global_id
        self.my_local_id = local_id
        self.processor_no = processor
        self.user_defined_handle = 0
        self.pager: int = NIL_THREAD
        self.exception_handler: int = NIL_THREAD
        self.preempt_flags = 0
        self.preemptions = 0
        """The environment's count of lost slices when the thread was last told of one."""
        self.cop_flags = 0
        self.error_code = 0
        self.xfer_timeouts = 0
        self.intended_receiver: int = NIL_THREAD
        self.virtual_actual_sender: int = NIL_THREAD
        """One register: before an IPC the virtual sender, after it the actual sender."""
        self.page: memoryview | None = None
        """The environment page: whether it may be preempted, and the thread to tell of its end."""
        self.thread_words = [0] * _THREAD_WORDS
        self.word_size_mask = WORD_MASK


# ------------------------------------------------------------------------------------- the calling thread's set


class _Place(threading.local):
    """One value a thread of execution."""

    registers: Registers | None = None


class _Engine:
    """The way in which a thread of execution without registers gets them."""

    attach: Callable[[], Registers] | None = None


_PLACE = _Place()


def use(registers: Registers | None) -> None:
    """Make *registers* the calling thread's; None takes them away, and the next use attaches again."""
    _PLACE.registers = registers


def attach_by(attach: Callable[[], Registers] | None) -> None:
    """Call *attach* in every thread of execution that first uses registers; None: such a use is an error."""
    _Engine.attach = attach


def current() -> Registers:
    """Return the calling thread's registers. Raises ExoError when it has none and nothing provides them."""
    registers = _PLACE.registers
    if registers is None:
        if _Engine.attach is None:
            raise ExoError("this thread has no virtual registers: attach to a system first")
        registers = _Engine.attach()
        _PLACE.registers = registers
    return registers


# ---------------------------------------------------------------------------------- message and buffer registers


def LoadMR(i: int, w: int) -> None:
    """Put *w* into message register *i* (0..63). Raises ValueError."""
    current().mr[within(i, 0, NUM_MRS - 1, "message register")] = word(w)


def LoadMRs(i: int, values: Iterable[int]) -> None:
    """Put *values* into the message registers from *i* on. Raises ValueError, and then changes none."""
    _load(current().mr, i, values, "message register")


def StoreMR(i: int) -> int:
    """Return message register *i* (0..63). Raises ValueError."""
    return current().mr[within(i, 0, NUM_MRS - 1, "message register")]


def StoreMRs(i: int, k: int) -> tuple[int, ...]:
    """Return *k* message registers from *i* on. Raises ValueError."""
    return _store(current().mr, i, k, "message register")


def LoadBR(i: int, w: int) -> None:
    """Put *w* into buffer register *i* (0..32). Raises ValueError."""
    current().br[within(i, 0, NUM_BRS - 1, "buffer register")] = word(w)


def LoadBRs(i: int, values: Iterable[int]) -> None:
    """Put *values* into the buffer registers from *i* on. Raises ValueError, and then changes none."""
    _load(current().br, i, values, "buffer register")


def StoreBR(i: int) -> int:
    """Return buffer register *i* (0..32). Raises ValueError."""
    return current().br[within(i, 0, NUM_BRS - 1, "buffer register")]


def StoreBRs(i: int, k: int) -> tuple[int, ...]:
    """Return *k* buffer registers from *i* on. Raises ValueError."""
    return _store(current().br, i, k, "buffer register")


def _load(registers: list[int], i: int, values: Iterable[int], what: str) -> None:
    loaded = words(values)
    registers[_span(registers, i, len(loaded), what)] = loaded


def _store(registers: list[int], i: int, k: int, what: str) -> tuple[int, ...]:
    return tuple(registers[_span(registers, i, k, what)])


def _span(registers: list[int], i: int, k: int, what: str) -> slice:
    """The slice of *k* registers from *i* on, all of which exist."""
    last = len(registers) - 1
    within(i, 0, last, what)
    within(k, 0, last + 1 - i, f"number of {what}s from {i} on")
    return slice(i, i + k)

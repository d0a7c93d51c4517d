"""Page faults as X.2 has them: a message from the faulting thread to its pager, whose answer brings the memory.

The faulting thread calls its pager without time-outs: label -2 with the access in its low bits, the address in
MR1, the instruction pointer in MR2. It accepts mappings anywhere. The answer is a map or grant item; one without
just makes it try again. To the thread nothing has happened: its registers are as before. Without a pager, or when
there is no such thread, it is halted; once resumed, it tries again.

Programs here are not interrupted at an instruction. MR2 is the word that stands for the thread's entry, so that
a pager can tell threads of one program apart; for a fault in the strings of a message (tunnelled) it is all ones.
Faults come from accesses that go by address (`libexo.l4.space.space`); those of the host's MMU can come the same
way.
Source: L4 X.2 reference manual, rev. 7.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from kernel.abi.ids import NIL_THREAD
from kernel.abi.messages import IpcCode, Label
from libexo.l4.format import registers
from libexo.l4.format.constants import ipc_error_parts
from libexo.l4.format.fpage import CompleteAddressSpace, Fpage
from libexo.l4.format.registers import Registers
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.words import WORD_MASK

TUNNELLED = WORD_MASK
"""The instruction pointer of a fault during a message's transfer."""


class Call(Protocol):
    """What carries a fault to the pager."""

    def __call__(
        self, to: int, tag: MsgTag, words: tuple[int, ...], window: Fpage, deadline: int | None
    ) -> int:
        """Send *tag* and *words* to thread *to*, and take its answer, mapping what it brings into *window*.

        Returns 0, or the error word when that failed: at *deadline* (system clock, us), if there is one, with a
        time-out. The message and buffer registers may be used.
        """


class PageFaults:
    """Turns the page faults of an environment's threads into messages; acts for the thread that calls."""

    def __init__(self, call: Call, halt: Callable[[], None], entry: Callable[[], int] | None = None) -> None:
        """Exchange messages by *call*; *halt* stops the calling thread until it is resumed.

        *entry* returns the word of the calling thread's entry (X.2: its instruction pointer).
        """
        self._call = call
        self._halt = halt
        self._entry = entry

    def fault(self, address: int, access: int) -> None:
        """Handle a fault of the calling thread at *address*, for *access* (rights of an fpage)."""
        self._handle(address, access, self._entry() if self._entry is not None else 0, None)

    def tunnelled(self, address: int, access: int, deadline: int | None = None) -> None:
        """Handle a fault in a string of a message, until *deadline* (system clock, us) at most."""
        self._handle(address, access, TUNNELLED, deadline)

    def _handle(self, address: int, access: int, ip: int, deadline: int | None) -> None:
        thread = registers.current()
        tag = MsgTag.of(Label.PAGE_FAULT | access, u=2)
        with preserved(thread):
            error = 0
            if thread.pager != NIL_THREAD:
                error = self._call(thread.pager, tag, (address, ip), CompleteAddressSpace, deadline)
        if thread.pager == NIL_THREAD or (error and ipc_error_parts(error)[1] is IpcCode.NO_PARTNER):
            self._halt()


@contextmanager
def preserved(thread: Registers) -> Iterator[None]:
    """Restore afterwards what a message changes in the registers of *thread*.

    X.2 names MR0 to MR2, BR0, ErrorCode and VirtualSender, which is what an answer that keeps to the protocol
    reaches; a pager that answers more must not reach more.
    """
    message, buffers = list(thread.mr), list(thread.br)
    kept = thread.error_code, thread.virtual_actual_sender, thread.intended_receiver
    try:
        yield
    finally:
        thread.mr[:], thread.br[:] = message, buffers
        thread.error_code, thread.virtual_actual_sender, thread.intended_receiver = kept

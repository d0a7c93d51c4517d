"""Rows in which threads say for whom they wait: so a time-out of zero is exact, however loaded the machine is.

Each thread has a row in the page of its environment, which threads bound to it can read (`kernel.abi.kip.Wait`). A
receiver says there that it waits *before* it looks for messages, and until it has one; a sender reads the row
*after* its message is on the way. So a receiver that says that it waits will look once more, and find the message;
one that does not was not waiting when the message went, and the sender withdraws it (`Rendezvous.hold`).

A row is its thread's own claim. A thread that claims to wait and takes nothing holds a sender for HOLD at most, and
then no longer, until it has taken something.
"""

from typing import TYPE_CHECKING

from kernel.abi.ids import ANY_LOCAL_THREAD, ANY_THREAD, NIL_THREAD
from kernel.abi.kip import PAGE_SIZE, WAIT_WORDS, Page, Wait
from libexo.errors import TrapRefused

if TYPE_CHECKING:
    from libexo.attachment import Attachment

HOLD = 1_000_000_000
"""How long a partner that says that it waits may take to fetch a message, in ns."""
DOUBTED = 2_000_000
"""The same for a partner that let such a time pass, in ns."""
LOOK = 1_000_000
"""How often its row is read again, in ns."""

_FOR, _SENDS, _ANSWER = int(Wait.FOR), int(Wait.SENDS), int(Wait.ANSWER)
_NOBODYS = memoryview(bytearray(WAIT_WORDS * 8)).cast("Q")


class Row:
    """The row of a thread of ours."""

    __slots__ = ("_at", "_words")

    def __init__(self, page: memoryview, thread: int) -> None:
        """Find the row of *thread* in the environment's *page*, as words."""
        at = find(page, thread)
        self._words, self._at = (page, at) if at else (_NOBODYS, 0)
        self.awaits(NIL_THREAD)

    def receives(self, specifier: int) -> None:
        """It receives from *specifier* (X.2) from now on, and looks for messages after this."""
        words, at = self._words, self._at
        words[at + _SENDS] = NIL_THREAD
        words[at + _FOR] = specifier

    def sends(self, to: int, specifier: int) -> None:
        """It sends to *to*, and will then receive from *specifier*, if that is not nil."""
        words, at = self._words, self._at
        words[at + _SENDS] = to  # first: nobody may see it receive while it sends
        words[at + _FOR] = specifier

    def rests(self) -> None:
        """It waits for nobody."""
        words, at = self._words, self._at
        words[at + _FOR] = NIL_THREAD
        words[at + _SENDS] = NIL_THREAD

    def awaits(self, partner: int) -> None:
        """It sleeps until *partner* answers, takes a message or sends one; nil: it does not."""
        self._words[self._at + _ANSWER] = partner

    def said(self) -> tuple[int, int]:
        """Return to whom it sends, and from whom it receives."""
        words, at = self._words, self._at
        return words[at + _SENDS], words[at + _FOR]


class Standing:
    """The row of a partner, as a thread of ours reads it."""

    __slots__ = ("_at", "_environment", "_mapped", "_own", "_page", "_thread", "doubted")

    def __init__(self, environment: "Attachment", thread: int) -> None:
        """Read the row of *thread*, to which *environment* is bound."""
        self.doubted = False
        """It said that it waited, and took nothing for too long."""
        self._environment = environment
        self._thread = thread
        row = environment.kip.thread(thread)
        self._own = row is not None and row.environment == environment.number
        self._mapped: memoryview | None = None
        self._page = environment.page
        self._at = 0

    def patience(self, sender: int, virtual: int) -> int:
        """Return how long the partner may take to fetch a message of *sender*, for *virtual*, in ns; 0: no time."""
        words = self._row()
        if not words:
            return 0
        specifier, to = words[_FOR], words[_SENDS]  # in this order: see `Row`
        mine = (ANY_THREAD, sender, virtual, *((ANY_LOCAL_THREAD,) if self._own else ()))
        if not specifier or specifier not in mine:
            return 0
        if to and self._sends(to):
            return 0
        return DOUBTED if self.doubted else HOLD

    def is_sending(self, to: int) -> bool:
        """Say whether the partner says that it sends a message to *to*."""
        words = self._row()
        return words is not None and words[_SENDS] == to

    def _sends(self, to: int) -> bool:
        """Ask the kernel whether the partner's message to *to* was not taken yet; True if it does not know."""
        try:
            return self._environment.sys.sends(self._thread, to)
        except TrapRefused:
            return True  # it is gone, or is not bound to any more

    def _row(self) -> memoryview | None:
        """Return the partner's row as it is now, if it has one."""
        if self._mapped is None and not self._own and not self._map():
            return None
        page = self._page
        if not self._at or page[self._at] != self._thread:
            self._at = find(page, self._thread)
        return page[self._at : self._at + WAIT_WORDS] if self._at else None

    def _map(self) -> bool:
        environment = self._environment
        try:
            descriptor = environment.sys.wait_page(self._thread)
        except TrapRefused:
            return False  # it is gone, or is not bound to any more
        self._mapped = environment.host.map(descriptor, PAGE_SIZE, writable=False)
        self._page = self._mapped.cast("Q")
        return True

    def close(self) -> None:
        """Read no more."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            self._page.release()
            self._page = self._environment.page
            self._environment.host.unmap(mapped)


def find(page: memoryview, thread: int) -> int:
    """Return where in *page*, as words, the row of *thread* begins; 0: it has none."""
    for at in range(Page.WAITS, PAGE_SIZE // 8, WAIT_WORDS):
        if page[at] == thread:
            return at
    return 0

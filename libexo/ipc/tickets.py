"""The two tickets of a binding: who has a message, and who waits for its answer. All that touches them is here.

A ticket holds the number of one message, or nothing; both ends may take what it holds, and one of them has it. The
sender of a message that may be withdrawn puts its number into the first, the receiver of a call, when it takes it,
into the second. So to take a message and to withdraw it exclude each other, as do to answer it and to wait no more.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from libexo.host.base import Host
    from libexo.transport.base import Descriptor, Ticket


class Tickets(msgspec.Struct, eq=False):
    """One end's view of both; its sender's moves first, then its receiver's."""

    send: "Ticket"
    """Who has a message."""
    answer: "Ticket"
    """Who waits for what is to come of it."""

    def post(self, sequence: int) -> None:
        """Message *sequence* may be taken from now on."""
        self.send.post(sequence)

    def withdraw(self, sequence: int) -> bool:
        """Take message *sequence* back. False: its receiver has it, or has its number in hand just now."""
        return self.send.claim() == sequence

    def forgo(self, sequence: int) -> bool:
        """Wait for the answer to *sequence* no more. False: it is being given just now."""
        return self.answer.claim() == sequence

    def clear(self) -> None:
        """Neither holds anything any more."""
        self.send.claim()
        self.answer.claim()

    def take(self) -> int:
        """Take whatever number is up: a message is had by who has its number. 0: none is."""
        return self.send.claim()

    def put_back(self, sequence: int) -> None:
        """Put message *sequence*, which is not taken after all, up again."""
        _put_up(self.send, sequence)

    def owe(self, sequence: int) -> None:
        """Message *sequence* was taken: an answer is owed, while its sender waits for one."""
        _put_up(self.answer, sequence)

    def pay(self, sequence: int) -> bool:
        """Make the answer to *sequence* ours to give. False: its sender waits no more."""
        claimed = self.answer.claim()
        if claimed != sequence:
            _put_up(self.answer, claimed)
        return claimed == sequence

    def close(self) -> None:
        """Give both up."""
        self.send.close()
        self.answer.close()


def tickets(host: "Host", descriptors: "list[Descriptor]") -> Tickets:
    """Return the two whose *descriptors* come first."""
    return Tickets(host.ticket(descriptors[0]), host.ticket(descriptors[1]))


def _put_up(ticket: "Ticket", sequence: int) -> None:
    """Put *sequence* up, unless none is; a ticket that was closed meanwhile has no use for it."""
    if sequence:
        with suppress(OSError):
            ticket.post(sequence)

"""The two tickets of a binding; only this file touches them.

A ticket holds the number of one message, or nothing; of the two ends that may claim that number, one gets it. The
sender of a message that may be withdrawn posts its number in the first, the receiver of a call, when it takes it,
in the second. So taking a message and withdrawing it exclude each other, as do answering it and giving up on that.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from libexo.host.base import Host
    from libexo.transport.base import Descriptor, Ticket


class Tickets(msgspec.Struct, eq=False):
    """One end's view of both: the moves of the sender first, then those of the receiver."""

    send: "Ticket"
    """Claimed to take a message, or to withdraw it."""
    answer: "Ticket"
    """Claimed to answer a message, or to give up on the answer."""

    def post(self, sequence: int) -> None:
        """Let message *sequence* be taken."""
        self.send.post(sequence)

    def withdraw(self, sequence: int) -> bool:
        """Take message *sequence* back. False: its receiver has it, or holds its number at this moment."""
        return self.send.claim() == sequence

    def forgo(self, sequence: int) -> bool:
        """Give up on the answer to *sequence*. False: it is being given at this moment."""
        return self.answer.claim() == sequence

    def clear(self) -> None:
        """Empty both."""
        self.send.claim()
        self.answer.claim()

    def take(self) -> int:
        """Take the number that is up, and with it the message. 0: none is."""
        return self.send.claim()

    def put_back(self, sequence: int) -> None:
        """Put the number of message *sequence*, which is not taken after all, up again."""
        _put_up(self.send, sequence)

    def owe(self, sequence: int) -> None:
        """Message *sequence* was taken: owe its sender an answer, until it gives up."""
        _put_up(self.answer, sequence)

    def pay(self, sequence: int) -> bool:
        """Claim the right to answer *sequence*. False: its sender gave up."""
        claimed = self.answer.claim()
        if claimed != sequence:
            _put_up(self.answer, claimed)
        return claimed == sequence

    def close(self) -> None:
        """Give both up."""
        self.send.close()
        self.answer.close()


def tickets(host: "Host", descriptors: "list[Descriptor]") -> Tickets:
    """Return the tickets of the first two *descriptors*."""
    return Tickets(host.ticket(descriptors[0]), host.ticket(descriptors[1]))


def _put_up(ticket: "Ticket", sequence: int) -> None:
    """Put *sequence* up, unless it is 0; a ticket that was closed meanwhile is skipped."""
    if sequence:
        with suppress(OSError):
            ticket.post(sequence)

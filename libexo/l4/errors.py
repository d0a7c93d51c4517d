"""Early ends of a message's transfer: an X.2 error of both sides, in a word of its own for each.

The sender sees it in the send phase and the receiver in the receive phase, so the phase also selects the
side: `word` gives each its error word. Source: L4 X.2 reference manual, rev. 7.
"""

from kernel.abi.messages import IpcCode, Phase
from libexo.errors import ExoError, IpcError, error_word

_OTHER = {
    IpcCode.XFER_TIMEOUT_HERE: IpcCode.XFER_TIMEOUT_THERE,
    IpcCode.XFER_TIMEOUT_THERE: IpcCode.XFER_TIMEOUT_HERE,
}


def sender_word(error: IpcError) -> int:
    """Return the error word of the sender whose message ended with *error* at its receiver."""
    return error_word(_OTHER.get(error.code, error.code), Phase.SEND, error.offset)


class Cut(ExoError):
    """The message was cut. `offset` is the number of bytes copied before, of all its strings together."""

    def __init__(self, text: str, offset: int = 0) -> None:
        """Give the reason; the copier of the strings sets *offset*."""
        super().__init__(text)
        self.offset = offset

    def code(self, phase: Phase) -> IpcCode:
        """Return the error code for the sender (SEND) or the receiver (RECEIVE)."""
        raise NotImplementedError

    def word(self, phase: Phase) -> int:
        """Return the error word for the sender (SEND) or the receiver (RECEIVE)."""
        return error_word(self.code(phase), phase, self.offset)


class Overflow(Cut):
    """There is no room at the receiver, or a map item covers unmappable memory (X.2 code 4, both sides)."""

    def code(self, phase: Phase) -> IpcCode:
        """Return OVERFLOW, for either side."""
        return IpcCode.OVERFLOW


class Aborted(Cut):
    """Another thread aborted the transfer while a page fault held it up (X.2 code 7, both sides)."""

    def code(self, phase: Phase) -> IpcCode:
        """Return ABORTED, for either side."""
        return IpcCode.ABORTED


class XferTimeout(Cut):
    """Page faults took longer than a transfer time-out allows (X.2 codes 5 and 6)."""

    def __init__(self, expired: Phase) -> None:
        """Say that the time-out of the sender (SEND) or of the receiver (RECEIVE) *expired*."""
        side = "sender" if expired is Phase.SEND else "receiver"
        super().__init__(f"page faults took longer than the transfer time-out of the {side}")
        self.expired = expired

    def code(self, phase: Phase) -> IpcCode:
        """Return the code for a time-out of one's own, or of the partner's."""
        return IpcCode.XFER_TIMEOUT_HERE if phase is self.expired else IpcCode.XFER_TIMEOUT_THERE

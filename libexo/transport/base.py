"""The seam between IPC and what carries it.

A *channel* is the sending end of a binding, the *inbox* the receiving end of a thread. A message is a list of
frames (the encoded packet first). Both ends carry messages both ways: an answer goes back over the channel its
call came from. Nothing here waits; `fileno` of both can be given to `Host.wait`.
"""

from collections.abc import Sequence
from typing import Protocol

from libexo.host.base import Descriptor

Frames = Sequence[bytes]


class Channel(Protocol):
    """The sender's end of one binding."""

    def send(self, frames: Frames) -> bool:
        """Send a message. False: the queue to the receiver is full."""

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None."""

    def fileno(self) -> int:
        """Return what to wait on for answers. It may be edge-triggered: try `receive` before waiting."""

    def close(self) -> None:
        """End the binding's use; what is queued to the receiver is still delivered where possible."""


class Inbox(Protocol):
    """The receiver's end of a thread: messages of all bindings to it."""

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*. False: it is gone or full."""

    def fileno(self) -> int:
        """Return what to wait on. It may be edge-triggered: try `receive` before waiting."""

    def close(self) -> None:
        """Stop receiving."""


class Transport(Protocol):
    """One way to carry messages."""

    def channel(self, number: int, token: bytes) -> Channel:
        """Open the sending end of a binding to thread *number*, known there by *token*."""

    def inbox(self, number: int, descriptor: Descriptor) -> Inbox:
        """Open the receiving end of thread *number*, of which *descriptor* is the listening socket."""

    def close(self) -> None:
        """Close everything, waiting for nothing."""

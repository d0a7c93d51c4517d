"""The seam between IPC and its carriers.

A *channel* is the sending end of a binding. The *inbox* is the receiving end of a thread; each binding that the
kernel handed over is *admitted* to it. A message is a list of frames (the encoded packet first). Both ends carry
messages both ways: an answer goes back over the channel its call came from. Nothing here waits; `fileno` of both
can be given to `Host.wait`.

The other side may be hostile. An inbox has a limit for messages that are incomplete or wait for their turn, and for
answers that are not read. Beyond it, the party whose bindings hold the most is to blame, and loses one. Parties
are served in turn: however much one sends, over however many bindings, others do not wait for all of it.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

Descriptor = object
"""A descriptor of the kernel's: an int on a real host, an object on the simulated one."""
Frames = Sequence[bytes]
Broken = Callable[[Sequence[bytes], str], object]
"""Told the tokens of bindings that are closed because their sender does not keep to the rules, and what he did; no
tokens: somebody connected who has none."""
FLUSH_MS = 200
"""How long the last answers of an inbox that closes, or of a program that ends, may take to get out."""
HELD = 64 << 20
"""Bytes an inbox holds of incomplete or unread messages, by default."""


class Source(Protocol):
    """Something that can be waited for."""

    def fileno(self) -> int:
        """Return the host descriptor to poll (real host); a stable key (simulated)."""


class Ticket(Protocol):
    """Numbers shared by the two ends of a binding; one of them takes what either posted. Neither ever waits."""

    def post(self, sequence: int) -> None:
        """Post the number *sequence*: the first end to claim has it. If the other end filled it up, it is lost."""

    def claim(self) -> int:
        """Take the number posted first and return it, or 0: there is none."""

    def close(self) -> None:
        """Give it up."""


class Bell(Protocol):
    """One side of a ring binding's two doorbells: it waits on the one, and rings the other."""

    def ring(self) -> None:
        """Wake the other side. Never waits, never raises, even if the other side is gone."""

    def silence(self) -> bool:
        """Take what was rung, so that waits last again. False: there was nothing, and the other side is gone."""

    def fileno(self) -> int:
        """Return the descriptor to wait on. Raises ValueError once it is closed."""

    def close(self) -> None:
        """Give it up; no strand may be waiting for it, or using it."""


class Channel(Protocol):
    """The sender's end of one binding."""

    def send(self, frames: Frames) -> bool:
        """Send a message. False: the queue to the receiver is full. Raises ValueError: it is too large."""

    def receive(self) -> list[bytes] | None:
        """Return the next answer, or None. Raises BrokenStream, BrokenRing: the receiver breaks the rules."""

    def fileno(self) -> int:
        """Return the descriptor to wait on for answers. It may be edge-triggered: try `receive` before waiting."""

    def close(self) -> None:
        """End the binding's use; what is queued to the receiver is still delivered where possible."""


class Inbox(Protocol):
    """The receiver's end of a thread: messages of all bindings admitted to it."""

    limit: int
    """Bytes it may hold for others."""

    def admit(self, token: bytes, descriptor: Descriptor, owner: int) -> None:
        """Take messages from the one connection that waits at *descriptor*, which is consumed.

        The binding is known by *token*, and belongs to party *owner*: parties have their turns, one message each.
        """

    def close_peer(self, token: bytes) -> None:
        """Close the connection of *token*; what came from it is lost. Harmless when it is unknown."""

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """Return the token a message came under, and its frames; or None."""

    def again(self, token: bytes) -> None:
        """Note that the last message, under *token*, had been withdrawn: it does not count as its party's turn."""

    def send(self, token: bytes, frames: Frames) -> bool:
        """Send an answer back over the binding of *token*. False: it is gone or full. Raises ValueError."""

    def fileno(self) -> int:
        """Return the descriptor to wait on. It may be edge-triggered: try `receive` before waiting."""

    def close(self) -> None:
        """Stop receiving."""


class Transport(Protocol):
    """One way to carry messages."""

    def channel(self, address: str, token: bytes) -> Channel:
        """Connect the sending end of a binding to its end point, where it is known by *token*."""

    def inbox(self, broken: Broken) -> Inbox:
        """Open the receiving end of a thread."""

    def close(self) -> None:
        """Close everything, without waiting."""

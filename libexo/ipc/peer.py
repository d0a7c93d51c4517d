"""Somebody's binding to us, once it is identified."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from libexo.ipc.tickets import Tickets

if TYPE_CHECKING:
    from libexo.transport.ring.line import Line


def _nowhere(_mark: int, _sequence: int, _label: int, _string: bytes) -> bool:
    return False


class Peer:
    """Somebody's binding to us, identified."""

    __slots__ = (
        "doubted", "environment", "epoch", "family", "kept", "last", "line", "put", "redirected", "thread",
        "tickets", "token",
    )  # fmt: skip

    def __init__(
        self,
        thread: int,
        environment: int,
        token: bytes,
        tickets: Tickets,
        *,
        redirected: bool,
        family: int = 0,
    ) -> None:
        """The messages under *token* are from *thread* of *environment*."""
        self.thread = thread
        self.environment = environment
        self.family = family
        """The party it is of, in whose turn its messages are received."""
        self.token = token
        self.tickets = tickets
        self.redirected = redirected
        """Its messages were meant for others, and say for whom."""
        self.epoch = 0
        """The binding epoch it was identified in."""
        self.last = 0
        """The highest sequence number taken: what comes at or below it is a duplicate."""
        self.doubted = -1
        """What `last` was when it had put a message up that never came: it is not waited for until one comes."""
        self.kept = 0
        """The number of a message that is ours, though its ticket was put up again: see `Peers.put_back`."""
        self.put: Callable[[int, int, int, bytes], bool] = _nowhere
        """Writes a plain answer: as `Line.put`. False: it takes the ordinary way."""
        self.line: Line | None = None
        """Our end of the ring, where the binding has one."""

    def close(self) -> None:
        """Forget it."""
        self.tickets.close()
        if self.line is not None:
            self.line.close()

"""Somebody's binding to us."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from libexo.ipc.tickets import Tickets

if TYPE_CHECKING:
    from libexo.transport.ring.duplex import Duplex


def _nowhere(_mark: int, _sequence: int, _label: int, _string: bytes) -> bool:
    return False


class Peer(msgspec.Struct, eq=False):
    """Somebody's binding to us, identified: the messages under *token* are from *thread* of *environment*."""

    thread: int
    environment: int
    token: bytes
    tickets: Tickets
    redirected: bool
    """Its messages were meant for others, and say for whom."""
    family: int = 0
    """The party it is of, in whose turn its messages are received."""
    epoch: int = 0
    """The binding epoch it was identified in."""
    last: int = 0
    """The highest sequence number taken: what comes at or below it is a duplicate."""
    doubted: int = -1
    """What `last` was when it had put a message up that never came: it is not waited for until one comes."""
    kept: int = 0
    """The number of a message that is ours, though its ticket was put up again: see `Peers.put_back`."""
    put: Callable[[int, int, int, bytes], bool] = _nowhere
    """Writes a plain answer: as `Duplex.put`. False: it takes the ordinary way."""
    line: "Duplex | None" = None
    """Our end of the ring, where the binding has one."""

    def close(self) -> None:
        """Forget it."""
        self.tickets.close()
        if self.line is not None:
            self.line.close()

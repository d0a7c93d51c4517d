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
    """Its messages are redirected ones, and name their addressees."""
    family: int = 0
    """Its party: its messages are received in that party's turn."""
    epoch: int = 0
    """The binding epoch it was identified in."""
    last: int = 0
    """The highest sequence number taken: any number up to it is a duplicate."""
    doubted: int = -1
    """`last` when it had put up a message that never came: it is not waited for until one comes."""
    put: Callable[[int, int, int, bytes], bool] = _nowhere
    """Writes a plain answer: as `Duplex.put`. False: it takes the ordinary way."""
    line: "Duplex | None" = None
    """Our end of the ring, if the binding has one."""

    def close(self) -> None:
        """Forget it."""
        self.tickets.close()
        if self.line is not None:
            self.line.close()

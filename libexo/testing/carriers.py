"""What carries the messages of a simulated system: queues, unless something else was put here."""

from collections.abc import Callable, Iterable
from typing import Protocol

from libexo.transport.base import Transport
from libexo.transport.inprocess import Hub


class Carrier(Protocol):
    """Where the transports of one system meet."""

    connected: Callable[[str], object]
    """Told the address of each end point that somebody connects to."""

    def transport(self) -> Transport:
        """Return one more."""

    def ready(self, key: int) -> bool:
        """Say whether there is something at the end of *key*."""

    def queues(self) -> Iterable[str]:
        """Return the addresses at which something waits."""

    def open_ends(self) -> int:
        """Return how many ends of bindings are open."""

    def forget(self, address: str) -> None:
        """The end point at *address* is gone."""


carriers: list[Callable[[], Carrier]] = [Hub]
"""The last of them makes the one of a system that is booted: see `libexo.testing.rings.over_rings`."""

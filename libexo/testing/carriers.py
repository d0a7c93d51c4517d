"""Carriers of a simulated system's messages: queues, unless a test put others here."""

from collections.abc import Callable, Iterable
from typing import Protocol

from libexo.transport.base import Transport
from libexo.transport.inprocess import Hub


class Carrier(Protocol):
    """The meeting place of one system's transports."""

    connected: Callable[[str], object]
    """Called with the address of each end point that a channel connects to."""

    def transport(self) -> Transport:
        """Return one more transport."""

    def ready(self, key: int) -> bool:
        """Say whether the end of *key* has something."""

    def queues(self) -> Iterable[str]:
        """Return the addresses with waiting messages."""

    def open_ends(self) -> int:
        """Return the number of open ends of bindings."""

    def forget(self, address: str) -> None:
        """Forget the end point at *address*, which is gone."""


carriers: list[Callable[[], Carrier]] = [Hub]
"""The last of them makes the carrier of a system that is booted: see `libexo.testing.rings.over_rings`."""

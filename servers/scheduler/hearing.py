"""What the kernel tells the scheduler server of the members of its processors, and of these themselves."""

from collections.abc import Sequence
from typing import Protocol

from kernel.abi.messages import Preemption
from servers.scheduler.accounts import Accounts
from servers.scheduler.inside import Inside
from servers.scheduler.removals import Removals
from servers.scheduler.reservations import Reservations
from servers.scheduler.settings import Settings
from servers.scheduler.unfinished import Unfinished


class Parts(Protocol):
    """The parts of the server that are told."""

    accounts: Accounts
    inside: Inside
    reservations: Reservations
    removals: Removals
    unfinished: Unfinished

    def log(self, line: str) -> None:
        """Write *line* for people."""

    def settings(self, thread: int) -> Settings:
        """Return the settings of the environment of a first thread."""


def hear(server: Parts, words: Sequence[int]) -> set[int]:
    """Have the parts of *server* note the events in *words*, three each; return the kinds of events."""
    for event, thread, number in zip(words[::3], words[1::3], words[2::3], strict=True):
        if event in (Preemption.LEAVES, Preemption.RETURNS):
            continue
        family = server.settings(thread).family or thread
        server.accounts.charge(family, number)
        server.inside.charge(family, thread, number)
        server.unfinished.charge(thread, number)
        if event == Preemption.EXIT and (why := server.reservations.left(thread)):
            server.log(why)
    events = set(words[::3])
    if events & {Preemption.LEAVES, Preemption.RETURNS}:
        server.removals.settle()
    return events

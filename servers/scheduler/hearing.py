"""What the kernel tells the scheduler server of the members of its processors, and of these themselves."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

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
    waits: dict[int, int]
    """The number of the thread for which each waits that sleeps, by thread."""

    def log(self, line: str) -> None:
        """Write *line* for people."""

    def settings(self, thread: int) -> Settings:
        """Return the settings of the environment of a first thread."""


class Heard(NamedTuple):
    """What asks for new plans."""

    kinds: set[int]
    """Of `Preemption`."""
    woke: set[int]
    """First threads of those that came, or woke up."""


def hear(server: Parts, words: Sequence[int]) -> Heard:
    """Have the parts of *server* note the events in *words*, three each."""
    for event, thread, number in zip(words[::3], words[1::3], words[2::3], strict=True):
        if event in (Preemption.LEAVES, Preemption.RETURNS):
            continue
        family = server.settings(thread).family or thread
        if event == Preemption.WAITS:
            server.waits[thread] = number
            continue
        if event in (Preemption.READY, Preemption.BLOCKED, Preemption.EXIT):
            server.waits.pop(thread, None)
        gone = number if event != Preemption.BORROWED else -number  # that is in its account already
        server.accounts.charge(family, gone)
        server.inside.charge(family, thread, gone)
        server.unfinished.charge(thread, gone)
        if event == Preemption.EXIT and (why := server.reservations.left(thread)):
            server.log(why)
    kinds = set(words[::3])
    if kinds & {Preemption.LEAVES, Preemption.RETURNS}:
        server.removals.settle()
    woke = {
        thread for event, thread in zip(words[::3], words[1::3], strict=True) if event == Preemption.READY
    }
    return Heard(kinds - {Preemption.SLICE_END, Preemption.LENT, Preemption.BORROWED}, woke)

"""Capabilities passed on between puppets: offered by one, accepted by the other."""

from kernel.abi import traps
from kernel.abi.rights import ALL_RIGHTS
from tests.kernel.puppets import Puppet


def offer(giver: Puppet, handle: int, to: Puppet | int, rights: int, *, grant: bool = False) -> int:
    """Have *giver* offer it; return the handle of the offer."""
    thread = to if isinstance(to, int) else to.thread
    return giver.sys.transfer(handle, thread, rights, grant=grant)


def accept(taker: Puppet, giver: Puppet | int, offered: int, rights: int = ALL_RIGHTS) -> traps.Accepted:
    """Have *taker* accept what *giver* offers it."""
    thread = giver if isinstance(giver, int) else giver.thread
    return taker.sys.accept(thread, offered, rights)


def passed(giver: Puppet, handle: int, taker: Puppet, rights: int, *, grant: bool = False) -> int:
    """Have *giver* offer it and *taker* accept it; return its handle there."""
    return accept(taker, giver, offer(giver, handle, taker, rights, grant=grant)).handle

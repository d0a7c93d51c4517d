"""When the time of an IPC is over, and its partner waits even so: for how long it is held on.

See `libexo.standing`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from libexo.exchange import Exchange, Peer, put_up
from libexo.standing import LOOK, Standing

if TYPE_CHECKING:
    from libexo.environment import Environment


def hold(environment: "Environment", exchange: Exchange, sender: int) -> int:
    """The time of *exchange*, a message of thread *sender*, is over: its receiver may be one that waits, even so.

    Returns how soon to look again, in ns; 0: it does not wait, or it has had all the time it may take.
    """
    link, now = exchange.link, environment.host.now()
    if link.standing is None:
        link.standing = Standing(environment, link.receiver)
    patience = link.standing.patience(sender, exchange.virtual)
    exchange.held = exchange.held or now
    left = patience - (now - exchange.held)
    if patience and left <= 0:
        link.standing.doubted = True
    return max(min(left, LOOK), 0)


def on_the_way(peers: Iterable[Peer]) -> list[Peer]:
    """Return those of *peers* who have put a message up that has not arrived yet."""
    found = []
    for peer in peers:
        posted = peer.send_ticket.claim()
        put_up(peer.send_ticket, posted)
        if posted > peer.last:
            found.append(peer)
    return found

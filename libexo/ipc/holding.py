"""When the time of an IPC is over, and its partner waits even so: for how long it is held on.

See `libexo.ipc.standing`.
"""

from typing import TYPE_CHECKING

from libexo.ipc.exchange import Link, Outgoing
from libexo.ipc.peers import Peers
from libexo.ipc.standing import HOLD, LOOK, Standing

if TYPE_CHECKING:
    from libexo.attachment import Attachment


def hold(environment: "Attachment", exchange: Outgoing, sender: int) -> int:
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


def comes(environment: "Attachment", receiver: int, link: Link | None, peers: Peers, since: int) -> bool:
    """The time of a receive of *receiver*, a thread of ours, is over *since* then: a message may be on its way.

    *peers* are bound to it; *link* is to the one partner of a closed receive, who may not have sent before.
    """
    bound = list(peers.known.values())
    late = [peer for peer in bound if peer.doubted != peer.last and peers.posted(peer, receiver) > peer.last]
    first = None
    if link is not None and all(peer.thread != link.receiver for peer in bound):
        first = _sender(environment, link, receiver)
    if not late and first is None:
        return False
    if environment.host.now() - since < HOLD:
        return True
    for peer in late:
        peer.doubted = peer.last
    if first is not None:
        first.doubted = True
    return False


def _sender(environment: "Attachment", link: Link, receiver: int) -> Standing | None:
    """Return what the partner of *link* says, if that is that it sends to *receiver*, and it can be believed.

    What a redirected partner sends does not come here, whatever it says.
    """
    if not _leads_to(environment, link.receiver, receiver):
        return None
    if link.standing is None:
        link.standing = Standing(environment, link.receiver)
    standing = link.standing
    return standing if not standing.doubted and standing.is_sending(receiver) else None


def _leads_to(environment: "Attachment", sender: int, receiver: int) -> bool:
    """Say whether what thread *sender* sends to *receiver* goes there, as the kernel shows its redirector."""
    kip = environment.kip
    row, ours = kip.thread(sender), kip.thread(receiver)
    if row is None or ours is None:
        return False
    if not row.redirector or row.environment == ours.environment:
        return True
    redirector = kip.thread(row.redirector)
    return redirector is not None and redirector.environment == ours.environment

"""The moves two puppets make against each other: post, take, answer, and packets made by hand."""

import msgspec

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import Packet, PacketKind
from libexo.ipc.exchange import Link, Outgoing
from libexo.ipc.message import Message, Origin
from libexo.ipc.rendezvous import Rendezvous
from tests.kernel.puppets import Puppet

CALL, SEND = PacketKind.CALL, PacketKind.SEND


def core(puppet: Puppet) -> Rendezvous:
    return puppet.env.thread.core


def post(a: Puppet, b: Puppet, *words: int, kind: PacketKind = CALL, timed: bool = False) -> Outgoing:
    return core(a).post(b.thread, Message(words=words), kind, timed=timed)


def taken(b: Puppet, sender: int = ANY_THREAD) -> tuple[int, ...] | None:
    """Take the next message; return its words."""
    found = core(b).take(sender)
    return found[1].words if found is not None else None


def message(b: Puppet, sender: int = ANY_THREAD) -> Message:
    """Take the next message, which is there."""
    found = core(b).take(sender)
    assert found is not None
    return found[1]


def origin(b: Puppet, sender: int = ANY_THREAD) -> Origin:
    """Take the next message; return the way back to its sender."""
    found = message(b, sender).origin
    assert found is not None
    return found


def packet(a: Puppet, b: Puppet, head: object, *strings: bytes) -> Link:
    """Put any frames into b's inbox, under a's binding."""
    link = core(a).link(b.thread)
    data = head if isinstance(head, bytes) else msgspec.msgpack.encode(head)
    assert link.channel.send((data, *strings))
    return link


def back(b: Puppet, origin: Origin, head: object, *strings: bytes) -> None:
    """Send any frames back to the sender of what b took."""
    inbox, peer = core(b).inbox, origin.peer
    assert inbox is not None
    assert peer is not None
    data = head if isinstance(head, bytes) else msgspec.msgpack.encode(head)
    assert inbox.send(peer.token, (data, *strings))


def pumped(a: Puppet, exchange: Outgoing) -> Outgoing:
    """Take in what has come back, and return *exchange*."""
    core(a).pump()
    return exchange


def came_back(link: Link) -> list[Packet]:
    """Return what has come back on *link*, before anybody looks at it."""
    packets = []
    while (frames := link.channel.receive()) is not None:
        packets.append(msgspec.msgpack.decode(frames[0], type=Packet))
    return packets

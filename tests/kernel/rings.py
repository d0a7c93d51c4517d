"""Two environments and a ring between them, for the tests of ring bindings."""

from typing import NamedTuple

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import ALL_RIGHTS
from libexo.transport.base import Bell, Descriptor
from tests.kernel.puppets import Puppet, Theatre

FRAMES = 4
SIZE = FRAMES * FRAME_SIZE


class End(NamedTuple):
    """One side's part of a ring binding."""

    token: bytes
    memory: memoryview
    bell: Bell


class Pair(NamedTuple):
    """Two environments, and the extent one of them bound itself to the other with."""

    a: Puppet
    b: Puppet
    extent: int
    sends: End
    receives: End


def carve(a: Puppet, frames: int = FRAMES) -> int:
    return a.sys.carve(a.handles[0], frames).extent


def take(puppet: Puppet, token: bytes, size: int, given: list[Descriptor]) -> End:
    """Map and ring what came."""
    send, answer, memory, wait, ring = given
    for ticket in (send, answer):
        puppet.host.close_descriptor(ticket)
    return End(token, puppet.host.map(memory, size, writable=True), puppet.host.bell(wait, ring))


def bound(a: Puppet, b: Puppet, extent: int) -> End:
    """Bind a to b with *extent*."""
    binding, given = a.sys.bind(b.thread, 0, extent)
    a.connect(binding.address)
    return take(a, binding.token, binding.ring, given)


def received(b: Puppet, token: bytes) -> End:
    """Take in the one binding there is, which is that of *token*."""
    [arrived], (way, *given) = b.sys.incoming()
    assert arrived.token == token
    b.host.close_descriptor(way)
    b.told()
    return take(b, token, arrived.who.ring, given)


def pair(stage: Theatre) -> Pair:
    """Bind two, and let the receiver take it in."""
    a, b = stage.pair()
    extent = carve(a)
    sends = bound(a, b, extent)
    return Pair(a, b, extent, sends, received(b, sends.token))


def granted(server: Puppet, a: Puppet) -> tuple[int, int]:
    """Let *server* grant a an extent; return what it can take it back by, and a's handle."""
    pool = server.sys.derive(server.handles[0], int(ALL_RIGHTS))
    carved = server.sys.carve(pool, FRAMES)
    offer = server.sys.transfer(carved.extent, a.thread, int(ALL_RIGHTS), grant=True)
    return pool, a.sys.accept(server.thread, offer).handle


def mapped(a: Puppet, extent: int) -> memoryview:
    """Map an ordinary extent."""
    mapping, descriptor = a.sys.map_extent(extent)
    return a.host.map(descriptor, mapping.count * FRAME_SIZE, writable=mapping.writable)

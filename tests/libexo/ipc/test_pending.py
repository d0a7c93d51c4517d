"""Messages at a receiver that waits for others: bounded in bytes and number, at the cost of the busiest sender."""

import pytest

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import IpcCode, PacketKind, Phase
from libexo.errors import IpcError
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import Message
from tests.kernel.puppets import Puppet, theatre
from tests.libexo import moves
from tests.libexo.moves import CALL, PENDING, SEND, post, pumped, taken

ROOM = 256 << 10
LONG = ROOM // 8


def send(
    a: Puppet, b: Puppet, number: int, size: int, kind: PacketKind = SEND, *, timed: bool = False
) -> Outgoing:
    return moves.post_message(a, b.thread, Message(words=(number,), items=(bytes(size),)), kind, timed=timed)


def look_for(b: Puppet, sender: Puppet) -> tuple[int, ...] | None:
    """Look for a message of *sender*'s, until no more have arrived."""
    found = None
    for _ in range(16):
        moves.pump_gate(b)
        found = taken(b, sender.thread) or found
    return found


@pytest.mark.parametrize("kind", [SEND, CALL])
@pytest.mark.parametrize("timed", [True, False])
def test_bytes_that_wait_are_bounded(kind: PacketKind, *, timed: bool) -> None:
    """The party with most there has its latest refused, and is told; others' stay, and the awaited one comes."""
    with theatre() as stage:
        a, b = stage.pair()
        quiet, wanted = stage.puppet("quiet"), stage.puppet("wanted")
        moves.hold_at_most(b, ROOM)
        moves.open_inbox(b)
        small = [send(quiet, b, number, 1000) for number in range(3)]
        large = [send(a, b, number, LONG, kind, timed=timed) for number in range(20)]
        send(wanted, b, 7, 1000)
        found = look_for(b, wanted)
        weight = moves.weight(b)
        refused = [exchange.error for exchange in large if pumped(a, exchange).done]

        assert found == (7,)
        assert weight <= ROOM
        assert 10 <= len(refused) < len(large)
        assert all(
            isinstance(e, IpcError) and (e.code, e.phase) == (IpcCode.OVERFLOW, Phase.SEND) for e in refused
        )
        assert [taken(b, quiet.thread) for _ in small] == [(0,), (1,), (2,)]
        assert [taken(b, a.thread) is not None for _ in large].count(True) == len(large) - len(refused)
        assert moves.weight(b) == 0


def test_a_crowd_of_short_ones_does_not_hide_another() -> None:
    """As many short messages as there is room for, and more, keep none from coming that is waited for."""
    with theatre() as stage:
        a, b = stage.pair()
        wanted = stage.puppet("wanted")
        moves.open_inbox(b)
        crowd = []
        for _ in range(PENDING // 500 + 1):
            crowd += [post(a, b, 0, kind=SEND) for _ in range(500)]
            assert taken(b, wanted.thread) is None
        post(wanted, b, 7, kind=SEND)

        assert look_for(b, wanted) == (7,)
        assert moves.held(b) <= PENDING
        assert moves.counted(b, "overflow") + moves.held(b) == len(crowd)


def test_whoever_takes_what_comes_refuses_nothing() -> None:
    """A server holds a few at hand, or fewer where they are large; the others wait where they are."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.hold_at_most(b, ROOM)
        moves.open_inbox(b)
        sent = [send(a, b, number, LONG) for number in range(30)]
        weights = []
        said = []
        while (words := taken(b, ANY_THREAD)) is not None:
            said.append(words)
            weights.append(moves.weight(b))

        assert said == [(number,) for number in range(len(sent))]
        assert max(weights) == 0
        assert moves.counted(b, "overflow") == 0

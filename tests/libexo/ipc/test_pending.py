"""What waits at a receiver that waits for others: bounded in bytes and number, at the cost of who sends most."""

import pytest

from kernel.abi.ids import ANY_THREAD
from kernel.abi.messages import IpcCode, PacketKind, Phase
from libexo.errors import IpcError
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import Message
from libexo.ipc.receiving import PENDING
from tests.kernel.puppets import Puppet, theatre
from tests.libexo.moves import CALL, SEND, core, post, pumped, taken

ROOM = 256 << 10
LONG = ROOM // 8


def send(
    a: Puppet, b: Puppet, number: int, size: int, kind: PacketKind = SEND, *, timed: bool = False
) -> Outgoing:
    return core(a).post(b.thread, Message(words=(number,), items=(bytes(size),)), kind, timed=timed)


def look_for(b: Puppet, sender: Puppet) -> tuple[int, ...] | None:
    """Look for a message of *sender*'s, until no more have arrived."""
    found = None
    for _ in range(16):
        core(b).pump_gate()
        found = taken(b, sender.thread) or found
    return found


@pytest.mark.parametrize("kind", [SEND, CALL])
@pytest.mark.parametrize("timed", [True, False])
def test_bytes_that_wait_are_bounded(kind: PacketKind, *, timed: bool) -> None:
    """Who has the most there has the latest refused, and is told; others' stay, and what was waited for comes."""
    with theatre() as stage:
        a, b = stage.pair()
        quiet, wanted = stage.puppet("quiet"), stage.puppet("wanted")
        core(b).holds = ROOM
        core(b).open_inbox()
        small = [send(quiet, b, number, 1000) for number in range(3)]
        large = [send(a, b, number, LONG, kind, timed=timed) for number in range(20)]
        send(wanted, b, 7, 1000)
        found = look_for(b, wanted)
        weight = core(b).held.weight
        refused = [exchange.error for exchange in large if pumped(a, exchange).done]

        assert found == (7,)
        assert weight <= ROOM
        assert 10 <= len(refused) < len(large)
        assert all(
            isinstance(e, IpcError) and (e.code, e.phase) == (IpcCode.OVERFLOW, Phase.SEND) for e in refused
        )
        assert [taken(b, quiet.thread) for _ in small] == [(0,), (1,), (2,)]
        assert [taken(b, a.thread) is not None for _ in large].count(True) == len(large) - len(refused)
        assert core(b).held.weight == 0


def test_a_crowd_of_short_ones_does_not_hide_another() -> None:
    """As many short messages as there is room for, and more, keep none from coming that is waited for."""
    with theatre() as stage:
        a, b = stage.pair()
        wanted = stage.puppet("wanted")
        core(b).open_inbox()
        crowd = []
        for _ in range(PENDING // 500 + 1):
            crowd += [post(a, b, 0, kind=SEND) for _ in range(500)]
            assert taken(b, wanted.thread) is None
        post(wanted, b, 7, kind=SEND)

        assert look_for(b, wanted) == (7,)
        assert len(core(b).held) <= PENDING
        assert core(b).statistics["overflow"] + len(core(b).held) == len(crowd)


def test_whoever_takes_what_comes_refuses_nothing() -> None:
    """A server holds a few at hand, or fewer where they are large; the others wait where they are."""
    with theatre() as stage:
        a, b = stage.pair()
        core(b).holds = ROOM
        core(b).open_inbox()
        sent = [send(a, b, number, LONG) for number in range(30)]
        weights = []
        said = []
        while (words := taken(b, ANY_THREAD)) is not None:
            said.append(words)
            weights.append(core(b).held.weight)

        assert said == [(number,) for number in range(len(sent))]
        assert max(weights) == 0
        assert core(b).statistics["overflow"] == 0

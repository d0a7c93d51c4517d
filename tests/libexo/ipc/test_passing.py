"""Capabilities in messages: an offer that its receiver takes, or that gives nothing away."""

from collections.abc import Callable

import pytest

from kernel.abi.limits import MAX_HANDLES
from kernel.abi.messages import FpagePart, GrantPart, IpcCode, MapPart, Packet, PacketKind, Part, Phase
from kernel.abi.rights import ALL_RIGHTS, Rights
from libexo.errors import IpcError, IpcTimeout, NoPartner, TrapRefused
from libexo.ipc.exchange import Outgoing
from libexo.ipc.message import FpageItem, GrantItem, Item, MapItem, Message
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.libexo import moves
from tests.libexo.moves import CALL, SEND, came_back, message, origin, packet, post, pumped, taken

READ = Rights.READ
ALL = int(ALL_RIGHTS)


def pass_on(
    a: Puppet, b: Puppet, *items: Item, kind: PacketKind = SEND, timed: bool = False, accepts: int = 64
) -> Outgoing:
    return moves.post_message(a, b.thread, Message(items=items), kind, timed=timed, accepts=accepts)


def give_ram(stage: Theatre, puppet: Puppet) -> int:
    return stage.system.give(puppet.task, stage.system._things("ram")[0]).handle


def offers(puppet: Puppet) -> int:
    return sum(capability.offer is not None for capability in puppet.caps)


@pytest.mark.parametrize("timed", [False, True])
def test_mapped_with_a_message(timed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A Map item gives the receiver a capability of its own, named in the message it takes."""
    with theatre() as stage:
        a, b = stage.pair()
        extent = a.sys.carve(a.handles[0], 1).extent
        exchange = pass_on(a, b, MapItem(extent, int(READ)), b"text", timed=timed)
        found = message(b)

        assert found.items == (MapItem(b.caps[0].handle, int(READ)), b"text")
        assert b.sys.inspect(b.caps[0].handle).origin == a.thread
        assert (pumped(a, exchange).done, offers(a)) == (True, 0)


def test_granted_with_a_message() -> None:
    """A Grant item moves the capability."""
    with theatre() as stage:
        a, b = stage.pair()
        pass_on(a, b, GrantItem(a.handles[0], ALL))

        assert message(b).items == (GrantItem(b.caps[0].handle, ALL),)
        assert a.caps == []


def test_extents_of_an_fpage() -> None:
    """The extents of an fpage come with the rights that were given."""
    with theatre() as stage:
        a, b = stage.pair()
        first, second = (a.sys.carve(a.handles[0], 1).extent for _ in range(2))
        pass_on(a, b, FpageItem(((0, 4096, first, int(READ)), (8192, 4096, second, ALL))))
        [item] = message(b).items

        assert isinstance(item, FpageItem)
        assert [(at, size, rights) for at, size, _, rights in item.extents] == [
            (0, 4096, READ),
            (8192, 4096, ALL),
        ]
        assert [handle for _, _, handle, _ in item.extents] == [capability.handle for capability in b.caps]


def withdrawn(stage: Theatre, a: Puppet, b: Puppet, exchange: Outgoing) -> None:
    assert moves.withdraw(a, exchange) is Phase.SEND
    assert taken(b) is None


def refused(stage: Theatre, a: Puppet, b: Puppet, exchange: Outgoing) -> None:
    moves.want(b, lambda _: 0)
    assert taken(b) is None
    moves.pump(a)


def receiver_died(stage: Theatre, a: Puppet, b: Puppet, exchange: Outgoing) -> None:
    stage.kill(b)
    moves.pump(a)


def abandoned(stage: Theatre, a: Puppet, b: Puppet, exchange: Outgoing) -> None:
    moves.abandon(a, exchange)
    assert taken(b) is None


@pytest.mark.parametrize("how", [withdrawn, refused, receiver_died, abandoned])
@pytest.mark.parametrize("item", [MapItem, GrantItem])
def test_what_nobody_took_is_not_given_away(
    item: type[MapItem | GrantItem], how: Callable[[Theatre, Puppet, Puppet, Outgoing], None]
) -> None:
    """However a message ends that was not taken, what it offered is the sender's, and offered no longer."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = pass_on(a, b, item(a.handles[0], ALL), timed=True)
        how(stage, a, b, exchange)

        assert [capability.handle for capability in a.caps] == a.handles
        assert b.caps == []


def test_a_full_queue_takes_nothing() -> None:
    """Capabilities of a message that was not sent are offered no longer."""
    with theatre() as stage:
        a, b = stage.pair()
        for n in range(1000):
            post(a, b, n, kind=SEND)
        exchange = pass_on(a, b, GrantItem(a.handles[0], ALL))

        assert (exchange.done, offers(a), len(a.caps)) == (True, 0, 1)


def test_what_is_given_up_after_it_was_taken() -> None:
    """Capabilities taken with a call are the receiver's, though its caller does not wait for the answer."""
    with theatre() as stage:
        a, b = stage.pair()
        exchange = pass_on(a, b, MapItem(a.handles[0], int(READ)), kind=CALL, timed=True)
        message(b)

        assert moves.withdraw(a, exchange) is Phase.RECEIVE
        assert (len(b.caps), offers(a)) == (1, 0)


@pytest.mark.parametrize(
    ("parts", "gone"),
    [
        (lambda good: (MapPart(99),), False),
        (lambda good: (MapPart(good), MapPart(99)), True),
        (lambda good: (GrantPart(99), MapPart(good)), False),
        (lambda good: (FpagePart(((0, 4096, good), (0, 4096, 99))),), True),
        (lambda good: (FpagePart(((0, 4096, 99),) * 1000),), False),
    ],
    ids=["one wrong", "then a wrong one", "first a wrong one", "a wrong extent", "too many"],
)
def test_a_message_is_taken_whole_or_not(
    parts: Callable[[int], tuple[Part, ...]],
    gone: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Where one of its capabilities cannot be taken, none stays with the receiver; the sender is told."""
    with theatre() as stage:
        a, b = stage.pair()
        good = a.sys.transfer(a.handles[0], b.thread, READ)
        link = packet(a, b, Packet(SEND, 1, parts=parts(good)))

        assert (taken(b), b.caps, moves.counted(b, "malformed")) == (None, [], 1)
        assert [(p.kind, p.words) for p in came_back(link)] == [
            (PacketKind.REFUSED, (IpcCode.OVERFLOW << 1,))
        ]
        assert offers(a) == (0 if gone else 1)


def test_a_cut_message_is_an_error_of_its_sender() -> None:
    """A sender of more than was wanted learns that the message was cut; the receiver goes on to the next."""
    with theatre() as stage:
        a, b = stage.pair()
        moves.want(b, lambda packet: packet.label)
        ram = a.handles[0]
        wide = moves.post_message(
            a, b.thread, Message(1, items=(MapItem(ram, 4), MapItem(ram, 4))), CALL, timed=False
        )
        fit = moves.post_message(a, b.thread, Message(1, items=(MapItem(ram, 4),)), SEND, timed=False)
        first = message(b)
        moves.pump(a)

        assert isinstance(wide.error, IpcError)
        assert (wide.error.code, wide.error.phase, fit.error) == (IpcCode.OVERFLOW, Phase.SEND, None)
        assert (len(first.items), len(b.caps), offers(a)) == (1, 1, 0)


def test_forged_capabilities() -> None:
    """A capability that a message names must be on offer by its sender, to this receiver."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c", holds=("ram",))
        forged = [
            a.handles[0],
            give_ram(stage, b),
            c.sys.transfer(c.handles[0], b.thread, READ),
            a.sys.transfer(a.handles[0], c.thread, READ),
        ]
        for n, offer in enumerate(forged, 1):
            packet(a, b, Packet(SEND, n, parts=(MapPart(offer),)))

        assert (taken(b), moves.counted(b, "malformed"), len(b.caps)) == (None, 4, 1)


def test_an_answer_with_a_capability() -> None:
    """An answer passes capabilities on as a message does."""
    with theatre() as stage:
        a, b = stage.pair(holds=())
        exchange = post(a, b)
        caller = origin(b)
        moves.answer(b, caller, Message(items=(GrantItem(give_ram(stage, b), ALL),)))

        assert pumped(a, exchange).reply == Message(items=(GrantItem(a.caps[0].handle, ALL),))
        assert b.caps == []


def test_an_answer_nobody_waits_for_gives_nothing_away() -> None:
    """Capabilities meant for a caller that gave up, or ended, stay with the answerer."""
    with theatre() as stage:
        a, b = stage.pair(holds=())
        moves.open_inbox(b)
        item = GrantItem(give_ram(stage, b), ALL)
        exchange = post(a, b, timed=True)
        caller = origin(b)
        moves.withdraw(a, exchange)
        with pytest.raises(IpcTimeout):
            moves.answer(b, caller, Message(items=(item,)))
        stage.kill(a)
        with pytest.raises(NoPartner):
            moves.answer(b, caller, Message(items=(item,)))

        assert [capability.handle for capability in b.caps] == [item.handle]


def test_an_answer_that_brings_too_much() -> None:
    """A caller takes no more capabilities than it wants: it is told in the receive phase, and waits no more."""
    with theatre() as stage:
        a, b = stage.pair(holds=())
        exchange = pass_on(a, b, kind=CALL, accepts=0)
        moves.answer(b, origin(b), Message(items=(MapItem(give_ram(stage, b), int(READ)),)))
        error = pumped(a, exchange).error

        assert isinstance(error, IpcError)
        assert (error.code, error.phase, a.caps) == (IpcCode.OVERFLOW, Phase.RECEIVE, [])


def test_a_full_table() -> None:
    """An answer without room for its capability tells its receiver so; the offer stands while its maker wants."""
    with theatre() as stage:
        a, b = stage.pair()
        while len(a.caps) < MAX_HANDLES:
            a.sys.derive(a.handles[0], 0)
        exchange = post(a, b)
        moves.answer(b, origin(b), Message(items=(MapItem(give_ram(stage, b), int(READ)),)), tells=True)
        error = pumped(a, exchange).error
        moves.look(b)

        assert isinstance(error, IpcError)
        assert (error.code, offers(b)) == (IpcCode.OVERFLOW, 0)


def test_capabilities_to_the_gone() -> None:
    """Passing on to a thread that ended fails as sending to it does; what one does not have, as a trap."""
    with theatre() as stage:
        a, b = stage.pair()
        with pytest.raises(TrapRefused):
            pass_on(a, b, MapItem(77, int(READ)))
        moves.link(a, b.thread)
        stage.kill(b)
        with pytest.raises(NoPartner) as caught:
            pass_on(a, b, MapItem(a.handles[0], int(READ)))

        assert caught.value.phase is Phase.SEND

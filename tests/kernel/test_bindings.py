"""Bindings: the right to send, checked once, and what becomes of it."""

from typing import NoReturn

import msgspec
import pytest

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.events import RECORD, Event
from kernel.abi.ids import ANY_THREAD, thread_id, thread_number
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_BINDINGS, MAX_BINDINGS_TO_ONE, MAX_INCOMING
from kernel.abi.messages import Label
from tests.kernel.puppets import KILLED, Puppet, Theatre, refusal, theatre, unbound


def bound(a: Puppet, b: Puppet) -> bytes:
    """Bind a to b; return the token."""
    return bind(a, b.thread).token


def bind(a: Puppet, thread: int, sender: int = 0) -> traps.Bound:
    """Bind a thread of a's, and throw the tickets away."""
    binding, tickets = a.sys.bind(thread, sender)
    for ticket in tickets:
        a.host.close_descriptor(ticket)
    return binding


def arrive(stage: Theatre, *bindings: traps.Bound) -> None:
    """Have their senders connect."""
    for binding in bindings:
        stage.connect(binding.address)


def take(b: Puppet, receiver: int = 0) -> tuple[tuple[traps.Arrived, ...], int]:
    """Take in the bound senders; return them, and how many descriptors came, which are thrown away."""
    arrived, descriptors = b.sys.incoming(receiver)
    for descriptor in descriptors:
        b.host.close_descriptor(descriptor)
    return arrived, len(descriptors)


def identified(b: Puppet, token: bytes) -> tuple[int, int]:
    who = b.sys.identify(token)
    return who.thread, who.environment


def epoch(stage: Theatre) -> int:
    return stage.puppets[0].env.kip.epoch


def test_bind_and_identify() -> None:
    """The sender gets the receiver's number and a token, by which the receiver identifies it."""
    with theatre() as stage:
        a, b = stage.pair()
        token = bound(a, b)

        assert identified(b, token) == (a.thread, a.environment.number)
        assert (len(token), token[0] > 0) == (16, True)


def test_both_ends_share_two_tickets() -> None:
    """The receiver takes from its own ticket the number that the sender posted in its, and from no other."""
    with theatre() as stage:
        a, b = stage.pair()
        binding, mine = a.sys.bind(b.thread)
        sends, answers = map(a.host.ticket, mine)
        arrive(stage, binding)
        _, (way, *theirs) = b.sys.incoming()
        b.host.close_descriptor(way)
        takes, answered = map(b.host.ticket, theirs)
        sends.post(7)
        answers.post(9)

        assert (takes.claim(), takes.claim(), sends.claim()) == (7, 0, 0)
        assert (answered.claim(), answers.claim()) == (9, 0)


def test_tokens_mean_something_to_their_receiver_only() -> None:
    """Neither a third party nor the sender itself can identify a token, nor anybody one that was made up."""
    with theatre() as stage:
        a, b = stage.pair()
        c, token = stage.puppet("c"), bound(a, b)

        assert [refusal(p.sys.identify, token) for p in (a, c)] == [Refusal.UNKNOWN_TOKEN] * 2
        assert refusal(b.sys.identify, bytes(16)) == Refusal.UNKNOWN_TOKEN
        assert stage.kernel.kip.counter(Counter.UNKNOWN_TOKENS) == 3


def test_tokens_are_never_the_same() -> None:
    """Each binding has a token of its own, also between the same two."""
    with theatre() as stage:
        a, b = stage.pair()

        assert len({bound(a, b) for _ in range(50)}) == 50


def test_unbind() -> None:
    """A binding that was given up is unknown to both, and the epoch says that something fell."""
    with theatre() as stage:
        a, b = stage.pair()
        token, before = bound(a, b), epoch(stage)
        a.sys.unbind(token)

        assert refusal(b.sys.identify, token) == Refusal.UNKNOWN_TOKEN
        assert refusal(a.sys.unbind, token) == Refusal.UNKNOWN_TOKEN
        assert epoch(stage) == before + 1


def test_a_third_party_cannot_unbind() -> None:
    """An environment that is neither sender nor receiver cannot take a binding away."""
    with theatre() as stage:
        a, b = stage.pair()
        token = bound(a, b)
        c = stage.puppet("c")

        assert refusal(c.sys.unbind, token) == Refusal.UNKNOWN_TOKEN


def test_the_receiver_unbinds() -> None:
    """A receiver that takes a binding away ends it; its sender is told which, and the others stand."""
    with theatre() as stage:
        a, b = stage.pair()
        first, token, last = [bound(a, b) for _ in range(3)]
        b.sys.unbind(token)

        assert a.told() == [unbound(b, token)]
        assert refusal(a.sys.unbind, token) == Refusal.UNKNOWN_TOKEN
        assert list(a.environment.outgoing) == [first, last]


def test_a_dead_receiver() -> None:
    """When the receiver ends, its callers are told once each, and their bindings are gone."""
    with theatre() as stage:
        a, b = stage.pair()
        token = [bound(a, b) for _ in range(3)].pop()
        stage.kill(b)

        assert a.told() == [(Label.PARTNER_GONE, (b.thread, *KILLED))]
        assert refusal(a.sys.unbind, token) == Refusal.UNKNOWN_TOKEN
        assert refusal(a.sys.bind, b.thread) == Refusal.STALE_THREAD


def test_a_dead_sender() -> None:
    """When the sender ends, the receiver is not bothered; the epoch tells it to forget."""
    with theatre() as stage:
        a, b = stage.pair()
        token = bound(a, b)
        stage.kill(a)

        assert (b.told(), refusal(b.sys.identify, token)) == ([], Refusal.UNKNOWN_TOKEN)


def test_threads_nobody_is() -> None:
    """Kernel threads, nil, any, and numbers never given out cannot be called."""
    with theatre() as stage:
        a = stage.puppet()
        nobody = [0, ANY_THREAD, thread_id(3), thread_id(64), thread_id(96), a.thread + 2, a.thread >> 32]

        assert {refusal(a.sys.bind, thread) for thread in nobody} == {Refusal.NO_SUCH_THREAD}


def test_who_may_call_whom() -> None:
    """An environment with a list may call those on it and nobody else; without one, anybody."""
    with theatre() as stage:
        a, b = stage.pair()
        limited = stage.puppet("limited", may_bind=[thread_number(a.thread)])

        assert bound(limited, a)
        assert refusal(limited.sys.bind, b.thread) == Refusal.MAY_NOT_BIND


def test_bindings_are_bounded() -> None:
    """One environment holds a bounded number of bindings; giving one up makes room."""
    with theatre() as stage:
        a, b = stage.pair()
        receivers = [stage.puppet() for _ in range(MAX_BINDINGS // MAX_BINDINGS_TO_ONE)]
        tokens = [bound(a, each) for each in receivers for _ in range(MAX_BINDINGS_TO_ONE)]
        full = refusal(a.sys.bind, b.thread)
        a.sys.unbind(tokens[0])

        assert full == Refusal.TOO_MANY_BINDINGS
        assert bound(a, b)


def test_bindings_to_one_thread_are_bounded() -> None:
    """So are those to one thread, whichever of its threads they are of; another environment has its own."""
    with theatre() as stage:
        a, b = stage.pair()
        other = stage.puppet()
        tokens = [bound(a, b) for _ in range(MAX_BINDINGS_TO_ONE)]
        full = refusal(a.sys.bind, b.thread)

        assert full == Refusal.TOO_MANY_BINDINGS
        assert bound(a, other)
        assert bound(other, b)
        a.sys.unbind(tokens[0])
        assert bound(a, b)


def test_bound_to_oneself() -> None:
    """A thread may bind to itself; its end takes the binding once."""
    with theatre() as stage:
        a = stage.puppet()

        assert identified(a, bound(a, a))[0] == a.thread


@pytest.mark.parametrize("lent", [0, 1])
def test_no_ticket_is_left_over(lent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host lends only one ticket of two, or none, there is no binding, and none is kept."""
    with theatre() as stage:
        a, b = stage.pair()
        before = len(stage.machine.open_descriptors())
        tickets = [stage.machine.ticket() for _ in range(lent)]
        monkeypatch.setattr(stage.machine, "ticket", lambda: tickets.pop() if tickets else none_left())
        refused = refusal(a.sys.bind, b.thread)

        assert (refused, a.environment.outgoing, b.environment.first.incoming) == (Refusal.HOST_FULL, {}, {})
        assert len(stage.machine.open_descriptors()) == before


def test_no_end_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host lends no end point, there is no binding."""
    with theatre() as stage:
        a, b = stage.pair()
        before = len(stage.machine.open_descriptors())
        monkeypatch.setattr(stage.machine, "endpoint", lambda _connected: none_left())
        refused = refusal(a.sys.bind, b.thread)

        assert (refused, a.environment.outgoing, b.environment.first.incoming) == (Refusal.HOST_FULL, {}, {})
        assert len(stage.machine.open_descriptors()) == before


def test_a_receiver_learns_of_who_has_connected() -> None:
    """It is told once a binding's sender is there, and gets what belongs to it, once; the kernel keeps a look."""
    with theatre() as stage:
        a, b = stage.pair()
        binding = bind(a, b.thread)
        before = take(b), b.told()
        arrive(stage, binding)
        told = b.told()
        kept = len(stage.machine.open_descriptors())
        arrived, descriptors = take(b)

        family = a.environment.budget.family or 0
        who = traps.Identified(a.thread, a.environment.number, redirected=False, family=family)
        assert before == (((), 0), [])
        assert told == [(Label.BOUND, ())]
        assert (arrived, descriptors) == ((traps.Arrived(binding.token, who),), 3)
        assert (take(b), b.told(), len(stage.machine.open_descriptors())) == (((), 0), [], kept - 1)
        assert identified(b, binding.token) == (a.thread, a.environment.number)


def test_one_connection() -> None:
    """The end point of a binding takes one connection, and is nowhere to be found afterwards."""
    with theatre() as stage:
        a, b = stage.pair()
        binding = bind(a, b.thread)
        first, second = stage.machine.connect(binding.address), stage.machine.connect(binding.address)
        stage.settle()
        take(b)

        assert (first, second, stage.machine.connect(binding.address)) == (True, False, False)


def test_addresses_differ() -> None:
    """No two bindings have the same end point."""
    with theatre() as stage:
        a, b = stage.pair()

        assert len({bind(a, b.thread).address for _ in range(20)}) == 20


def test_a_flood_of_bindings_is_told_of_once() -> None:
    """A sender that binds and gives up in a loop makes the kernel tell the receiver once, until that has asked."""
    with theatre() as stage:
        a, b = stage.pair()
        for _ in range(50):
            binding = bind(a, b.thread)
            arrive(stage, binding)
            a.sys.unbind(binding.token)
        arrive(stage, bind(a, b.thread))
        told, (arrived, _) = b.told(), take(b)
        arrive(stage, bind(a, b.thread))

        assert (told, len(arrived)) == ([(Label.BOUND, ())], 1)
        assert b.told() == [(Label.BOUND, ())]


def test_many_are_handed_over_a_few_at_a_time() -> None:
    """More than a handful are handed over in several turns, oldest first; the receiver is told while some wait."""
    with theatre() as stage:
        a, b = stage.pair()
        bindings = [bind(a, b.thread) for _ in range(2 * MAX_INCOMING + 1)]
        arrive(stage, *bindings)
        turns = [(len(b.told()), [each.token for each in take(b)[0]]) for _ in range(4)]
        tokens = [binding.token for binding in bindings]

        assert turns == [
            (1, tokens[:MAX_INCOMING]),
            (1, tokens[MAX_INCOMING : 2 * MAX_INCOMING]),
            (1, tokens[2 * MAX_INCOMING :]),
            (0, []),
        ]


def test_what_fell_before_it_was_taken() -> None:
    """A binding that falls before its receiver asks is not handed over, and nothing of it is left."""
    with theatre() as stage:
        a, b = stage.pair()
        c = stage.puppet("c")
        before = len(stage.machine.open_descriptors())
        arrive(stage, bind(a, b.thread), bind(c, b.thread))
        stage.kill(a)
        c.sys.unbind(next(iter(c.environment.outgoing)))

        assert take(b) == ((), 0)
        assert (len(stage.machine.open_descriptors()), stage.machine.endpoints) == (before, {})


def test_a_full_gate_keeps_room_for_the_news() -> None:
    """However many messages of the kernel wait, that somebody is bound is among them: it is said once."""
    with theatre() as stage:
        a, b = stage.pair()
        for _ in range(2 * Item.UPCALLS.program):
            stage.kernel.exposure.tell(b.environment, Label.MOVED, (1,))
        arrive(stage, bind(a, b.thread))
        last = b.environment.backlog[-1]

        assert msgspec.msgpack.decode(last[1:])[1] == Label.BOUND


def none_left() -> NoReturn:
    raise Exhausted("none left")


def test_binds_are_traced() -> None:
    """A binding is counted and traced with its receiver."""
    with theatre() as stage:
        a, b = stage.pair()
        bound(a, b)
        trace = stage.kernel.exposure.trace
        last = [RECORD.unpack_from(trace._buffer, 4096 + n * RECORD.size) for n in range(trace._written)]

        assert [(r[3], r[4]) for r in last if r[1] == Event.BOUND] == [(a.environment.number, b.thread)]
        assert stage.kernel.kip.counter(Counter.BINDS) == 1

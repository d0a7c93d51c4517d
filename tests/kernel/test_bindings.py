"""Bindings: the right to send, checked once, and what becomes of it."""

from kernel.abi.errors import Refusal
from kernel.abi.events import RECORD, Event
from kernel.abi.ids import ANY_THREAD, thread_id, thread_number
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_BINDINGS
from kernel.abi.messages import Label
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre


def bound(a: Puppet, b: Puppet) -> bytes:
    """Bind a to b; return the token."""
    binding, ticket = a.sys.bind(b.thread)
    a.host.close_descriptor(ticket)
    return binding.token


def identified(b: Puppet, token: bytes) -> tuple[int, int]:
    who, ticket = b.sys.identify(token)
    b.host.close_descriptor(ticket)
    return who.thread, who.environment


def epoch(stage: Theatre) -> int:
    return stage.puppets[0].env.kip.epoch


def test_bind_and_identify() -> None:
    """The sender gets the receiver's number and a token, by which the receiver learns who it is."""
    with theatre() as stage:
        a, b = stage.pair()
        token = bound(a, b)

        assert identified(b, token) == (a.thread, a.environment.number)
        assert (len(token), token[0] > 0) == (16, True)


def test_both_ends_share_one_ticket() -> None:
    """What the sender posts into its ticket, the receiver takes from its own."""
    with theatre() as stage:
        a, b = stage.pair()
        binding, mine = a.sys.bind(b.thread)
        posted, taken = a.host.ticket(mine), b.host.ticket(b.sys.identify(binding.token)[1])
        posted.post(7)

        assert (taken.claim(), taken.claim(), posted.claim()) == (7, 0, 0)


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


def test_only_the_sender_unbinds() -> None:
    """The receiver cannot take a binding away."""
    with theatre() as stage:
        a, b = stage.pair()
        token = bound(a, b)

        assert refusal(b.sys.unbind, token) == Refusal.UNKNOWN_TOKEN


def test_a_dead_receiver() -> None:
    """When the receiver ends, its callers are told once each, and their bindings are gone."""
    with theatre() as stage:
        a, b = stage.pair()
        token = [bound(a, b) for _ in range(3)].pop()
        stage.kill(b)

        assert a.told() == [(Label.PARTNER_GONE, (b.thread,))]
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
        tokens = [bound(a, b) for _ in range(MAX_BINDINGS)]
        full = refusal(a.sys.bind, b.thread)
        a.sys.unbind(tokens[0])

        assert full == Refusal.TOO_MANY_BINDINGS
        assert bound(a, b)


def test_bound_to_oneself() -> None:
    """A thread may bind to itself; its end takes the binding once."""
    with theatre() as stage:
        a = stage.puppet()

        assert identified(a, bound(a, a))[0] == a.thread


def test_binds_are_traced() -> None:
    """A binding is counted and traced with its receiver."""
    with theatre() as stage:
        a, b = stage.pair()
        bound(a, b)
        trace = stage.kernel.trace
        last = [RECORD.unpack_from(trace._buffer, 4096 + n * RECORD.size) for n in range(trace._written)]

        assert [(r[3], r[4]) for r in last if r[1] == Event.BOUND] == [(a.environment.number, b.thread)]
        assert stage.kernel.kip.counter(Counter.BINDS) == 1

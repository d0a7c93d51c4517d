"""Scripts that the random exchanges found wrong once, shrunk: each shows one mistake of a rendezvous."""

import pytest

from libexo.transport.faulty import Odds
from tests.model.campaign import KINDS, judge
from tests.model.script import (
    ANY,
    INTENDED,
    LAST,
    NIL,
    Abort,
    Ipc,
    Kill,
    Operation,
    Redirect,
    Script,
    generate,
)

Threads = tuple[tuple[Operation, ...], ...]

SLEEP = 3_500
FOUND: dict[str, tuple[tuple[int, ...], Threads]] = {
    # An answer of no time to a caller that gave up, and waits for anybody now, is a message like any other.
    "answers the open wait of one that called before": (
        (0, 1),
        (
            (Ipc(1, 1, receive=5_000, payload=1), Ipc(NIL, ANY)),
            (Ipc(NIL, ANY), Ipc(NIL, 1, receive=8_000), Ipc(0, NIL, 0, payload=2)),
        ),
    ),
    # The partner of a call ended before it took the message: that is an error of the send phase.
    "a call that was never taken fails in its send phase": (
        (0, 1, 2),
        (
            (Ipc(1, 1, payload=1),),
            (Ipc(NIL, 1, receive=SLEEP), Ipc(NIL, 1)),
            (Ipc(NIL, 2, receive=5_000), Kill(1)),
        ),
    ),
    # An abort that comes when the message was taken is over with that operation.
    "an abort ends one operation and not the next": (
        (0, 0),
        ((Ipc(NIL, ANY), Abort(1)), (Ipc(0, NIL, payload=1), Ipc(0, NIL, payload=2))),
    ),
    # Hand to hand or by the inbox: one receive takes one message, the first.
    "an Lipc and another message": (
        (0, 0),
        ((Ipc(1, NIL, payload=3), Ipc(1, NIL, payload=4)), (Ipc(NIL, ANY),)),
    ),
    # What waits to be taken when its sender ends goes with it, also when it was looked at before.
    "a message of the dead": (
        (0, 1, 2),
        (
            (Ipc(NIL, 1, receive=32_000), Ipc(NIL, ANY, receive=5_000)),
            (Ipc(NIL, ANY, receive=12_000), Kill(2)),
            (Ipc(0, NIL, payload=1),),
        ),
    ),
    # The same, where it is looked at together with one that was withdrawn.
    "a message of the dead in a crowd": (
        (0, 1, 2, 3),
        (
            (Ipc(NIL, 1, receive=12_000), Ipc(NIL, ANY, receive=5_000)),
            (),
            (Ipc(0, NIL, 0, payload=1), Ipc(0, NIL, payload=2)),
            (Ipc(NIL, 3, receive=8_000), Kill(2)),
        ),
    ),
    # One that ended before its message went has put its ticket up: that is no reason to wait for it.
    "a receive of no time, and one that ended while it sent": (
        (0, 1, 2),
        (
            (Ipc(2, NIL, 5_000, payload=1),),
            (Ipc(NIL, 1, receive=0), Kill(0)),
            (Ipc(NIL, ANY, receive=0),),
        ),
    ),
    # A neighbour answers in the name of the caller's partner.
    "a call is answered in its partner's name": (
        (0, 1, 1),
        (
            (Ipc(1, 1, payload=1),),
            (Ipc(NIL, ANY),),
            (Ipc(NIL, 2, receive=SLEEP), Ipc(0, NIL, payload=2, virtual=1)),
        ),
    ),
    # A thread that answers a call itself, in a neighbour's name, is known as the actual sender only.
    "an answer in a neighbour's name": (
        (0, 1, 1),
        ((Ipc(1, 1, payload=1),), (Ipc(NIL, ANY), Ipc(0, NIL, payload=2, virtual=2)), ()),
    ),
    # A redirector is set while a message waits: its partner is alive, so that is no error.
    "a message waits while a redirector is set": (
        (0, 1, 2),
        ((Redirect(1, 2),), (Ipc(0, NIL, 12_000, payload=1),), ()),
    ),
    "a receive waits while a redirector is set": (
        (0, 1, 2),
        ((Redirect(1, 2),), (Ipc(NIL, 0, receive=12_000),), ()),
    ),
    # The redirector forwards a call in its sender's name: the caller awaits the answer of the intended receiver.
    "a redirected call is passed on": (
        (0, 1, 2),
        (
            (Redirect(1, 2), Ipc(NIL, ANY), Ipc(LAST, NIL, payload=4)),
            (Ipc(NIL, 1, receive=SLEEP), Ipc(0, 0, payload=1)),
            (Ipc(NIL, ANY), Ipc(INTENDED, NIL, 12_000, payload=2, virtual=LAST)),
        ),
    ),
    # A caller through a redirector awaits the redirector's answer: it is not ready for its partner's message.
    "a redirected call is no wait for whom it was meant for": (
        (0, 1, 2),
        (
            (Redirect(1, 2), Ipc(NIL, 0, receive=8_000), Ipc(1, NIL, 0, payload=2)),
            (Ipc(NIL, 1, receive=SLEEP), Ipc(0, 0, receive=32_000, payload=1)),
            (Ipc(NIL, ANY),),
        ),
    ),
    # It says where it sends, and its messages go elsewhere: no reason to wait for it either.
    "a receive of no time from a redirected thread": (
        (0, 1, 2),
        ((Ipc(1, NIL, payload=1),), (Ipc(NIL, 1, receive=SLEEP), Ipc(NIL, 0, receive=0)), (Redirect(0, 2),)),
    ),
    # The intended receiver has ended, so there is no thread that its sender may answer in another's name.
    "what a redirector gets that was meant for one that ended": (
        (0, 1, 1, 2),
        (
            (Ipc(NIL, 0, receive=SLEEP), Kill(0)),
            (
                Ipc(0, NIL, 0, payload=1),
                Ipc(NIL, 1, receive=8_000),
                Ipc(0, NIL, 12_000, payload=2, virtual=2),
            ),
            (),
            (Redirect(1, 3), Ipc(NIL, 3, receive=8_000), Ipc(NIL, 2, receive=12_000)),
        ),
    ),
    # A thread that waits for a redirector has sent nothing yet, and does not wait for a message either.
    "a send of no time to one that lacks a redirector": (
        (0, 1, 2),
        (
            (Ipc(NIL, 0, receive=8_000), Ipc(1, NIL, 0, payload=1)),
            (Ipc(NIL, 1, receive=SLEEP), Ipc(0, ANY, payload=2)),
            (Redirect(1, 2), Kill(2)),
        ),
    ),
    # It looks for another redirector, or that there is to be none, now and then.
    "a message that lacked a redirector goes after all": (
        (0, 1, 2),
        (
            (Ipc(NIL, 0, receive=20_000), Redirect(1, NIL), Ipc(NIL, ANY, receive=12_000)),
            (Ipc(NIL, 1, receive=SLEEP), Ipc(0, NIL, payload=1)),
            (Redirect(1, 2), Kill(2)),
        ),
    ),
    # A thread without a redirector waits for one only as long as its message has a receiver.
    "a message that lacks a redirector, and its receiver ends": (
        (0, 1, 2, 3),
        (
            (),
            (Ipc(NIL, 1, receive=SLEEP), Ipc(0, NIL, payload=1)),
            (Redirect(1, 2), Kill(2)),
            (Ipc(NIL, 3, receive=20_000), Kill(0)),
        ),
    ),
    # With the redirector, the last that could have taken it is gone.
    "a message for one that ended, and its redirector ends": (
        (0, 1, 2),
        (
            (),
            (
                *(Ipc(NIL, 1, receive=SLEEP), Ipc(0, NIL, 0, payload=1)),
                *(Ipc(NIL, 1, receive=8_000), Ipc(0, NIL, payload=2)),
            ),
            (Redirect(1, 2), Ipc(NIL, 2, receive=8_000), Kill(0), Ipc(NIL, 2, receive=20_000), Kill(2)),
        ),
    ),
    # Nobody tells a redirected thread of its partner's end: it finds out by looking, now and then.
    "a redirected call, and its partner ends": (
        (0, 1, 2),
        (
            (Ipc(NIL, ANY), Redirect(1, 2), Ipc(2, NIL, 0, payload=3), Kill(0)),
            (Ipc(0, 0, payload=1),),
            (),
        ),
    ),
    # A thread that begins to receive finds one message and is sent another: across bindings there is no order.
    "two messages for one that begins to receive": (
        (0, 1, 2),
        (
            (Ipc(NIL, ANY), Ipc(NIL, ANY, receive=5_000), Ipc(1, ANY, payload=1)),
            (Ipc(0, NIL, payload=2), Ipc(NIL, 1, receive=8_000), Ipc(NIL, 0), Ipc(0, NIL, payload=3)),
            (Ipc(NIL, 2, receive=SLEEP), Ipc(NIL, 2, receive=SLEEP), Ipc(0, NIL, payload=4)),
        ),
    ),
    # A redirector that calls one of its own gets what that one sends to others.
    "a redirector in a call gets what its partner sends": (
        (0, 1, 2),
        (
            (Redirect(0, 2), Ipc(NIL, ANY), Ipc(1, NIL, payload=2)),
            (),
            (Ipc(NIL, 2, receive=SLEEP), Ipc(0, 0, payload=1)),
        ),
    ),
    # A message that was withdrawn is still seen, but is no reason to wait for its sender instead of an answer.
    "a call is not overtaken by what was withdrawn": (
        (0, 0, 1),
        (
            (
                Ipc(2, NIL, 0, payload=4),
                Ipc(NIL, ANY),
                Ipc(NIL, 0, receive=SLEEP),
                Ipc(1, NIL, 12_000, payload=7, virtual=2),
                Ipc(2, NIL, 5_000, payload=8),
            ),
            (Ipc(NIL, ANY),),
            (Ipc(0, 0, receive=32_000, payload=73),),
        ),
    ),
    # An aborted call has its ticket, and a fall after that fails in the phase it was aborted in.
    "a call is aborted when its way changes": (
        (0, 0, 1, 2),
        (
            (Ipc(2, 2, receive=5_000, payload=23),),
            (Ipc(NIL, 1, receive=SLEEP), Redirect(0, 3), Abort(0)),
            (),
            (),
        ),
    ),
    # A caller that could not be turned waits for its answer where it did, under its own name.
    "a turn that failed is taken back": (
        (0, 0, 0),
        (
            (Ipc(1, 1, receive=32_000, payload=4, virtual=2),),
            (
                Ipc(NIL, ANY),
                Ipc(2, NIL, 5_000, payload=24, virtual=0),
                Ipc(2, NIL, 5_000, payload=25),
            ),
            (),
        ),
    ),
    # A message that was withdrawn takes no turn: the next of its sender comes in its place.
    "who gave up before has its turn all the same": (
        (0, 1, 2),
        (
            (
                *(Ipc(1, NIL, 32_000, payload=1), Ipc(NIL, ANY), Ipc(1, NIL, 5_000, payload=2)),
                *(Ipc(NIL, ANY), Ipc(1, NIL, 5_000, payload=3), Ipc(NIL, ANY)),
            ),
            (Ipc(0, NIL, 5_000, payload=4), Ipc(0, NIL, 5_000, payload=5), Ipc(0, NIL, payload=7)),
            (
                *(Ipc(NIL, 2, receive=20_000), Ipc(0, NIL, payload=8)),
                *(Ipc(0, NIL, payload=10), Ipc(0, NIL, payload=11)),
            ),
        ),
    ),
    # Who is to confirm that it waits for another ended this moment: that keeps nobody beyond its time.
    "the caller in whose name a message is passed on ends": (
        (0, 1, 1),
        (
            (Ipc(1, 1, payload=1),),
            (Ipc(NIL, ANY), Ipc(NIL, 1, receive=SLEEP), Ipc(2, NIL, 5_000, payload=2, virtual=0)),
            (Ipc(NIL, 2, receive=SLEEP), Kill(0), Ipc(NIL, ANY, receive=12_000)),
        ),
    ),
}
ORDERS = 8
DELAYED: dict[str, tuple[tuple[int, ...], Threads]] = {
    # The caller's way falls while its answer is on it: the answerer was told that it arrived.
    "an answer is on its way when that falls": (
        (0, 1, 2),
        (
            (Ipc(NIL, ANY), Ipc(1, NIL, payload=2), Redirect(1, 2)),
            (Ipc(0, 0, receive=32_000, payload=1),),
            (),
        ),
    ),
}
"""Those that need messages that are held back on their way."""
NATIVE: dict[str, tuple[tuple[int, ...], Threads]] = {
    # Nothing was sent, so that the partner is gone is an error of the receive phase.
    "a closed receive from one that ended before": (
        (0, 1),
        ((Ipc(NIL, 1, receive=SLEEP), Ipc(NIL, 1)), (Kill(1),)),
    ),
    # The taker of the call waits for others now: that is no reason to hold on to a call whose time is over.
    "a call of no time that is taken and not answered": (
        (0, 1),
        ((Ipc(1, 1, 0, 0, payload=1),), (Ipc(NIL, ANY), Ipc(NIL, ANY))),
    ),
    # Turned to another and back, a call waits for its answer alone: what others send does not keep it awake.
    "a call is turned back, and another sends to its caller": (
        (0, 1, 1, 2),
        (
            (Ipc(1, 1, payload=1),),
            (Ipc(NIL, ANY), Ipc(2, NIL, 5_000, payload=2, virtual=0)),
            (),
            (Ipc(NIL, 3, receive=SLEEP), Ipc(0, NIL, 5_000, payload=4), Ipc(0, NIL, 5_000, payload=5)),
        ),
    ),
}
"""Those of threads that use `libexo.ipc`."""

WHOLE = {
    # When a call was turned back is known to a millisecond only, and what came right after it is as soon as that.
    "a call is turned back, answered, and the next times out": (9100538, "redirected"),
}
"""Those that were not to be had shorter: a seed, and what the script holds."""


@pytest.mark.parametrize("name", FOUND)
def test_it_follows_from_the_model_now(name: str) -> None:
    """In each of some orders, the script does what X.2 says."""
    environments, threads = FOUND[name]

    assert [judge(Script(environments, threads, seed)) for seed in range(ORDERS)] == [None] * ORDERS


@pytest.mark.parametrize("name", DELAYED)
def test_it_follows_from_the_model_with_delays(name: str) -> None:
    """In each of some orders, with each other message held back for a moment."""
    environments, threads = DELAYED[name]
    odds = Odds(delay=1 / 2)

    assert [judge(Script(environments, threads, seed, odds)) for seed in range(ORDERS)] == [None] * ORDERS


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("native", [(0,), (0, 1)])
def test_it_follows_from_the_model_natively(name: str, native: tuple[int, ...]) -> None:
    """In each of some orders, where the caller uses `libexo.ipc`, and where both do."""
    environments, threads = NATIVE[name]

    assert [judge(Script(environments, threads, seed, native=native)) for seed in range(ORDERS)] == [
        None
    ] * ORDERS


@pytest.mark.parametrize("name", WHOLE)
def test_it_follows_from_the_model_as_a_whole(name: str) -> None:
    """The script as it was drawn does what X.2 says."""
    seed, kind = WHOLE[name]

    assert judge(generate(seed, taste=KINDS[kind])) is None

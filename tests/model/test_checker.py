"""The checker accepts what X.2 allows, and nothing else: by hand, a history a line; then against broken kernels."""

from dataclasses import replace

import pytest

from kernel.abi.messages import IpcCode, Phase
from tests.model.checker import check
from tests.model.history import (
    MILLISECOND,
    REFUSED,
    WAS_RECEIVING,
    WAS_SENDING,
    Completed,
    Ended,
    Event,
    History,
    Invoked,
    Outcome,
    error_name,
    error_word,
)
from tests.model.mutants import MUTANTS, IgnoresRedirectors
from tests.model.script import ANY, LOCAL, NEVER, NIL, Abort, Ipc, Operation, Redirect, Taste, generate
from tests.model.shrinking import shrink
from tests.model.toy import Toy

SPACES = (0, 0, 1, 2)
"""Threads 0 and 1 share an environment."""
SHORT = 5_000
OK = Outcome()
SEND_TIMEOUT, RECEIVE_TIMEOUT = (Outcome(error_word(IpcCode.TIMEOUT, phase)) for phase in Phase)
SEND_CANCELLED, RECEIVE_CANCELLED = (Outcome(error_word(IpcCode.CANCELLED, phase)) for phase in Phase)
NOBODY_TO_SEND, NOBODY_TO_RECEIVE = (Outcome(error_word(IpcCode.NO_PARTNER, phase)) for phase in Phase)

Line = tuple[float, int, Operation | Outcome | None]
"""Milliseconds, thread, and what it began, how that ended, or that it ended itself (None)."""


def send(to: int, payload: int = 1, send: int = NEVER, *, virtual: int = NIL) -> Ipc:
    return Ipc(to, NIL, send, payload=payload, virtual=virtual)


def call(to: int, payload: int = 1, receive: int = NEVER) -> Ipc:
    return Ipc(to, to, receive=receive, payload=payload)


def receive(sender: int = ANY, receive: int = NEVER) -> Ipc:
    return Ipc(NIL, sender, receive=receive)


def got(sender: int, payload: int = 1, *, actual: int = NIL, intended: int = NIL) -> Outcome:
    return Outcome(0, sender, payload, actual, intended)


def history(*lines: Line) -> History:
    events: list[Event] = []
    for at, thread, what in lines:
        time = int(at * MILLISECOND)
        if what is None:
            events.append(Ended(time, (thread,)))
        elif isinstance(what, Outcome):
            events.append(Completed(time, thread, what))
        else:
            events.append(Invoked(time, thread, what))
    return History(SPACES, events)


SENT_AND_TAKEN: tuple[Line, ...] = ((0, 2, receive()), (1, 0, send(2)), (1, 2, got(0)), (1, 0, OK))

GOOD: dict[str, tuple[Line, ...]] = {
    "a message is sent and taken": SENT_AND_TAKEN,
    "a message waits, and is taken": ((0, 0, send(2)), (9, 2, receive()), (9, 0, OK), (9, 2, got(0))),
    "a sender that waits for ever": ((0, 0, send(2)),),
    "a call and its answer": (
        *((0, 2, receive()), (1, 0, call(2)), (1, 2, got(0)), (2, 2, send(0, 2, 0))),
        *((2, 2, OK), (2, 0, got(2, 2))),
    ),
    "first come, first served": (
        *((0, 0, send(2, 1)), (2, 3, send(2, 2)), (4, 2, receive()), (4, 2, got(0, 1)), (4, 0, OK)),
        *((5, 2, receive()), (5, 2, got(3, 2)), (5, 3, OK)),
    ),
    "each party in its turn": (
        *((0, 3, send(2, 1)), (2, 0, send(2, 2)), (4, 2, receive()), (4, 2, got(0, 2)), (4, 0, OK)),
        *((5, 0, send(2, 3)), (7, 2, receive()), (7, 2, got(3, 1)), (7, 3, OK)),
    ),
    "a send times out": ((0, 0, send(2, 1, SHORT)), (5, 0, SEND_TIMEOUT)),
    "a send of no time waits for a partner to wake": ((0, 0, send(2, 1, 0)), (2, 0, SEND_TIMEOUT)),
    "a receive times out": ((0, 0, receive(ANY, SHORT)), (5, 0, RECEIVE_TIMEOUT)),
    "a sleep": ((0, 0, receive(0, SHORT)), (5, 0, RECEIVE_TIMEOUT)),
    "the receive time begins when the message was taken": (
        *((0, 0, call(2, 1, SHORT)), (20, 2, receive()), (20, 2, got(0)), (25, 0, RECEIVE_TIMEOUT)),
    ),
    "a partner that ended": ((0, 2, None), (2, 0, send(2)), (2, 0, NOBODY_TO_SEND)),
    "a partner that ends meanwhile": ((0, 0, receive(2)), (2, 2, None), (2, 0, NOBODY_TO_RECEIVE)),
    "nobody sends to itself": ((0, 0, send(0)), (0, 0, NOBODY_TO_SEND)),
    "a send is aborted": (
        *((0, 0, send(2)), (2, 1, Abort(0)), (2, 1, Outcome(control=WAS_SENDING)), (2, 0, SEND_CANCELLED)),
    ),
    "a receive is aborted": (
        *((0, 0, receive()), (2, 1, Abort(0, send=False)), (2, 1, Outcome(control=WAS_RECEIVING))),
        (2, 0, RECEIVE_CANCELLED),
    ),
    "an abort of the other phase only looks": (
        *((0, 0, receive()), (2, 1, Abort(0, receive=False)), (2, 1, Outcome(control=WAS_RECEIVING))),
    ),
    "strangers are not aborted": ((0, 0, Abort(2)), (0, 0, Outcome(control=REFUSED))),
    "a wait for one's own": (
        *((0, 0, receive(LOCAL)), (1, 2, send(0, 1)), (2, 1, send(0, 2)), (2, 0, got(1, 2)), (2, 1, OK)),
    ),
    "a neighbour's name": (
        *((0, 2, receive(1)), (1, 0, send(2, 1, virtual=1)), (1, 2, got(1, 1, actual=0)), (1, 0, OK)),
    ),
    "a stranger's name is dropped": (
        *((0, 2, receive()), (1, 0, send(2, 1, virtual=3)), (1, 2, got(0)), (1, 0, OK)),
    ),
    "a propagated call is answered by whom it was passed on to": (
        *((0, 0, receive()), (0, 2, receive()), (1, 1, call(0, 1)), (1, 0, got(1, 1))),
        *((2, 0, send(2, 2, virtual=1)), (2, 0, OK), (2, 2, got(1, 2, actual=0)), (3, 2, send(1, 3, 0))),
        *((3, 2, OK), (3, 1, got(2, 3))),
    ),
    "a redirected message": (
        *((0, 3, Redirect(0, 2)), (0, 3, OK), (4, 2, receive()), (5, 0, send(3)), (5, 0, OK)),
        (5, 2, got(0, 1, intended=3)),
    ),
    "neighbours are not redirected": (
        *((0, 3, Redirect(0, 2)), (0, 3, OK), (4, 1, receive()), (5, 0, send(1)), (5, 0, OK), (5, 1, got(0))),
    ),
}

BAD: dict[str, tuple[Line, ...]] = {
    "delivered twice": (*SENT_AND_TAKEN, (2, 3, receive()), (2, 3, got(0))),
    "made up": ((0, 2, receive()), (0, 2, got(0, 7))),
    "another message than was sent": (
        *((0, 3, send(1, 9)), (0, 2, receive()), (1, 0, send(2)), (1, 2, got(0, 9)), (1, 0, OK)),
    ),
    "lost": ((0, 2, receive()), (1, 0, send(2)), (1, 0, OK)),
    "buffered: over before it was taken": (
        *((0, 0, send(2)), (0, 0, OK), (9, 2, receive()), (9, 2, got(0))),
    ),
    "two wait for each other for ever": ((0, 2, receive()), (1, 0, send(2))),
    "taken, but the sender never returns": SENT_AND_TAKEN[:3],
    "delivered after its time": (
        *((0, 0, send(2, 1, SHORT)), (5, 0, SEND_TIMEOUT), (9, 2, receive()), (9, 2, got(0))),
    ),
    "delivered though it was cancelled": (
        *((0, 0, send(2)), (2, 1, Abort(0)), (2, 1, Outcome(control=WAS_SENDING)), (2, 0, SEND_CANCELLED)),
        *((9, 2, receive()), (9, 2, got(0))),
    ),
    "passed by again and again": (
        *((0, 3, send(2, 1)), (2, 0, send(2, 2)), (4, 2, receive()), (4, 2, got(0, 2)), (4, 0, OK)),
        *((5, 0, send(2, 3)), (7, 2, receive()), (7, 2, got(0, 3)), (7, 0, OK)),
    ),
    "too early": ((0, 0, send(2, 1, SHORT)), (4, 0, SEND_TIMEOUT)),
    "too late": ((0, 0, send(2, 1, SHORT)), (15, 0, SEND_TIMEOUT)),
    "never over": ((0, 0, receive(ANY, SHORT)),),
    "timed out though the partner was ready": (
        *((0, 2, receive()), (1, 0, send(2, 1, SHORT)), (6, 0, SEND_TIMEOUT)),
    ),
    "an answer misses its caller": (
        *((0, 2, receive()), (1, 0, call(2)), (1, 2, got(0)), (2, 2, send(0, 2, 0)), (4, 2, SEND_TIMEOUT)),
    ),
    "the wrong phase": ((0, 0, receive(ANY, SHORT)), (5, 0, SEND_TIMEOUT)),
    "the receive time began before the message was taken": (
        *((0, 0, call(2, 1, SHORT)), (20, 2, receive()), (20, 2, got(0)), (21, 0, RECEIVE_TIMEOUT)),
    ),
    "nobody, but the partner lives": ((0, 0, send(2)), (1, 0, NOBODY_TO_SEND)),
    "waiting for one that ended": ((0, 0, receive(2)), (2, 2, None)),
    "timed out on one that ended": (*((0, 2, None), (4, 0, receive(2, SHORT)), (9, 0, RECEIVE_TIMEOUT)),),
    "a message of one that ended": (*((0, 0, send(2)), (1, 0, None), (9, 2, receive()), (9, 2, got(0))),),
    "from somebody else": (*((0, 2, receive()), (1, 0, send(2)), (1, 2, got(3)), (1, 0, OK)),),
    "not from whom it waited for": (*((0, 2, receive(3)), (1, 0, send(2)), (1, 2, got(0)), (1, 0, OK)),),
    "not one's own": ((0, 0, receive(LOCAL)), (1, 2, send(0)), (1, 0, got(2)), (1, 2, OK)),
    "cancelled by nobody": ((0, 0, receive()), (1, 0, RECEIVE_CANCELLED)),
    "an abort without effect": (*((0, 0, send(2)), (2, 1, Abort(0)), (2, 1, Outcome(control=WAS_SENDING))),),
    "an abort of the wrong phase": (
        *((0, 0, receive()), (2, 1, Abort(0, receive=False)), (2, 1, Outcome(control=WAS_RECEIVING))),
        (2, 0, RECEIVE_CANCELLED),
    ),
    "an abort that saw what was not so": (
        *((0, 0, receive()), (2, 1, Abort(0)), (2, 1, OK), (2, 0, RECEIVE_CANCELLED)),
    ),
    "a stranger is aborted": ((0, 2, receive()), (1, 0, Abort(2)), (1, 0, Outcome(control=WAS_RECEIVING))),
    "a stranger's name": (
        *((0, 2, receive()), (1, 0, send(2, 1, virtual=3)), (1, 2, got(3, 1, actual=0)), (1, 0, OK)),
    ),
    "the name is lost": ((0, 2, receive()), (1, 0, send(2, 1, virtual=1)), (1, 2, got(0)), (1, 0, OK)),
    "a propagated call is not turned": (
        *((0, 0, receive()), (0, 1, receive()), (1, 2, call(0, 1)), (1, 0, got(2, 1))),
        *((2, 0, send(1, 2, virtual=2)), (2, 0, OK), (2, 1, got(2, 2, actual=0)), (3, 1, send(2, 3, SHORT))),
        (8, 1, SEND_TIMEOUT),
    ),
    "past the redirector": (
        *((0, 1, Redirect(0, 2)), (0, 1, OK), (4, 3, receive()), (5, 0, send(3)), (5, 3, got(0)), (5, 0, OK)),
    ),
    "received although nothing was sent": (
        *((0, 0, Ipc(2, 3, SHORT, NEVER, 1)), (1, 3, send(0, 2)), (6, 0, got(3, 2)), (6, 3, OK)),
    ),
    "two operations at once": ((0, 0, receive()), (1, 0, receive())),
    "an end without a beginning": ((0, 0, OK),),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_x2_allows_is_accepted(name: str) -> None:
    """The history follows from the model."""
    assert str(check(history(*GOOD[name]))) == "None"


@pytest.mark.parametrize("name", BAD)
def test_what_x2_forbids_is_refuted(name: str) -> None:
    """No execution of the model looks like this history."""
    assert check(history(*BAD[name])) is not None


def test_a_violation_shows_the_events_before_it() -> None:
    """The printed text ends with the impossible event, under the reason."""
    text = str(check(history(*BAD["the wrong phase"])))

    assert "this cannot be" in text
    assert text.splitlines()[-1].endswith("TIMEOUT in the send phase")


def test_every_error_is_known() -> None:
    """Every error word that a thread can return with has a name, of its code and its phase."""
    names = {error_name(error_word(code, phase)) for code in IpcCode for phase in Phase}

    assert len(names) == len(IpcCode) * len(Phase)


def test_a_run_that_was_stopped_owes_what_was_due() -> None:
    """A message lost at the end may still arrive in a run that was stopped at once, and not in a later one."""
    pending = history(*BAD["two wait for each other for ever"])
    stopped = pending.events[-1].time

    assert check(replace(pending, settled=False, stopped=stopped)) is None
    assert check(replace(pending, settled=False, stopped=stopped + 10 * MILLISECOND)) is not None


def test_delays_are_allowed_where_messages_are_delayed() -> None:
    """Under a delaying transport a message may overtake another, and a ready partner may be missed; not more."""
    for name in ("passed by again and again", "timed out though the partner was ready"):
        assert check(History(SPACES, history(*BAD[name]).events, delays=True)) is None
    for name in ("delivered twice", "delivered after its time", "the wrong phase", "too early"):
        assert check(History(SPACES, history(*BAD[name]).events, delays=True)) is not None


def test_a_cut_message_accounts_for_one_loss() -> None:
    """With one message cut, one sender may wait for ever though its receiver waits; not two."""
    once = history(*BAD["two wait for each other for ever"]).events
    twice = [*once, *history((2, 3, receive()), (3, 1, send(3, 2))).events]

    assert check(History(SPACES, once, cuts=1)) is None
    assert check(History(SPACES, twice, cuts=1)) is not None
    assert check(History(SPACES, twice, cuts=2)) is None


# ------------------------------------------------------------------------------------------- toys and mutants

SCRIPTS = 60
"""As many scripts of 25 operations a thread find every mutant."""
TASTE = Taste(redirection=0.5)


def test_a_right_kernel_is_accepted(seed: int) -> None:
    """Random scripts on a kernel written apart from the model: no history of it is refuted."""
    for number in range(SCRIPTS):
        violation = check(Toy(generate(seed + number, taste=TASTE)).run())
        assert violation is None, f"seed {seed + number}: {violation}"


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_kernel_is_found_and_the_script_shrunk(mutant: type[Toy]) -> None:
    """Every mutant is refuted by one of the first scripts, and a few operations are enough to show it."""
    taste = Taste(redirection=1.0) if mutant is IgnoresRedirectors else Taste()
    scripts = (generate(seed, taste=taste) for seed in range(SCRIPTS))
    found = next((script for script in scripts if check(mutant(script).run())), None)

    assert found is not None
    smallest = shrink(found, lambda script: check(mutant(script).run()) is not None)
    assert check(mutant(smallest).run()) is not None
    assert smallest.steps <= 8

"""The checker: a history is refuted when it does not follow from the model, or a law of conservation is broken.

The model is nondeterministic, a history is one execution seen from outside. All states the model could be in are
followed along the history at once; when an event leaves none, no execution of the model looks like this history.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kernel.abi.messages import IpcCode
from tests.model.history import MILLISECOND, Completed, Ended, Event, History, Invoked, error_name
from tests.model.rendezvous import begin, complete, end, overstays, steps
from tests.model.script import ANY, LOCAL, NIL, Ipc
from tests.model.states import DONE, FOREVER, LATENCY, QUEUE_SLACK, RECEIVING, SENDING, State, World

DELAY = MILLISECOND
"""The longest that a delaying transport holds one message back."""
HOPS = 6
"""How many messages, each of them delayed, one step may need."""
END = FOREVER - 1
"""After everything that ever happens by itself."""
TAIL = 40
"""How many events of a refuted history are shown."""
SHOWN = 6
"""How many possibilities are shown."""
MOST_STATES = 50_000
"""More possibilities than that at one event mean that the model, not the history, is at fault."""
_UNTAKEN = (IpcCode.TIMEOUT, IpcCode.CANCELLED, IpcCode.NO_PARTNER)
"""Errors of the send phase that say that the message was not taken, whatever is lost on its way."""
_NAMES = {ANY: "anybody", LOCAL: "anybody of its environment"}


@dataclass(frozen=True)
class Violation:
    """Why a history is refuted."""

    why: str
    at: int
    """The index of the event that cannot be; the number of events if it is the end."""
    history: History

    def __str__(self) -> str:
        """Show the events up to the one that cannot be."""
        first = max(0, self.at + 1 - TAIL)
        lines = [f"  {event}" for event in self.history.events[first : self.at + 1]]
        head = [f"  ... {first} events before"] if first else []
        return "\n".join([self.why, f"  environments {self.history.environments}", *head, *lines])


def check(history: History) -> Violation | None:
    """Return why *history* cannot be, or None."""
    return conservation(history) or refute(history)


# ------------------------------------------------------------------------------------------------- the model


def refute(history: History) -> Violation | None:
    """Follow the model along *history*; return where it is left without a state."""
    latency = LATENCY + (HOPS * DELAY if history.delays else 0)
    world = World(history.environments, [], latency, QUEUE_SLACK, not history.delays, history.cuts)
    states = {world.start()}
    calls: dict[int, int] = {}
    for index, event in enumerate(history.events):
        before = closure(world, states, event.time)
        if not before:
            return Violation(f"something was due before this: {_overdue(states)}", index, history)
        states = set(_observe(world, before, event, calls))
        if not states:
            return Violation(f"this cannot be: {event}{_instead(before, event)}", index, history)
    if not closure(world, states, END if history.settled else history.stopped):
        return Violation(f"at the end: {_overdue(states)}", len(history.events), history)
    return None


def closure(world: World, states: Iterable[State], now: int) -> set[State]:
    """Return every state that internal steps lead to by *now*, without those in which something is overdue.

    From a state in which something is overdue, what was possible before that may have happened.
    """
    found = set(states)
    todo = list(found)
    kept: set[State] = set()
    while todo:
        state = todo.pop()
        possible = list(steps(world, state, now))
        due = min((step.due for step in possible), default=FOREVER)
        due = min(due, overstays(world, state))
        for step in possible:
            if step.ready <= due and step.state not in found:
                found.add(step.state)
                todo.append(step.state)
        if now <= due:
            kept.add(state)
        if len(found) > MOST_STATES:
            raise OverflowError(f"more than {MOST_STATES} possibilities at {now}")
    return kept


def _observe(world: World, states: set[State], event: Event, calls: dict[int, int]) -> Iterator[State]:
    """Yield the states that *event* leads to; the operation that an Invoked begins is written down."""
    if isinstance(event, Invoked):
        world.calls.append(event.operation)
        call = len(world.calls) - 1
        for state in states:
            yield from begin(world, state, event.thread, call, event.time)
    elif isinstance(event, Ended):
        yield from (end(state, event.threads, event.time) for state in states)
    else:
        after = (complete(world, state, event.thread, event.outcome) for state in states)
        yield from (state for state in after if state is not None)


def describe(state: State, thread: int) -> str:
    """Say where *thread* is in *state*."""
    place = state.places[thread]
    if place.kind == SENDING:
        return f"sending to {place.partner}"
    if place.kind == RECEIVING:
        return f"receiving from {_NAMES.get(place.partner, place.partner)}"
    if place.kind == DONE:
        return f"to return: {place.outcome}"
    return ("idle", "", "", "", "dead", "about to act")[place.kind]


def _instead(states: set[State], event: Event) -> str:
    """Say what the thread of *event* could be doing."""
    if isinstance(event, Ended):
        return ""
    seen = sorted({describe(state, event.thread) for state in states})
    return f"\n  (thread {event.thread} can be: {'; '.join(seen[:SHOWN])})"


def _overdue(states: set[State]) -> str:
    """Say where everybody is in one of *states*."""
    state = min(states)
    return "; ".join(f"{thread} {describe(state, thread)}" for thread in range(len(state.places)))


# ------------------------------------------------------------------------------------------------ conservation


def conservation(history: History) -> Violation | None:
    """Check what needs no model: no message is made up, doubled, lost without an error, or kept after one."""
    sent: dict[int, int] = {}
    """Of each message, the index of the event with which its sending ended; of those under way, -1."""
    began: dict[int, Ipc] = {}
    taken: Counter[int] = Counter()
    kept: set[int] = set()
    """Those that are never withdrawn."""
    for index, event in enumerate(history.events):
        if isinstance(event, Invoked) and isinstance(event.operation, Ipc):
            began[event.thread] = event.operation
            if event.operation.to != NIL:
                sent[event.operation.payload] = -1
                if event.operation.is_kept:
                    kept.add(event.operation.payload)
        elif isinstance(event, Completed) and event.thread in began:
            operation = began.pop(event.thread)
            if operation.to != NIL:
                sent[operation.payload] = index
            if payload := event.outcome.payload:
                taken[payload] += 1
                if payload not in sent:
                    return Violation(f"message {payload} was never sent", index, history)
                if taken[payload] > 1:
                    return Violation(f"message {payload} was delivered twice", index, history)
    for payload, index in sent.items():
        event = history.events[index]
        if index < 0 or not isinstance(event, Completed):
            continue
        if why := _unlawful(history, event.outcome.error, taken[payload], is_kept=payload in kept):
            return Violation(f"message {payload} {why}", index, history)
    return None


def _unlawful(history: History, error: int, taken: int, *, is_kept: bool) -> str:
    """Say what is wrong when a message whose sending ended with *error* was *taken* so often.

    Of one that *is kept*, and cannot be withdrawn, it is not known whether one that is gone had taken it.
    """
    if is_kept and error >> 1 == IpcCode.NO_PARTNER:
        return ""
    if error & 1 or not error:  # in the receive phase, or not at all: it arrived, perhaps at one that ended
        ended = any(isinstance(event, Ended) for event in history.events)
        lost = not taken and not ended and history.settled and not history.cuts
        return "was lost, although its sender was told that it arrived" if lost else ""
    never = error >> 1 in _UNTAKEN or not (history.delays or history.cuts)
    return f"was delivered after its sender was told: {error_name(error)}" if taken and never else ""

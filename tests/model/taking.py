"""The next message of a receiver: accepted senders, permitted names, and turns."""

from collections.abc import Iterator

from tests.model.routes import answers
from tests.model.script import ANY, LOCAL, NIL
from tests.model.states import ANSWERS_FIRST, DEAD, LOST, SENDING, State, World, put


def accepts(world: World, state: State, receiver: int, sender: int, virtual: int) -> bool:
    """Say whether *receiver* takes a message of *sender*, sent in the name of *virtual*.

    A native caller takes only the answer, unless it is turned; in X.2, any message of its partner. A thread that
    natively calls one that waits for an answer does not answer it.
    """
    place = state.places[receiver]
    operation, source = world.ipc(place), place.partner
    if operation.native and operation.to == source:
        its = world.ipc(state.places[sender])
        return sender == source and not (its.native and its.is_call)
    if source == LOCAL:
        return world.environments[sender] == world.environments[receiver]
    return source in (ANY, sender) or source == virtual != NIL


def earlier(world: World, state: State, thread: int) -> Iterator[int]:
    """Yield whose messages its receiver would take, and were sent clearly before that of *thread*."""
    place = state.places[thread]
    if ANSWERS_FIRST and answers(world, state, thread, place.partner):
        return
    receiver, limit = place.partner, place.since - world.slack
    for other, its in enumerate(state.places):
        if (
            its.kind == SENDING
            and its.partner == receiver
            and its.since < limit
            and its.hears != LOST
            and other != thread
            and all(accepts(world, state, receiver, other, v) for v in names(world, state, other))
        ):
            yield other


def may_pass(world: World, state: State, thread: int, other: int) -> bool:
    """Say whether the message of *thread* may be taken before that of *other*, which came first.

    Parties take turns, one message each, and within its turn a party's threads do. A party is an environment here.
    So a waiting message is passed by each other thread once for each thread of its own environment.
    """
    turns = world.environments.count(world.environments[other])
    return state.places[other].passed.count(thread) < turns


def passed(state: State, thread: int, others: tuple[int, ...]) -> State:
    """Return *state* in which *thread* was before *others*."""
    for other in others:
        its = state.places[other]
        if its.kind == SENDING:
            state = put(state, other, its._replace(passed=tuple(sorted((*its.passed, thread)))))
    return state


def names(world: World, state: State, thread: int) -> Iterator[int]:
    """Yield in whose name the message of *thread* may go: NIL for its own, where propagation is not allowed.

    What is meant for one that ended, and goes to a redirector, is for nobody any more, and goes in its own name.
    """
    place = state.places[thread]
    virtual = world.ipc(place).virtual
    if virtual < 0:
        yield NIL
        return
    homes = world.environments
    name = state.places[virtual]
    near = homes[thread] in (homes[virtual], homes[place.partner])
    allowed = near or state.redirectors[homes[virtual]][0] == thread
    changed = not near and _regime(world, state, thread)
    alive = name.kind != DEAD or name.since + world.latency >= place.since
    if alive and (allowed or changed):
        yield virtual
    meant = state.places[world.ipc(place).to]
    if not allowed or changed or DEAD in (name.kind, meant.kind):
        yield NIL


def _regime(world: World, state: State, thread: int) -> bool:
    """Say whether the redirector of the virtual sender of *thread* changed since its message was sent.

    It may be judged by what was so then, or by what is now.
    """
    place = state.places[thread]
    now, since, before = state.redirectors[world.environments[world.ipc(place).virtual]]
    return since + world.latency >= place.since and thread in (before, now)

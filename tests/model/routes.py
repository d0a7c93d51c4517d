"""Routes of messages: to the receiver, or the redirector of the sender's environment, as the model sees it."""

from collections.abc import Iterator

from tests.model.script import NIL
from tests.model.states import RECEIVING, State, World


def destinations(world: World, state: State, thread: int, to: int, now: int) -> Iterator[int]:
    """Yield whom a message of *thread* for *to* goes to; just after that changed, both.

    The answer to a call goes to its caller, redirector or not: it is part of the caller's message exchange. X.2
    redirects it; here it travels over the caller's binding.
    """
    redirector, since, before = state.redirectors[world.environments[thread]]
    there = to if answers(world, state, thread, to) else route(world, thread, to, redirector)
    yield there
    if now <= since + world.latency and (other := route(world, thread, to, before)) != there:
        yield other


def answers(world: World, state: State, thread: int, to: int) -> bool:
    """Say whether *to* called *thread*, and waits for its answer."""
    if to < 0 or state.places[to].kind != RECEIVING or state.places[to].partner != thread:
        return False
    return world.ipc(state.places[to]).to == thread


def route(world: World, thread: int, to: int, redirector: int) -> int:
    """Return whom a message of *thread* for *to* goes to, when *redirector* is that of its environment."""
    homes = world.environments
    if redirector == NIL or to < 0 or homes[to] in (homes[thread], homes[redirector]):
        return to
    return redirector

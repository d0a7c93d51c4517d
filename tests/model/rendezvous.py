"""The rendezvous of X.2 as a small machine: what may happen next, as pure functions on immutable states.

*Theory of operation.* A state says where each thread is in its IPC. Between two observed events the machine
takes internal steps: a sender and a receiver *meet* (the message is over, and the sender is in its receive phase:
one step, that is the atomic switch), a time-out *expires*, a partner is found *gone*, an abort or a
redirection takes *effect*. An operation has then an outcome, which its thread will be seen to return with.

*Time.* X.2 takes such a step at once; programs on a host take a moment. A step therefore has a time at which it
became possible, and one by which it must have been taken; both follow from the observed events alone, not from
the path, so that two paths which did the same things are one state. The moments allowed are the constants of
`tests.model.states` and nothing more. A step that is overdue refutes its state: a message that is lost, or a
time-out that fires although its partner was ready, shows as a step that was due and not taken.

Source: L4 X.2 reference manual, rev. 7 (Ipc, ExchangeRegisters).
"""

from collections.abc import Iterator

from kernel.abi.messages import IpcCode, Phase
from tests.model.history import REFUSED, WAS_RECEIVING, WAS_SENDING, Outcome, error_word
from tests.model.routes import answers, destinations, route
from tests.model.script import NIL, Abort, Ipc, Redirect
from tests.model.states import (
    ABORTING,
    ACTING,
    DEAD,
    DEAF,
    DONE,
    ENTERING,
    FOREVER,
    IDLE,
    LATENCY,
    LOOKS,
    LOST,
    PLAIN,
    RECEIVING,
    RECHECK,
    REQUEUES,
    SENDING,
    SURE,
    TICK,
    TURNS_EARLY,
    TURNS_WAITS,
    Place,
    State,
    Step,
    World,
    deadline,
    put,
)
from tests.model.taking import accepts, earlier, may_pass, names, passed

TIMED_OUT = tuple(Outcome(error_word(IpcCode.TIMEOUT, phase)) for phase in Phase)
NO_PARTNER = tuple(Outcome(error_word(IpcCode.NO_PARTNER, phase)) for phase in Phase)
CANCELLED = tuple(Outcome(error_word(IpcCode.CANCELLED, phase)) for phase in Phase)


# ------------------------------------------------------------------------------------------- what is observed


def begin(world: World, state: State, thread: int, call: int, now: int) -> Iterator[State]:
    """*thread* begins operation *call*: yield what that can lead to."""
    if state.places[thread].kind != IDLE:
        return
    operation = world.calls[call]
    if not isinstance(operation, Ipc):
        yield put(state, thread, Place(ACTING, now, call))
    elif operation.to == NIL:
        yield put(state, thread, listen(world, call, now))
    else:
        limit = deadline(now, operation.send)
        for partner in destinations(world, state, thread, operation.to, now):
            yield put(state, thread, Place(SENDING, now, call, partner, limit))


def listen(world: World, call: int, since: int, partner: int | None = None, limit: int = FOREVER) -> Place:
    """Return the state of *call*'s caller after its send phase: in its receive phase, from *partner*, or done.

    A native call has the time that is left until *limit*.
    """
    operation = world.calls[call]
    assert isinstance(operation, Ipc)
    if operation.sender == NIL:
        return Place(DONE, since, call)
    source = operation.sender if partner is None else partner
    whole = operation.native and operation.to != NIL
    return Place(RECEIVING, since, call, source, limit if whole else deadline(since, operation.receive))


def end(state: State, threads: tuple[int, ...], now: int) -> State:
    """*threads* end; a message that waited to be taken may just have been."""
    for thread in threads:
        place = state.places[thread]
        if place.kind != DEAD:
            partner = place.partner if place.kind == SENDING else NIL
            state = put(state, thread, Place(DEAD, now, place.call, partner))
    return state


def complete(world: World, state: State, thread: int, outcome: Outcome) -> State | None:
    """*thread* returned with *outcome*: return what that leads to, None if it cannot be.

    A native call does not say who answered it.
    """
    place = state.places[thread]
    operation, expected = world.calls[place.call] if world.calls else None, place.outcome
    if isinstance(operation, Ipc) and operation.native and operation.is_call and expected.payload:
        expected = expected._replace(sender=operation.to, actual=NIL, intended=NIL)
    if place.kind != DONE or expected != outcome:
        return None
    return put(state, thread, Place())


# --------------------------------------------------------------------------------------------- internal steps


def steps(world: World, state: State, now: int) -> Iterator[Step]:
    """Yield every internal step that could have been taken by *now*."""
    for thread, place in enumerate(state.places):
        kind = place.kind
        if place.aborted:
            phase = Phase.SEND if kind == SENDING else Phase.RECEIVE
            after = _fail(state, thread, place.aborted, CANCELLED[phase])
            backs = _turned_back(world, state, thread, after) if kind == SENDING else (after,)
            yield from (Step(place.aborted, place.aborted + ABORTING, back) for back in backs)
        if kind == SENDING:
            yield from _early(world, state, thread)
            for step in _sender(world, state, thread, now):
                failed = step.state.places[thread].outcome.error
                backs = _turned_back(world, state, thread, step.state) if failed else (step.state,)
                yield from (step._replace(state=back) for back in backs)
        elif kind == RECEIVING:
            yield from _receiver(world, state, thread, now)
        elif kind == ACTING:
            for after in _act(world, state, thread):
                yield Step(place.since, place.since + world.latency, after)
        elif kind == DEAD and place.partner >= 0 and now <= place.since + world.latency:
            yield from _meet(world, state, thread, late=True)
        if kind == DONE:
            yield from _untold(world, state, thread)
        if world.faulty and kind in (RECEIVING, DONE):
            yield from _unread(world, state, thread)


def _early(world: World, state: State, thread: int) -> Iterator[Step]:
    """The call that *thread* passes on is turned before that message is taken."""
    place = state.places[thread]
    if TURNS_EARLY and place.hears != LOST and place.partner >= 0 and place.partner != thread:
        for virtual in names(world, state, thread):
            turned = next(turnings(world, state, thread, virtual, place.since))
            if turned is not state:
                yield Step(place.since, FOREVER, turned)


def _sender(world: World, state: State, thread: int, now: int) -> Iterator[Step]:
    place = state.places[thread]
    partner = place.partner
    if partner < 0 or partner == thread:
        yield _lost(world, state, thread, place.since, Phase.SEND)
        return
    meant = world.ipc(place).to
    if state.places[meant].kind == DEAD:
        for phase in _phases(world, place, state.places[meant].since):
            lost = _lost(world, state, thread, state.places[meant].since, phase)
            yield lost if meant == partner else lost._replace(due=FOREVER)  # the redirector may still take it
        if meant == partner and place.since <= state.places[meant].since + world.latency:
            # It may have had the message in its hand when it ended: whether it was taken is not known then.
            yield Step(
                place.since,
                FOREVER,
                put(state, thread, listen(world, place.call, place.since, limit=place.deadline)),
            )
        if meant != partner and state.places[partner].kind == DEAD:  # now it cannot
            gone, its = state.places[meant].since, state.places[partner].since
            lacked = gone + world.latency >= max(its, place.since)  # it hears so when it looks for another
            yield _lost(world, state, thread, max(gone, its), Phase.SEND, LOOKS if lacked else 0)
    meetings = list(_meet(world, state, thread)) if place.hears != LOST else []
    yield from meetings
    if place.hears != LOST:
        redirector, changed, _ = state.redirectors[world.environments[thread]]
        there = route(world, thread, meant, redirector)
        if there != partner or (REQUEUES and changed > place.since):
            # It changed while the message waited: that stays where it is, or goes there, to the end of the queue.
            # A thread without a redirector looks now and then whether there is another, or is to be none.
            lacked = partner != meant and state.places[partner].kind == DEAD
            for later in range(0, LOOKS + 1, LATENCY) if lacked else (0,):
                moved = place._replace(partner=there, since=max(place.since, changed + later))
                yield Step(moved.since, FOREVER, put(state, thread, moved))
    sure = state.places[partner].since <= place.since - ENTERING
    missed = world.ipc(place).send == 0 and not (meetings and sure)
    if missed or now + TICK >= place.deadline:
        yield _expire(world, state, thread, Phase.SEND, place.since if missed else place.deadline - TICK)


def _phases(world: World, place: Place, gone: int) -> Iterator[Phase]:
    """Yield in which phase the operation at *place*, which sends to one that is *gone* since then, may fail.

    Of a call that is never withdrawn it is not known whether it was taken, once it is on its way.
    """
    operation = world.ipc(place)
    on_its_way = operation.is_kept and operation.is_call
    if not on_its_way or gone - world.latency <= place.since:
        yield Phase.SEND
    if on_its_way and place.since <= gone + world.latency:
        yield Phase.RECEIVE


def _untold(world: World, state: State, thread: int) -> Iterator[Step]:
    """A message that is never withdrawn was taken by one that ended before it said so: its sender sees the end."""
    place = state.places[thread]
    operation = world.calls[place.call]
    if isinstance(operation, Ipc) and operation.is_kept and operation.to >= 0 and place.outcome == PLAIN:
        gone = state.places[operation.to]
        if gone.kind == DEAD and gone.since >= place.since:
            yield Step(gone.since, FOREVER, _fail(state, thread, gone.since, NO_PARTNER[Phase.SEND]))


def _receiver(world: World, state: State, thread: int, now: int) -> Iterator[Step]:
    place = state.places[thread]
    if place.partner >= 0 and place.partner != thread and state.places[place.partner].kind == DEAD:
        later = 0 if _is_told(world, state, thread) else LOOKS
        yield _lost(world, state, thread, state.places[place.partner].since, Phase.RECEIVE, later)
    missed = world.ipc(place).receive == 0 and not any(
        step.ready <= place.since
        for sender, its in enumerate(state.places)
        if its.kind == SENDING and its.partner == thread and its.hears != LOST
        for step in _meet(world, state, sender)
    )
    missed = missed or place.hears != SURE  # whose news were cut gives up when it hears nothing for too long
    if missed or now + TICK >= place.deadline:
        yield _expire(world, state, thread, Phase.RECEIVE, place.since if missed else place.deadline - TICK)


def _is_told(world: World, state: State, thread: int) -> bool:
    """Say whether *thread* is told when its partner ends: not where a redirector is in between, or was just now."""
    partner = state.places[thread].partner
    now, changed, before = state.redirectors[world.environments[thread]]
    fresh = changed + LOOKS >= state.places[partner].since
    return all(
        route(world, thread, partner, each) == partner for each in ((now, before) if fresh else (now,))
    )


def overstays(world: World, state: State) -> int:
    """Return when the first of those who are done should have returned."""
    since = [place.since for place in state.places if place.kind == DONE and place.hears == SURE]
    return min(since) + 2 * world.latency if since else FOREVER


def _due(world: World, place: Place, since: int) -> int:
    return since + world.latency if place.hears == SURE else FOREVER


def _fail(state: State, thread: int, since: int, outcome: Outcome) -> State:
    place = state.places[thread]
    return put(state, thread, Place(DONE, since, place.call, outcome=outcome, hears=place.hears))


def _expire(world: World, state: State, thread: int, phase: Phase, ready: int) -> Step:
    place = state.places[thread]
    due = _due(world, place, place.deadline + RECHECK)
    return Step(ready, due, _fail(state, thread, place.deadline + RECHECK, TIMED_OUT[phase]))


def _lost(world: World, state: State, thread: int, gone: int, phase: Phase, later: int = 0) -> Step:
    """The partner of *thread* is *gone* since then; it may be so much *later* that this is found."""
    place = state.places[thread]
    since = max(gone, place.since)
    found = since + later
    return Step(since, _due(world, place, found), _fail(state, thread, found, NO_PARTNER[phase]))


def _unread(world: World, state: State, thread: int) -> Iterator[Step]:
    """An answer was under way too long: its sender is gone before it arrived."""
    place = state.places[thread]
    operation = world.calls[place.call]
    if not isinstance(operation, Ipc) or operation.to < 0 or place.outcome.sender < 0:
        return
    sender = place.outcome.sender if place.outcome.actual == NIL else place.outcome.actual
    gone = state.places[sender]
    if gone.kind == DEAD and gone.since >= place.since:
        yield Step(gone.since, FOREVER, _fail(state, thread, gone.since, NO_PARTNER[Phase.RECEIVE]))


def _meet(world: World, state: State, thread: int, *, late: bool = False) -> Iterator[Step]:
    """The message of *thread* is taken by its partner, if that one receives it and no other was there before."""
    place = state.places[thread]
    receiver = place.partner
    there = state.places[receiver]
    if there.kind != RECEIVING or there.hears == LOST:
        return
    passes = tuple(earlier(world, state, thread)) if world.ordered else ()
    if not all(may_pass(world, state, thread, other) for other in passes):
        return
    virtuals = tuple(names(world, state, thread))
    for virtual in virtuals:
        if not accepts(world, state, receiver, thread, virtual):
            continue
        since = max(place.since, there.since)
        unsure = late or len(virtuals) > 1 or there.hears == DEAF
        for before in turnings(world, state, thread, virtual, since):
            met = passed(_met(world, before, thread, virtual, since, late=late), thread, passes)
            yield Step(since, FOREVER if unsure else since + world.latency, met)
            if state.cuts < world.cuts:
                yield from (Step(since, FOREVER, cut) for cut in _cut(world, state, met, thread))


def _met(world: World, state: State, thread: int, virtual: int, since: int, *, late: bool) -> State:
    """Return *state* after *thread* and its partner met: the atomic switch, and the turn of a propagated call."""
    place = state.places[thread]
    operation = world.ipc(place)
    receiver = place.partner
    there = state.places[receiver]
    replied = answers(world, state, thread, receiver)
    outcome = Outcome(
        sender=virtual if virtual != NIL else thread,
        payload=operation.payload,
        actual=thread if virtual != NIL else NIL,
        intended=operation.to if operation.to != receiver else NIL,
    )
    state = put(state, receiver, Place(DONE, since, there.call, outcome=outcome, hears=there.hears))
    if late:
        state = put(state, thread, place._replace(partner=NIL))
    else:
        turned = receiver if receiver != operation.to and operation.sender == operation.to else None
        listening = listen(world, place.call, since, turned, place.deadline)
        state = put(state, thread, listening._replace(replied=listening.kind == RECEIVING and replied))
    return state


def turnings(world: World, state: State, thread: int, virtual: int, since: int) -> Iterator[State]:
    """Yield *state* with the wait of *virtual* for *thread* turned to that one's partner, if it is to be.

    It is turned to the message's intended receiver, even if a redirector takes it: that one passes it on.
    What can answer it is due from then on: *since*.
    """
    waiting = state.places[virtual] if virtual != NIL else Place()
    if waiting.kind != RECEIVING or waiting.partner != thread:
        yield state
        return
    turned = waiting._replace(partner=world.ipc(state.places[thread]).to, since=max(since, waiting.since))
    yield put(state, virtual, turned)
    homes = world.environments
    called = world.ipc(waiting).to == thread and homes[virtual] != homes[thread]
    called = (
        called
        and not waiting.replied
        and state.redirectors[homes[virtual]][1] + world.latency < waiting.since
    )
    if not (called or TURNS_WAITS):
        yield state


def _turned_back(world: World, state: State, thread: int, failed: State) -> Iterator[State]:
    """Yield *failed*, in which the message of *thread* was not taken; the call turned early is as it was before.

    That is so when its time was over, or when that was found, which may be a little later.
    """
    yield failed
    virtual, receiver = world.ipc(state.places[thread]).virtual, world.ipc(state.places[thread]).to
    if TURNS_EARLY and virtual >= 0:
        waiting = state.places[virtual]
        if waiting.kind == RECEIVING and waiting.partner == receiver and world.ipc(waiting).sender == thread:
            found = failed.places[thread].since
            for each in {found, min(found, state.places[thread].deadline)}:
                back = waiting._replace(partner=thread, since=max(each, waiting.since))
                yield put(failed, virtual, back)


def _cut(world: World, state: State, met: State, thread: int) -> Iterator[State]:
    """Yield what a cut message makes of a meeting.

    It never was; or its sender does not hear of it; or, where it was the answer to a call, its caller does not.
    """
    place = state.places[thread]
    used = state.cuts + 1
    if place.kind != SENDING:
        return
    yield put(state, thread, place._replace(hears=LOST))._replace(cuts=used)
    yield put(met, thread, met.places[thread]._replace(hears=DEAF))._replace(cuts=used)
    if answers(world, state, thread, place.partner):
        caller = state.places[place.partner]
        yield put(met, place.partner, caller._replace(hears=LOST))._replace(cuts=used)


# ------------------------------------------------------------------------------------------ aborts, redirection


def _act(world: World, state: State, thread: int) -> Iterator[State]:
    """Yield what the operation of *thread*, no Ipc, may do."""
    place = state.places[thread]
    operation = world.calls[place.call]
    if isinstance(operation, Abort):
        yield from _abort(world, state, thread, operation)
    elif isinstance(operation, Redirect):
        to = state.places[operation.thread] if operation.thread >= 0 else Place()
        whose = state.places[world.environments.index(operation.environment)]
        gone = [its.since for its in (to, whose) if its.kind == DEAD]
        if gone:
            yield _done(state, thread, REFUSED)
        if all(since + world.latency >= place.since for since in gone):
            rows = list(state.redirectors)
            before = rows[operation.environment][0]
            rows[operation.environment] = (operation.thread, place.since, before)
            yield _done(state._replace(redirectors=tuple(rows)), thread, 0)


def _done(state: State, thread: int, control: int) -> State:
    place = state.places[thread]
    return put(state, thread, Place(DONE, place.since, place.call, outcome=Outcome(control=control)))


def _abort(world: World, state: State, thread: int, abort: Abort) -> Iterator[State]:
    """Abort what the victim is in; it may not have got there yet, and it may have left without knowing."""
    since = state.places[thread].since
    victim = state.places[abort.thread]
    homes = world.environments
    fresh = victim.since + world.latency >= since
    if homes[thread] != homes[abort.thread] or victim.kind == DEAD:
        yield _done(state, thread, REFUSED)
        if homes[thread] == homes[abort.thread] and fresh:  # it ended just now
            yield from (_done(state, thread, was) for was in (0, WAS_SENDING, WAS_RECEIVING))
        return
    if victim.kind == SENDING:
        after = put(state, abort.thread, victim._replace(aborted=since)) if abort.send else state
        yield _done(after, thread, WAS_SENDING)
    elif victim.kind == RECEIVING:
        after = put(state, abort.thread, victim._replace(aborted=since)) if abort.receive else state
        yield _done(after, thread, WAS_RECEIVING)
        if fresh:
            yield _done(state, thread, WAS_SENDING)
    if victim.kind not in (SENDING, RECEIVING) or fresh:
        yield _done(state, thread, 0)
    if victim.kind == DONE:
        yield _done(state, thread, WAS_SENDING)
        yield _done(state, thread, WAS_RECEIVING)

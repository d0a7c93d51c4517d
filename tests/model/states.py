"""Where threads are in their IPC, as immutable values, and how long each step of the model may take."""

from dataclasses import dataclass
from typing import NamedTuple

from tests.model.history import MILLISECOND, Outcome
from tests.model.script import NEVER, NIL, Ipc, Operation

IDLE, SENDING, RECEIVING, DONE, DEAD, ACTING = range(6)
"""Where a thread is: outside, in its send phase, in its receive phase, about to return, ended, about to act."""
SURE, DEAF, LOST = range(3)
"""How a thread hears of its own message: as it should; perhaps never, for the news was cut; never, for it was."""

READY = 2 * MILLISECOND
"""What a time-out of zero means: as long as a ready partner needs to wake."""
LATENCY = MILLISECOND
"""How long a step that X.2 takes at once may take, and how long a thread may need to return."""
RECHECK = MILLISECOND
"""How much longer an expiry may take: a message that was not found is looked for once more."""
ENTERING = MILLISECOND // 10
"""How long after its call a thread may be found not to receive yet: it is on its way there."""
TICK = MILLISECOND // 1_000
"""The precision of the X.2 clock: a time-out begins at the tick before the call."""
ABORTING = MILLISECOND // 50
"""How long after an abort its victim may still meet somebody: it may be looking for a message just then."""
QUEUE_SLACK = MILLISECOND // 2
"""Messages sent within so short a time may be queued in either order."""
LOOKS = 5 * MILLISECOND
"""How often who waits for a partner, with a redirector in between, looks for it: the kernel tells of the end of
those only that one is bound to."""
ANSWERS_FIRST = True
"""The answer to a call may be taken before an older message in its partner's name: X.2 orders neither."""
TURNS_EARLY = True
"""A call is turned when the message propagated for it sets out, and back if that fails; X.2: when it is taken."""
TURNS_WAITS = False
"""Whether a closed wait is surely turned that is no call from afar. X.2 turns every one. Here an environment knows
who called it by a message; of one that only waits, called from hand to hand (Lipc), sent an answer, or has
another redirector since, it does not."""
REQUEUES = True
"""A message that waits while its environment gets another redirector is sent anew, and is then the last in line."""
FOREVER = NEVER * 1_000

PLAIN = Outcome()


class Place(NamedTuple):
    """Where one thread is."""

    kind: int = IDLE
    since: int = 0
    """When that became possible."""
    call: int = 0
    """Which operation, as an index into the operations begun."""
    partner: int = NIL
    """To whom it sends, or from whom it receives."""
    deadline: int = FOREVER
    outcome: Outcome = PLAIN
    hears: int = SURE
    aborted: int = 0
    """When it was told to return from the phase it is in; 0: it was not."""
    passed: tuple[int, ...] = ()
    """Whose messages were taken before its own, though they came later, in order of number."""
    replied: bool = False
    """What it sent was the answer to a call: it only waits now, and nobody takes that for a call."""


class State(NamedTuple):
    """One possibility."""

    places: tuple[Place, ...]
    redirectors: tuple[tuple[int, int, int], ...] = ()
    """Of each environment: the thread all it sends goes to (NIL: none), since when, and which it was before."""
    cuts: int = 0
    """How many cut messages this possibility has accounted for."""


class Step(NamedTuple):
    """The events that may happen next."""

    ready: int
    """When it became possible."""
    due: int
    """When it must have happened, if nothing else makes it impossible."""
    state: State


@dataclass
class World:
    """The constants: environments of threads, and possible faults. Collects the operations begun."""

    environments: tuple[int, ...]
    calls: list[Operation]
    latency: int = LATENCY
    slack: int = QUEUE_SLACK
    ordered: bool = True
    """Senders that wait for one receiver have their turns, since no message was delayed."""
    cuts: int = 0
    """How many messages were cut on their way."""

    @property
    def faulty(self) -> bool:
        """Whether the transport was faulty at all."""
        return bool(self.cuts) or not self.ordered

    def start(self) -> State:
        """Return the state before anything happened."""
        spaces = max(self.environments) + 1
        return State((Place(),) * len(self.environments), ((NIL, -FOREVER, NIL),) * spaces)

    def ipc(self, place: Place) -> Ipc:
        """Return the Ipc that *place* is in."""
        operation = self.calls[place.call]
        assert isinstance(operation, Ipc)
        return operation


def put(state: State, thread: int, place: Place) -> State:
    """Return *state* with *thread* at *place*."""
    places = state.places
    return state._replace(places=(*places[:thread], place, *places[thread + 1 :]))


def deadline(since: int, timeout: int) -> int:
    """Return when a phase that began at *since* may time out."""
    return FOREVER if timeout == NEVER else since + max(timeout * 1_000, READY)

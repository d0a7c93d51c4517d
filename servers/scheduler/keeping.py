"""What the scheduler server leaves to its successor, in an estate."""

from contextlib import suppress

import msgspec

from libexo.environment import Environment
from libexo.errors import ExoError
from libexo.estate import Estate, inherited
from servers.memory.api import Memory
from servers.scheduler.settings import State, estate_pages

_STATE = msgspec.msgpack.Decoder(State)


class Kept:
    """The state of the server, as last stored."""

    def __init__(self, environment: Environment) -> None:
        """Load what the server before this one left."""
        self._environment = environment
        self._estate: Estate | None = None
        self._prepared = False
        self.state = State()
        """What is kept."""
        handle = inherited(environment)
        if handle:
            self._estate = Estate(environment.views.map(handle))
            state = self._estate.load()
            self.state = _STATE.decode(state) if state else State()

    def prepare(self, processors: int) -> None:
        """Make the estate before there is anything to keep, so that free memory does not depend on programs."""
        if self._estate is None and not self._prepared:
            self._prepared = True
            with suppress(ExoError):
                memory = Memory.connect(self._environment, timeout=1, patience=0)
                self._estate = self._make(memory, processors)

    def store(self, state: State, processors: int) -> None:
        """Write *state* into the estate, which is made when it is first needed. Raises ExoError."""
        if self._estate is None:
            self._estate = self._make(Memory.connect(self._environment), processors)
        self._estate.store(msgspec.msgpack.encode(state))
        self.state = state

    def _make(self, memory: Memory, processors: int) -> Estate:
        return Estate(self._environment.views.map(memory.allocate(estate_pages(processors)).handle))

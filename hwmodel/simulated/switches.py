"""Who came to a core and who left it, on the simulated machine: written whenever time passes."""

from collections.abc import Collection

from hwmodel.machine import Body
from hwmodel.presence import Presence
from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.clock import VirtualClock
from kernel.abi.program import Activity

_THREAD = 1
"""All strands of a body share a core, and count as one thread."""


class SimulatedSwitches:
    """The switches of one core; see `hwmodel.presence.Switches`."""

    def __init__(self, clock: VirtualClock) -> None:
        """Follow nobody."""
        self.tells = True
        """A test clears this: before there are members for a host that does not tell, later for a gap."""
        self._clock = clock
        self._followed: list[SimulatedBody] = []
        self._came: list[Body] = []

    def follow(self, body: Body) -> None:
        """Look at *body* from now on."""
        if isinstance(body, SimulatedBody) and self.tells:
            body.presence = Presence(held=body.paused)
            self._followed.append(body)

    def leave(self, body: Body) -> None:
        """Look at *body* no more."""
        if isinstance(body, SimulatedBody) and body in self._followed:
            body.presence = None
            self._followed.remove(body)
            self._came = [each for each in self._came if each is not body]

    def read(self) -> Collection[Body] | None:
        """Return who had the core since the last time."""
        self.write()
        came, self._came = self._came, []
        if self.tells:
            return came
        for body in self._followed:
            if body.presence is not None:
                body.presence.lose(self._clock.now())
        return None

    def write(self) -> None:
        """Note who has the core now, and who has left it."""
        now = self._clock.now()
        for body in self._followed:
            if (presence := body.presence) is None:
                continue
            if body.paused:
                presence.hold(now)
                continue
            presence.free(now)
            if body.activity() is not Activity.RUNS:
                presence.went(_THREAD, now)
            elif presence.came(_THREAD, now) and body not in self._came:
                self._came.append(body)

"""How a program on the simulated machine comes to an end in the middle of what it does."""

import signal
from typing import cast

from hwmodel.simulated.bodies import SimulatedBody
from libexo.environment import Environment
from libexo.host.simulated import SimulatedHost


def end(environment: Environment, number: int = signal.SIGKILL) -> None:
    """End the calling program by host signal *number*, as a host process without handlers would end."""
    host = cast("SimulatedHost", environment.host)
    cast("SimulatedBody", host._ground).signal(number)
    host.now()


def fault(environment: Environment) -> None:
    """End the calling program by a packet that is no trap."""
    environment.gate.trap(b"\xc1")

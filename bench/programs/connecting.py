"""Connections of benchmark programs to their servers: over the transport that BENCH_TRANSPORT names."""

import os
from typing import TypeVar

from libexo.environment import Environment
from libexo.stub import Interface

I = TypeVar("I", bound=Interface)  # noqa: E741 - an interface


def connected(interface: type[I], environment: Environment, name: str, timeout: float | None = None) -> I:
    """Return a stub of *interface* for the server called *name*, whose calls may take *timeout* seconds."""
    transport = os.environ.get("BENCH_TRANSPORT", "zmq")
    return interface.connect(environment, name, timeout=timeout, transport=transport)

"""The host of the calling thread, where something put one there; `libexo.attach` asks here first.

A real process has one host and needs none of this. On the simulated machine every program is a thread of one
process, and whoever starts the thread installs its host.
"""

import threading

from libexo.host.base import Host


class _Place(threading.local):
    """One value a thread."""

    host: Host | None = None


_PLACE = _Place()


def get() -> Host | None:
    """Return the calling thread's host, or None in a plain process."""
    return _PLACE.host


def put(host: Host | None) -> None:
    """Make *host* the calling thread's; None takes it away."""
    _PLACE.host = host

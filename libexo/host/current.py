"""The host of the calling strand, where something put one there; `libexo.attach` asks here first.

A real process has one host, and its main strand needs none of this. On the simulated machine every program is some
threads of one process. Whoever starts a strand installs its host.
"""

import threading

from libexo.host.base import Host


class _Place(threading.local):
    """One value a strand."""

    host: Host | None = None


_PLACE = _Place()


def get() -> Host | None:
    """Return the calling strand's host, or None in the main strand of a process."""
    return _PLACE.host


def put(host: Host | None) -> None:
    """Make *host* the calling strand's; None takes it away."""
    _PLACE.host = host

"""The host of the calling strand, if one was put there; `libexo.attach` asks here first.

A real process has one host, and its main strand needs none of this. On the simulated machine a program is a few
threads of one process. The starter of a strand installs its host.
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

"""Listening sockets: those with well-known names, and those of one binding each, with secret names.

The host shows everybody under what path a socket was bound (/proc/net/unix). So the socket of a binding is bound
under a path that tells nothing, and does not listen there. It is renamed to a secret one in a directory that cannot
be listed, and then listens. When its one connection is there, the name goes, before the accept: there is no second.
"""

import base64
import contextlib
import os
import socket
from collections.abc import Callable

from hwmodel.machine import Exhausted
from hwmodel.real.descriptor import RealDescriptor, check_lendable
from hwmodel.real.errors import lending
from hwmodel.real.loop import Loop

BACKLOG = 128
"""Connections that wait while their server is busy, at a well-known name."""
MASK = 0o111
"""Every uid may write to the end point of a binding: knowing its name is the right to connect. What
another thread of ours makes at that moment says its mode itself, which is as narrow as under any mask."""
_SECRET = 16
"""Bytes of a secret name."""


@lending
def listen(path: str, kind: socket.SocketKind, backlog: int) -> socket.socket:
    """Return a socket that listens at *path*, to which every uid may connect. Raises Exhausted."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        # Not blocking for its other holders either: a connection that was there at the poll may be
        # gone at the accept.
        listener.setblocking(False)
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103 - the uid decides who may speak
        listener.listen(backlog)
    except BaseException:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return listener


class RealEndpoint:
    """The listening socket of one binding; see `hwmodel.machine.Endpoint`."""

    def __init__(self, loop: Loop, directory: str, serial: int, connected: Callable[[], None]) -> None:
        """Listen in *directory*; no other has its *serial* number. Raises Exhausted."""
        self.name = base64.urlsafe_b64encode(os.getrandom(_SECRET)).decode().rstrip("=")
        self._path = f"{directory}/{self.name}"
        self._loop = loop
        self._call: Callable[[], object] = connected
        self._listener = _listen_once(f"{directory}/.{serial}", self._path)
        try:
            loop.watch(self._listener.fileno(), self._connected)
        except Exhausted:
            self._listener.close()
            os.unlink(self._path)
            raise

    def _connected(self, _events: int) -> None:
        """Take the name away: the one connection is there."""
        call = self._call
        self._remove()
        call()

    def take(self) -> RealDescriptor:
        """Return the listening socket."""
        self._remove()
        return RealDescriptor(self._listener.detach())

    def close(self) -> None:
        """Remove it, unless it was taken."""
        self._remove()
        self._listener.close()

    def _remove(self) -> None:
        """Take the name away, and stop waiting for a connection."""
        if self._path:
            self._loop.unwatch(self._listener.fileno())
            try:  # noqa: SIM105 - to suppress it costs as much as the call
                os.unlink(self._path)
            except FileNotFoundError:
                pass
            self._path, self._call = "", int  # the callback refers to this end point


@lending
def _listen_once(bound: str, path: str) -> socket.socket:
    """Return a socket bound to *bound* that listens at *path*, with room for one connection. Raises Exhausted."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        check_lendable(listener.fileno())
        before = os.umask(MASK)
        try:
            listener.bind(bound)
        finally:
            os.umask(before)
        os.rename(bound, path)
        listener.listen(0)
    except BaseException:
        listener.close()
        for name in (bound, path):
            with contextlib.suppress(OSError):
                os.unlink(name)
        raise
    return listener

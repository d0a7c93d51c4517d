"""The listening socket of a thread, at ipc/NUMBER in the run directory."""

import contextlib
import os
import socket

from hwmodel.real.descriptor import RealDescriptor, own_copy
from hwmodel.real.errors import lending

BACKLOG = 128
"""Connections that wait while a server is restarted."""


@lending
def listen(path: str, kind: socket.SocketKind, backlog: int) -> socket.socket:
    """Return a socket that listens at *path*, to which every uid may connect. Raises Exhausted."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        # Not blocking for its other holders either: a connection that was there when one looked may be
        # gone when he accepts.
        listener.setblocking(False)
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103 - who may speak is decided by token, or by uid
        listener.listen(backlog)
    except BaseException:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return listener


class RealEndpoint:
    """The kernel's hold on the listening socket of a thread; see `hwmodel.machine.Endpoint`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = listen(path, socket.SOCK_STREAM, BACKLOG)

    def descriptor(self) -> RealDescriptor:
        """Return a descriptor of the listening socket. Raises Exhausted."""
        return own_copy(self._listener.fileno(), writable=True)

    def close(self) -> None:
        """Remove it: senders find nobody there any more."""
        with contextlib.suppress(OSError):  # whatever the file system says: nobody listens there any more
            os.unlink(self._path)
        self._listener.close()

"""The listening gate, where programs that were started elsewhere attach.

The host tells who is at the other end of a connection. Any program on the host may connect, so connections that
have sent nothing yet are few, soon dropped, and fewer still for one uid.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hwmodel.machine import Alarm, Exhausted
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.endpoint import listen
from hwmodel.real.loop import Loop
from hwmodel.real.port import ANCILLARY, CUT_BYTES, RECEIVE_FLAGS, close_all, take_descriptors
from kernel.abi.limits import MAX_TRAP_BYTES

BACKLOG = 128
MAX_VISITORS = 256
"""Connections that have sent nothing yet; for one more, the oldest is dropped."""
MAX_VISITORS_OF_UID = 16
PATIENCE_NS = 3_000_000_000
RECOVERY_NS = 100_000_000
"""Pause of accepting when the host is out of descriptors."""
SO_PEERPIDFD = 77
SO_PASSRIGHTS = 83
CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True)
class Peer:
    """The program at the other end, by the host's word."""

    pid: int
    uid: int
    process: RealDescriptor
    """Its pidfd."""


Admit = Callable[[socket.socket, Peer, bytes], None]
"""Takes the connection over, with its first packet."""


class Gate:
    """Accepts connections and waits for the first packet of each."""

    def __init__(self, loop: Loop, path: str, admit: Admit, log: Callable[[str], None]) -> None:
        self._loop = loop
        self._admit = admit
        self._log = log
        self._listener = listen(path, socket.SOCK_SEQPACKET, BACKLOG)
        _take_descriptors(self._listener, False)
        self._visitors: dict[int, _Visitor] = {}
        self._recovery: Alarm | None = None
        self._watch()

    def close(self) -> None:
        """Stop accepting, and drop the connections that have sent nothing yet."""
        if self._recovery is not None:
            self._recovery.cancel()
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        for visitor in list(self._visitors.values()):
            self._drop(visitor)

    def _watch(self) -> None:
        self._recovery = None
        try:
            self._loop.watch(self._listener.fileno(), self._accept)
        except Exhausted:
            self._recover()

    def _recover(self) -> None:
        """Stop accepting for a moment."""
        self._recovery = self._loop.alarm(self._loop.now() + RECOVERY_NS, self._watch)

    def _accept(self, _events: int) -> None:
        """Take one connection."""
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._log(f"no program can attach for a moment: {error.strerror}")
                self._loop.unwatch(self._listener.fileno())
                self._recover()
            return
        try:
            peer = identify(connection)
        except OSError as error:
            self._log(f"a program could not attach: {error.strerror or error}")
            connection.close()
            return
        self._receive_visitor(_Visitor(connection, peer))

    def _receive_visitor(self, visitor: "_Visitor") -> None:
        """Wait for the first packet, for a bounded time, of a bounded number of connections."""
        of_uid = [other for other in self._visitors.values() if other.peer.uid == visitor.peer.uid]
        if len(of_uid) >= MAX_VISITORS_OF_UID:
            self._drop(of_uid[0])
        elif len(self._visitors) >= MAX_VISITORS:
            self._drop(next(iter(self._visitors.values())))
        self._visitors[id(visitor)] = visitor
        visitor.limit = self._loop.alarm(self._loop.now() + PATIENCE_NS, lambda: self._drop(visitor))
        try:
            self._loop.watch(visitor.connection.fileno(), lambda _events: self._first_packet(visitor))
        except Exhausted as exhausted:
            self._log(f"a program could not attach: {exhausted}")
            self._drop(visitor)

    def _first_packet(self, visitor: "_Visitor") -> None:
        """Hand the connection on with its first packet; one that sends nothing, or too much, is dropped."""
        try:
            data, ancillary, flags, _ = visitor.connection.recvmsg(MAX_TRAP_BYTES, ANCILLARY, RECEIVE_FLAGS)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        close_all(take_descriptors(ancillary, self._loop.closer))
        if not data or flags & CUT_BYTES:
            self._drop(visitor)
            return
        self._forget(visitor)
        _take_descriptors(visitor.connection, True)
        self._admit(visitor.connection, visitor.peer, data)

    def _drop(self, visitor: "_Visitor") -> None:
        self._forget(visitor)
        visitor.connection.close()
        visitor.peer.process.close()

    def _forget(self, visitor: "_Visitor") -> None:
        if self._visitors.pop(id(visitor), None) is not None and visitor.limit is not None:
            visitor.limit.cancel()
        self._loop.unwatch(visitor.connection.fileno())


def _take_descriptors(connection: socket.socket, take: bool) -> None:  # noqa: FBT001 - what the host calls it
    """Have the host refuse descriptors sent to *connection*, or let them through: visitors could park theirs in it.

    Before Linux 6.16 they come, and are closed with the first packet.
    """
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, take)


class _Visitor:
    """A connection that has sent nothing yet."""

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self.connection = connection
        self.peer = peer
        self.limit: Alarm | None = None


def identify(connection: socket.socket) -> Peer:
    """Return the peer of *connection*. Raises OSError if it is gone or out of sight."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _ = CREDENTIALS.unpack(raw)
    if pid == 0:
        raise OSError(errno.ESRCH, "it runs in another pid namespace: give its container the kernel's")
    try:
        process = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        # Before Linux 6.5. The pid may by now be another process's, but only if the process that connected has
        # died; if it left its connection to another one, that other process is taken for it.
        process = os.pidfd_open(pid)
    return Peer(pid, uid, RealDescriptor(process))

"""What is ZeroMQ's of an inbox, and waiting for inboxes together with channels and descriptors."""

from collections.abc import Sequence, Sized
from typing import Any, cast

import zmq

from libexo.transport.base import Source
from libexo.transport.polling import Poll
from libexo.transport.stream import StreamChannel

# Plain numbers: combining the flags of an enum costs more than sending a frame does.
NOW = int(zmq.DONTWAIT)
MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_READABLE = int(zmq.POLLIN)
zmq_poll = zmq.zmq_poll
FULL = 1 << 13
"""Bytes that ZeroMQ reads at a time: after so many there are more, as a rule, and it is not asked first."""
UNSENT = (zmq.EAGAIN, zmq.EHOSTUNREACH)
"""The queue is full; there is no connection any more."""


class End:
    """One end: a socket, with its methods bound once."""

    shows_all = True
    """`Poll` sees whatever it holds: see `libexo.ipc`."""
    messages: Sized
    """Messages taken out of the socket together with earlier ones."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        """Use *socket*, which is connected or bound."""
        self.socket = socket
        self.is_ready = False
        """A wait found a message."""
        self.is_quiet = False
        """It was asked, had nothing, and was not used since: its descriptor will tell of news."""
        # Without the wrapper in Python, which serves socket types that have groups and routing ids.
        self._send = super(zmq.Socket, socket).send
        self._recv: Any = socket.recv
        self.alone: list[tuple[Any, int]] = [(socket, _READABLE)]
        self._descriptor = cast("int", socket.getsockopt(zmq.FD))

    def look(self) -> bool:
        """Ask whether there is a message. Receiving without one would raise, at three times the cost."""
        found = bool(self.messages or zmq_poll(self.alone, 0))
        self.is_quiet = not found
        return found

    def fileno(self) -> int:
        """Return ZeroMQ's descriptor (edge-triggered)."""
        return self._descriptor

    def close(self) -> None:
        """Close the socket, and with it all connections."""
        self.is_quiet = False
        self.socket.close()


class ZmqPoll:
    """Waits for inboxes, channels and descriptors: as `select.poll`, but it looks into the first two.

    While all inboxes are quiet, their descriptors tell of news, and the host is asked once instead of many times.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        """Wait for *sources*."""
        self._ends = [source for source in sources if isinstance(source, End)]
        self._channels = {source.fileno(): source for source in sources if isinstance(source, StreamChannel)}
        plain = [source.fileno() for source in sources if not isinstance(source, End)]
        self._items: list[tuple[Any, int]] = [(end.socket, _READABLE) for end in self._ends]
        self._items += [(descriptor, _READABLE) for descriptor in plain]
        self._ask = Poll(sources).ask
        self._inboxes = {end.fileno() for end in self._ends}

    def poll(self, milliseconds: int = -1) -> Sequence[tuple[int, int]]:
        """Return the plain descriptors that have something, with their events; the others are told themselves."""
        ends, channels, quiet = self._ends, self._channels, True
        for end in ends:
            if end.messages:
                end.is_ready, end.is_quiet = True, False
                milliseconds = 0
            quiet = quiet and end.is_quiet
        for channel in channels.values():
            if channel.messages:
                milliseconds = 0
        found: list[tuple[Any, int]] = self._ask(milliseconds) if quiet else []
        if not quiet or not self._inboxes.isdisjoint([number for number, _ in found]):
            found = zmq_poll(self._items, 0 if quiet else milliseconds)
            for end in ends:
                end.is_quiet = not end.messages
                if found and found[0][0] is end.socket:  # in the order they were asked for
                    end.is_ready, end.is_quiet = True, False
                    del found[0]
        return [each for each in found if each[0] not in channels] if channels else found

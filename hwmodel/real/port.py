"""The kernel's end of one gate: packets in, packets out, and the descriptors that come with them."""

import array
import errno
import fcntl
import socket
import termios
from collections.abc import Callable, Iterable, Sequence

from hwmodel.errors import exhausted
from hwmodel.machine import Body, Descriptor, Exhausted, Supervisor
from hwmodel.real.descriptor import RealDescriptor
from hwmodel.real.loop import GONE, Loop, close_quietly
from kernel.abi.errors import Fault
from kernel.abi.limits import MAX_TRAP_BYTES, MAX_TRAP_DESCRIPTORS, MAX_UNREAD_DESCRIPTORS

MAX_PACKET_DESCRIPTORS = 253
"""Most descriptors the host lets one packet bring (SCM_MAX_FD)."""
ANCILLARY = socket.CMSG_SPACE(MAX_PACKET_DESCRIPTORS * array.array("i").itemsize)
"""Room for all of them: the host would close those without room here and now, however long that takes."""
# Plain numbers: an operation on members of an enum costs more than the system call they are for.
RECEIVE_FLAGS = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
SEND_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
CUT_BYTES, CUT = int(socket.MSG_TRUNC), int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
"""The host's marks of a packet that did not fit: some of its bytes; anything."""
LEFT = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
"""The host's errors for a packet whose reader is gone."""
UNHEARD = (errno.EAGAIN, *LEFT, errno.EBADF)
"""The host's errors for a packet without room, or without a reader."""
_OVERHEAD = 1 << 10
"""Bytes the host counts for a packet at most, besides what its content is rounded up to."""
AGAIN_NS = 10_000_000
"""Delay before listening again, when the host had no room for that."""
Ancillary = Iterable[tuple[int, int, bytes]]


class RealPort:
    """One gate; see `hwmodel.machine.Port`.

    It is read from `open` on, one packet in a turn of the loop: a program that floods its gate holds up no other.
    """

    def __init__(self, loop: Loop, end: socket.socket) -> None:
        self._loop = loop
        self._socket = end
        self._send = end.send
        self._receive = end.recvmsg
        self._room = end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self._bytes = array.array("i", [0])
        """Where the host writes how much is queued."""
        self._sent = 0
        """How much of what was offered may be unread, as the host counts it; when it is much, the host is asked."""
        self._lent = 0
        """Descriptors sent since everything was read. The host counts them against all of our uid."""
        self._is_read = self._is_held = False

    def open(self, body: Body, supervisor: Supervisor, ended: Callable[[], None]) -> None:
        """Hand every packet to *supervisor* as one of *body*; call *ended* when the other end is closed."""
        self._body = body
        self._trap = supervisor.trap
        self._broke = supervisor.broke
        self._ended = ended
        self._read()

    def has_asked(self) -> bool:
        """Say whether a packet waits to be read, or is being answered."""
        return self._is_held or self._queued(termios.FIONREAD) > 0

    def hold(self) -> None:
        """Read no packet until `resume`."""
        if self._is_read:
            self._is_held = True
            self._stop_reading()

    def resume(self) -> None:
        """Read packets again. Harmless when it is not held, or closed."""
        if not self._is_held:
            return
        try:
            self._read()
            self._is_held = False
        except Exhausted:
            self._loop.alarm(self._loop.now() + AGAIN_NS, self.resume)

    def _read(self) -> None:
        self._loop.watch(self._socket.fileno(), self._readable)
        self._is_read = True

    def _stop_reading(self) -> None:
        self._loop.unwatch(self._socket.fileno())
        self._is_read = False

    def send(self, data: bytes, descriptors: Sequence[Descriptor] = ()) -> bool:
        """Send one packet, without waiting; the descriptors are consumed. False: the peer does not read.

        Raises Exhausted: that is not the peer's fault.
        """
        try:
            if descriptors:
                if not self._lend(len(descriptors)):
                    return False
                send_packet(self._socket, data, descriptors)
            else:
                self._send(data, SEND_FLAGS)
        except OSError as error:
            if error.errno not in UNHEARD:
                raise exhausted(error.errno or 0) from error
            return error.errno in LEFT
        finally:
            for descriptor in descriptors:
                descriptor.close()
        return True

    def offer(self, data: bytes) -> bool:
        """Send one packet while half of the room is left for answers. False: not now.

        Nor while sent descriptors may be unread: packets behind them would hide that.
        """
        if self._lent or self._sent > self._room // 2:
            self._sent = self._queued(termios.TIOCOUTQ)
            if self._sent and self._lent:
                return False
            self._lent = 0
        if self._sent > self._room // 2:
            return False
        self._sent += _OVERHEAD + 2 * len(data)
        try:
            return self.send(data)
        except Exhausted:
            return False

    def _lend(self, count: int) -> bool:
        """Count *count* unread descriptors more. False: those are too many."""
        if self._lent and not self._queued(termios.TIOCOUTQ):
            self._lent = 0
        self._lent += count
        return self._lent <= MAX_UNREAD_DESCRIPTORS

    def _queued(self, direction: int) -> int:
        """Return how much the peer has not read (TIOCOUTQ), or we have not (FIONREAD), by the host's count."""
        fcntl.ioctl(self._socket, direction, self._bytes)
        return self._bytes[0]

    def close(self) -> None:
        """Close this end. Twice is harmless."""
        self._is_held = False
        self._stop_reading()
        self._socket.close()
        self.__dict__.pop("_body", None)  # it refers to us, and so do these
        self.__dict__.pop("_ended", None)

    def _readable(self, events: int) -> None:
        """Take one packet."""
        try:
            data, ancillary, flags, _ = self._receive(MAX_TRAP_BYTES, ANCILLARY, RECEIVE_FLAGS)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in UNHEARD:
                self._close_down()
            return  # or the host has no room for it now
        descriptors = take_descriptors(ancillary, self._loop.closer) if ancillary else []
        # An empty packet looks like the end; it is one only when the other side has closed.
        if not data and events & GONE:
            close_all(descriptors)
            self._close_down()
            return
        if flags & CUT or len(descriptors) > MAX_TRAP_DESCRIPTORS:
            # With more descriptors than a trap may bring, none is used: which of them are missing is
            # unknown, and the trap that needs them will say so.
            close_all(descriptors)
            descriptors = []
        if flags & CUT_BYTES:
            self._broke(self._body, Fault.TOO_LONG, "")
        else:
            self._trap(self._body, data, descriptors)

    def _close_down(self) -> None:
        """Stop listening: a closed peer would wake the loop for ever."""
        self._stop_reading()
        self._ended()


def send_packet(end: socket.socket, data: bytes, descriptors: Sequence[Descriptor]) -> None:
    """Send one packet with *descriptors*, which stay open here; raises OSError rather than wait."""
    numbers = array.array("i", [d.number for d in descriptors if isinstance(d, RealDescriptor)])
    end.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)], SEND_FLAGS)


class Received(RealDescriptor):
    """A descriptor that another process made: its closing may take any time."""

    __slots__ = ("_closer",)

    def __init__(self, number: int, closer: Callable[[int], None]) -> None:
        super().__init__(number)
        self._closer = closer

    def close(self) -> None:
        """Close it. Closing twice is harmless."""
        number, self.number = self.number, -1
        if number >= 0:
            self._closer(number)


def take_descriptors(ancillary: Ancillary, closer: Callable[[int], None] = close_quietly) -> list[Descriptor]:
    """Return an owner for each descriptor that came with a packet."""
    numbers = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return [Received(number, closer) for number in numbers]


def close_all(descriptors: Iterable[Descriptor]) -> None:
    """Close descriptors that nobody wants."""
    for descriptor in descriptors:
        descriptor.close()

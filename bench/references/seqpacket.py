"""Round trips over a bare sequenced-packet socket pair between two Python processes: the floor under a trap."""

import os
import socket

from bench.worker import peer, timed, work

REQUEST = b"\x92\x02\x90"
"""As long as an empty batch."""
SIZE = 4096


def serve(end: socket.socket) -> None:
    """Answer each packet with as much; one that asks for a descriptor gets an eventfd with it."""
    while request := end.recv(SIZE):
        if request == b"bind":
            number = os.eventfd(0)
            socket.send_fds(end, [request], [number])
            os.close(number)
        else:
            end.send(request)


def main() -> None:
    """Measure until stdin ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with peer(lambda: serve(theirs), own_session=True), ours:
        theirs.close()

        def null() -> None:
            ours.send(REQUEST)
            ours.recv(SIZE)

        def bind() -> None:
            ours.send(b"bind")
            _, (number,), _, _ = socket.recv_fds(ours, SIZE, 1)
            os.close(number)
            null()

        work({"null": lambda: timed(null), "bind": lambda: timed(bind)})


if __name__ == "__main__":
    main()

"""Round trips over a bare sequenced-packet socket pair between two Python processes: the floor under a trap."""

import os
import socket
from functools import partial

from bench.worker import Sampler, message_bytes, peer, round_trips, sweep, timed, work

REQUEST = b"\x92\x02\x90"
"""As long as an empty batch."""
SIZE = 4096


def serve(end: socket.socket) -> None:
    """Answer each packet with as much; one that asks for tickets gets two eventfds with it."""
    while request := end.recv(SIZE):
        if request == b"bind":
            tickets = [os.eventfd(0), os.eventfd(0)]
            socket.send_fds(end, [request], tickets)
            for ticket in tickets:
                os.close(ticket)
        else:
            end.send(request)


def calls(end: socket.socket, words: int) -> Sampler:
    """Return a sampler of round trips as long as an IPC of *words* words."""
    payload = bytes(message_bytes(words))

    def call() -> None:
        end.send(payload)
        end.recv(SIZE)

    return timed(call)


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
            _, tickets, _, _ = socket.recv_fds(ours, SIZE, 2)
            for ticket in tickets:
                os.close(ticket)
            null()

        def call(payload: bytes) -> bytes:
            ours.send(payload)
            return ours.recv(SIZE)

        fixed = {"null": lambda: timed(null), "bind": lambda: timed(bind)}
        work({**fixed, **round_trips(call), **sweep("call", partial(calls, ours))})


if __name__ == "__main__":
    main()

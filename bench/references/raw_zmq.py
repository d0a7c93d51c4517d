"""Bytes there and back over raw pyzmq: DEALER and ROUTER on a Unix socket, blocking, as its guide has it."""

import sys
import tempfile
from functools import partial

import zmq

from bench.worker import Sampler, message_bytes, peer, round_trips, sweep, timed, work

PAYLOAD = bytes(range(64))


def serve(address: str, context: "zmq.Context[zmq.Socket[bytes]] | None" = None) -> None:
    """Send back what comes."""
    router = (context or zmq.Context()).socket(zmq.ROUTER)
    router.bind(address)
    while True:
        router.send_multipart(router.recv_multipart())


def call(dealer: "zmq.Socket[bytes]", payload: bytes) -> bytes:
    """Send *payload* there and receive it back."""
    dealer.send(payload)
    return dealer.recv()


def calls(dealer: "zmq.Socket[bytes]", words: int) -> Sampler:
    """Return a sampler of calls as long as an IPC of *words* words."""
    return timed(partial(call, dealer, bytes(message_bytes(words))))


def main(*, own_session: bool) -> None:
    """Measure until stdin ends."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"ipc://{directory}/reference"
        with (
            peer(lambda: serve(address), own_session=own_session),
            zmq.Context() as context,
            context.socket(zmq.DEALER) as dealer,
        ):
            dealer.linger = 0
            dealer.connect(address)
            call(dealer, PAYLOAD)
            fixed = {"call": lambda: timed(partial(call, dealer, PAYLOAD))}
            work({**fixed, **round_trips(partial(call, dealer)), **sweep("call", partial(calls, dealer))})


if __name__ == "__main__":
    main(own_session="--one-session" not in sys.argv)

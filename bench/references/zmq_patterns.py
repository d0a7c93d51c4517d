"""Bytes there and back over raw pyzmq by its other patterns: `REQ REP` or `PAIR PAIR`, on a Unix socket."""

import sys
import tempfile

import zmq

from bench.worker import peer, round_trips, work


def serve(address: str, pattern: int) -> None:
    """Send back what comes."""
    server = zmq.Context().socket(pattern)
    server.bind(address)
    while True:
        server.send(server.recv())


def main(near: int, far: int) -> None:
    """Measure until stdin ends."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"ipc://{directory}/reference"
        with peer(lambda: serve(address, far), own_session=True), zmq.Context() as context:
            client = context.socket(near)
            client.linger = 0
            client.connect(address)

            def call(payload: bytes) -> bytes:
                client.send(payload)
                return client.recv()

            work(round_trips(call))
            client.close()


if __name__ == "__main__":
    main(*(getattr(zmq, name) for name in sys.argv[1:]))

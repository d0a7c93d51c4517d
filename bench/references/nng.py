"""Bytes there and back over pynng, REQ and REP on a Unix socket, blocking."""

import tempfile

import pynng

from bench.worker import peer, round_trips, work


def serve(address: str) -> None:
    """Send back what comes."""
    with pynng.Rep0(listen=address) as server:
        while True:
            server.send(server.recv())


def main() -> None:
    """Measure until stdin ends."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"ipc://{directory}/reference"
        with peer(lambda: serve(address), own_session=True), pynng.Req0() as client:
            client.dial(address, block=False)

            def call(payload: bytes) -> bytes:
                client.send(payload)
                return bytes(client.recv())

            work(round_trips(call))


if __name__ == "__main__":
    main()

"""64 bytes there and back over raw pyzmq: DEALER and ROUTER on a Unix socket, blocking, as its guide has it."""

import sys
import tempfile

import zmq

from bench.worker import peer, timed, work

PAYLOAD = bytes(range(64))


def serve(address: str) -> None:
    """Send back what comes."""
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(address)
    while True:
        router.send_multipart(router.recv_multipart())


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

            def call() -> None:
                dealer.send(PAYLOAD)
                dealer.recv()

            call()
            work({"call": lambda: timed(call)})


if __name__ == "__main__":
    main(own_session="--one-session" not in sys.argv)

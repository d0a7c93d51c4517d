"""One way over raw pyzmq, DEALER to ROUTER on a Unix socket, and one answer at the end."""

import tempfile
from functools import partial

import zmq

from bench.worker import SIZES, Sampler, bulks, each_of, peer, pieces, timed, work


def serve(address: str) -> None:
    """Take what comes; answer what is empty."""
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(address)
    while True:
        sender, message = router.recv_multipart()
        if not message:
            router.send_multipart([sender, b""])


def stream(dealer: "zmq.Socket[bytes]", message: bytes, count: int) -> None:
    """Send *message* so often; return when all were taken."""
    for _ in range(count):
        dealer.send(message)
    dealer.send(b"")
    dealer.recv()


def bulk(dealer: "zmq.Socket[bytes]", size: int) -> Sampler:
    """Return a sampler of *size* bytes. Each piece is waited for: a queue of them would not stay in the cache."""
    piece, count = pieces(size)

    def send() -> None:
        for _ in range(count):
            stream(dealer, piece, 1)

    return timed(send)


def main() -> None:
    """Measure until stdin ends."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"ipc://{directory}/reference"
        with peer(lambda: serve(address), own_session=True), zmq.Context() as context:
            dealer = context.socket(zmq.DEALER)
            dealer.connect(address)
            dealer.linger = 0
            each = partial(stream, dealer, bytes(range(SIZES[0])))
            work({"stream": lambda: each_of(each), **bulks({"bulk": partial(bulk, dealer)})})
            dealer.close()


if __name__ == "__main__":
    main()

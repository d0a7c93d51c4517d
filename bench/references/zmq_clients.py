"""One of several clients of a raw pyzmq ROUTER at the address given; the one told to `--serve` starts it, too."""

import contextlib
import sys
from functools import partial

import zmq

from bench.references import raw_zmq
from bench.worker import peer, span, work


def main(address: str, *, serves: bool) -> None:
    """Measure until stdin ends."""
    with contextlib.ExitStack() as open_:
        if serves:
            open_.enter_context(peer(lambda: raw_zmq.serve(address), own_session=True))
        dealer = open_.enter_context(zmq.Context()).socket(zmq.DEALER)
        dealer.linger = 0
        dealer.connect(address)
        raw_zmq.call(dealer, raw_zmq.PAYLOAD)
        work({"calls": lambda: span(partial(raw_zmq.call, dealer, raw_zmq.PAYLOAD))})
        dealer.close()


if __name__ == "__main__":
    main(sys.argv[1], serves="--serve" in sys.argv)

"""Round trips between two threads of one process: raw pyzmq in the process, and a bare packet socket pair."""

import socket
import threading
from collections.abc import Callable
from functools import partial

import zmq

from bench.references import raw_zmq, seqpacket
from bench.worker import Sampler, sweep, work

ADDRESS = "inproc://reference"


def started(serve: Callable[[], None]) -> Sampler:
    """Have a second thread *serve*; return what says, as often as it is asked, what the host calls that thread."""
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return lambda count: [thread.native_id or 0] * count


def main() -> None:
    """Measure until stdin ends; the threads begin when they are asked for."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(ADDRESS)
    work(
        {
            "zmq": lambda: started(lambda: raw_zmq.serve(ADDRESS, context)),
            **sweep("zmq", partial(raw_zmq.calls, dealer)),
            "packets": lambda: started(lambda: seqpacket.serve(theirs)),
            **sweep("packets", partial(seqpacket.calls, ours)),
        }
    )


if __name__ == "__main__":
    main()

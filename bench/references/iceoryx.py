"""Bytes there and back over iceoryx2: request and response in its shared memory, each told by an event."""

import ctypes
import os
from typing import Any

import iceoryx2 as iox

from bench.worker import SIZES, peer, round_trips, work


def services(name: str) -> tuple[Any, ...]:
    """Return that of calls, and the events that tell of requests and of responses."""
    node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
    calls, *told = (node.service_builder(iox.ServiceName.new(f"{name}-{part}")) for part in range(3))
    calls = calls.request_response(*[iox.Slice[ctypes.c_uint8]] * 2).open_or_create()
    return calls, *(event.event().open_or_create() for event in told)


def send(slot: Any, payload: Any) -> Any:  # noqa: ANN401 - iceoryx2 ships no types
    """Send *payload*, bytes or an address, in the memory of *slot*."""
    ctypes.memmove(slot.payload().as_ptr(), payload, slot.payload().len())
    return slot.assume_init().send()


def serve(name: str, ready: int) -> None:
    """Send back what comes."""
    calls, there, back = services(name)
    server = calls.server_builder().initial_max_slice_len(SIZES[-1]).create()
    listener, notifier = there.listener_builder().create(), back.notifier_builder().create()
    os.eventfd_write(ready, 1)
    while listener.blocking_wait() and (request := server.receive()):
        send(request.loan_slice_uninit(request.payload().len()), request.payload().as_ptr())
        notifier.notify()


def main() -> None:
    """Measure until stdin ends."""
    iox.set_log_level(iox.LogLevel.Error)
    name, ready = f"exo-bench-{os.getpid()}", os.eventfd(0)
    with peer(lambda: serve(name, ready), own_session=True):
        os.eventfd_read(ready)
        calls, there, back = services(name)
        client = calls.client_builder().initial_max_slice_len(SIZES[-1]).create()
        listener, notifier = back.listener_builder().create(), there.notifier_builder().create()

        def call(payload: bytes) -> bytes:
            pending = send(client.loan_slice_uninit(len(payload)), payload)
            notifier.notify()
            listener.blocking_wait()
            response = pending.receive()  # its memory is ours for as long as it lives
            return bytes(response.payload().as_memory_view())

        work(round_trips(call))
    calls.try_cleanup_dead_nodes()  # what the other side left on the host


if __name__ == "__main__":
    main()

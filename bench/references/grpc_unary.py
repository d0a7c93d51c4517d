"""Bytes there and back by a unary gRPC call on a Unix socket; no encoding, bytes as they are."""

import tempfile
from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.worker import peer, round_trips, work

SERVICE, METHOD = "reference.Echo", "echo"


def serve(address: str) -> None:
    """Send back what comes."""
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    handler = grpc.unary_unary_rpc_method_handler(lambda payload, context: payload)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def main() -> None:
    """Measure until stdin ends."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:{directory}/reference"
        with peer(lambda: serve(address), own_session=True), grpc.insecure_channel(address) as channel:
            echo = channel.unary_unary(f"/{SERVICE}/{METHOD}")

            def call(payload: bytes) -> bytes:
                return bytes(echo(payload, wait_for_ready=True))

            work(round_trips(call))


if __name__ == "__main__":
    main()

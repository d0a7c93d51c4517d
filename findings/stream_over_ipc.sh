#!/usr/bin/env bash
# ZMQ_STREAM, which the manual describes for TCP peers alone, works over ipc:// with any Unix stream socket.
#
# Guess:   "a socket of type ZMQ_STREAM is used to send and receive TCP data from a non-ZMQ peer, when using the tcp://
#          transport": over ipc:// it is refused with ENOCOMPATPROTO, as other combinations are.
# Seen:    pyzmq 27.3.0 (libzmq 4.3.5). bind and connect succeed; a plain AF_UNIX client exchanges raw bytes with it.
#          Each end gets a message with an empty body when the other connects, and another when it goes. Output:
#              two ZeroMQ ends: b'' b''
#              a plain client: b'' b'abc' xyz b''
# Matters: a ZeroMQ loop can serve local peers that speak bytes of their own (a console, a logger) without a TCP port;
#          and the empty messages must not be taken for what a peer said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install pyzmq==27.3.0
"$folder/venv/bin/python" - "$folder/socket" <<'PYTHON'
import socket
import sys

import zmq


def heard(end):
    assert end.poll(5000), "nothing came"
    return end.recv_multipart()


path = sys.argv[1]
context = zmq.Context()
server, client = context.socket(zmq.STREAM), context.socket(zmq.STREAM)
server.bind(f"ipc://{path}")
client.connect(f"ipc://{path}")
both = heard(server)[1], heard(client)[1]
with socket.socket(socket.AF_UNIX) as plain:
    plain.settimeout(5)
    plain.connect(path)
    peer, arrived = heard(server)
    plain.send(b"abc")
    said = heard(server)[1]
    server.send_multipart([peer, b"xyz"])
    answer = plain.recv(9).decode()
gone = heard(server)[1]
client.close(0)
server.close(0)
print("two ZeroMQ ends:", *both)
print("a plain client:", arrived, said, answer, gone)
assert both == (b"", b"")
assert (arrived, said, answer, gone) == (b"", b"abc", "xyz", b"")
PYTHON

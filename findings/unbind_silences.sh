#!/usr/bin/env bash
# Unbinding a ZeroMQ socket ends the connections it has accepted, late: each at its peer's next bytes, which are lost.
#
# Guess:   unbind stops accepting, as closing a listening socket does; who was accepted goes on.
# Seen:    pyzmq 27.3.0 (libzmq 4.3.5), over ipc and tcp alike. A plain client of a ZMQ_STREAM socket sees no end when
#          that is unbound; what it sends next does not arrive, and then its connection ends. A DEALER that a ROUTER had
#          heard is heard no more. Output:
#              ipc: heard b'before'; unbound, the connection is open; then heard nothing, and it is ended
#              tcp: heard b'before'; unbound, the connection is open; then heard nothing, and it is ended
#              ipc: router heard b'before', then nothing
#              tcp: router heard b'before', then nothing
# Matters: "accept one peer, then stop listening" cannot be had by unbind, and a server that winds down that way loses
#          one message of each client without a sign. The name of the end point has to be taken away otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install pyzmq==27.3.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import socket
import sys

import zmq

context = zmq.Context()


def bound(kind, transport, name):
    end = context.socket(kind)
    end.bind(f"ipc://{sys.argv[1]}/{name}" if transport == "ipc" else "tcp://127.0.0.1:*")
    return end, end.getsockopt_string(zmq.LAST_ENDPOINT)


def heard(end, patience=5000):
    return end.recv_multipart()[-1] if end.poll(patience) else None


def state(client):
    client.settimeout(1)
    try:
        return "talking" if client.recv(1) else "ended"
    except TimeoutError:
        return "open"


def plain(transport):
    end, address = bound(zmq.STREAM, transport, "stream")
    family = socket.AF_UNIX if transport == "ipc" else socket.AF_INET
    to = address.removeprefix("ipc://") if transport == "ipc" else ("127.0.0.1", int(address.rsplit(":", 1)[1]))
    with socket.socket(family) as client:
        client.connect(to)
        assert heard(end) == b""  # it is there
        client.send(b"before")
        before = heard(end)
        end.unbind(address)
        unbound = state(client)
        client.send(b"after")
        after = heard(end, 1000)
        then = state(client)
    end.close(0)
    return before, unbound, after, then


def routed(transport):
    end, address = bound(zmq.ROUTER, transport, "router")
    client = context.socket(zmq.DEALER)
    client.connect(address)
    client.send(b"before")
    before = heard(end)
    end.unbind(address)
    client.send(b"after")
    after = heard(end, 1000)
    client.close(0)
    end.close(0)
    return before, after


for transport in ("ipc", "tcp"):
    before, unbound, after, then = plain(transport)
    print(f"{transport}: heard {before}; unbound, the connection is {unbound}; then heard {after or 'nothing'}, and it is {then}")
    assert (before, unbound, after, then) == (b"before", "open", None, "ended")
for transport in ("ipc", "tcp"):
    before, after = routed(transport)
    print(f"{transport}: router heard {before}, then {after or 'nothing'}")
    assert (before, after) == (b"before", None)
PYTHON

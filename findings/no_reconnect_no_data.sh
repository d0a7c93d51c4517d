#!/usr/bin/env bash
# A ZeroMQ socket that is told never to reconnect forgets what its peer had sent before it closed.
#
# Guess:   ZMQ_RECONNECT_IVL = -1 ("no reconnection") changes what happens after a connection has ended, and nothing
#          of what arrived by it: bytes sent before a close are delivered, as by TCP and Unix sockets.
# Seen:    pyzmq 27.3.0 (libzmq 4.3.5), a ZMQ_STREAM socket that connects over ipc to a peer that sends 3000 bytes and
#          closes at once. By default they arrive; with -1 nothing is ever received, not even the sign of the
#          connection. While the peer stays until they were read, they arrive either way. Output:
#              default, closed at once: 3000 bytes
#              -1, closed at once: 0 bytes
#              -1, closed after they were read: 3000 bytes
# Matters: a last word (an answer and an end, an error message) is lost, on a good connection, by an option that seems
#          to be about new ones. A long interval instead of none keeps it.
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


def received(end, patience, wanted=1 << 30):
    data = b""
    while len(data) < wanted and end.poll(patience):
        data += end.recv_multipart()[1]
    return len(data)


def told(name, interval, at_once):
    path = f"{sys.argv[1]}/{name}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        end = context.socket(zmq.STREAM)
        if interval is not None:
            end.setsockopt(zmq.RECONNECT_IVL, interval)
        end.connect(f"ipc://{path}")
        peer, _ = listening.accept()
        peer.sendall(b"abc" * 1000)
        if at_once:
            peer.close()
        count = received(end, 1000, 1 << 30 if at_once else 3000)
        peer.close()
        end.close(0)
    return count


kept = told("default", None, True)
lost = told("never", -1, True)
read = told("read", -1, False)
print(f"default, closed at once: {kept} bytes")
print(f"-1, closed at once: {lost} bytes")
print(f"-1, closed after they were read: {read} bytes")
assert (kept, lost, read) == (3000, 0, 3000)
PYTHON

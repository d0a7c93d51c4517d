#!/usr/bin/env bash
# A ZeroMQ end point on an adopted socket can be renamed while it listens; what shows its address goes on showing the
# old one.
#
# Guess:   an ipc:// end point lives at its path: rename the socket file, and peers cannot connect, or the socket has to
#          be bound again.
# Seen:    pyzmq 27.3.0 (libzmq 4.3.5), Linux 6.18. A listening socket adopted with ZMQ_USE_FD is reached under the new
#          name at once. /proc/net/unix and LAST_ENDPOINT say the old name for ever, also for connections that were made
#          under the new one; closing removes neither file. Output:
#              delivered: b'hi'
#              in /proc/net/unix: bound bound
#              LAST_ENDPOINT: bound
#              left in the folder: renamed
# Matters: an end point can be made under a working name and moved to one that only its peer knows, and what every
#          user may read in /proc/net/unix does not give that name away. But whoever looks there, or at LAST_ENDPOINT,
#          for where to connect, looks in the wrong place.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install pyzmq==27.3.0
mkdir "$folder/sockets"
"$folder/venv/bin/python" - "$folder/sockets" <<'PYTHON'
import os
import socket
import sys

import zmq

folder = sys.argv[1]
bound, renamed = f"{folder}/bound", f"{folder}/renamed"
listener = socket.socket(socket.AF_UNIX)
listener.bind(bound)
listener.listen()
context = zmq.Context()
router = context.socket(zmq.ROUTER)
router.setsockopt(zmq.USE_FD, listener.detach())  # it is the router's to close now
router.bind(f"ipc://{bound}")
os.rename(bound, renamed)
dealer = context.socket(zmq.DEALER)
dealer.connect(f"ipc://{renamed}")
dealer.send(b"hi")
assert router.poll(5000), "nobody came under the new name"
delivered = router.recv_multipart()[1]
with open("/proc/net/unix") as table:
    shown = [os.path.basename(line.split()[-1]) for line in table if folder in line]
last = os.path.basename(router.LAST_ENDPOINT.rstrip(b"\0").decode())
dealer.close(0)
router.close(0)
left = os.listdir(folder)
print("delivered:", delivered)
print("in /proc/net/unix:", *shown)
print("LAST_ENDPOINT:", last)
print("left in the folder:", *left)
assert (delivered, set(shown), last, left) == (b"hi", {"bound"}, "bound", ["renamed"])
PYTHON

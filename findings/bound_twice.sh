#!/usr/bin/env bash
# Two ZeroMQ sockets can bind one ipc:// address, and nobody is told: the first hears no newcomer any more.
#
# Guess:   the second bind fails with EADDRINUSE, as over tcp://.
# Seen:    pyzmq 27.3.0 (libzmq 4.3.5). It succeeds: the path is unlinked and bound anew. New peers reach the second
#          socket; peers that were connected before still reach the first; its monitor reports nothing. Output:
#              tcp: EADDRINUSE
#              ipc: bound twice
#              a newcomer reaches: second
#              an old peer reaches: first
#              events at the first: 0
# Matters: a server that is started a second time by mistake takes the clients of the first from then on, half of the
#          conversations go on with the first, and no log says so. An ipc:// address needs a lock of its own beside it,
#          or an owner who makes the listening socket for everybody.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install pyzmq==27.3.0
"$folder/venv/bin/python" - "$folder/socket" <<'PYTHON'
import errno
import sys

import zmq

address = f"ipc://{sys.argv[1]}"
context = zmq.Context()
sockets = {name: context.socket(zmq.PULL) for name in ("first", "second", "tcp", "tcp again")}


def connected():
    push = context.socket(zmq.PUSH)
    push.connect(address)
    return push


def reached(push):
    push.send(b"for whom")
    poller = zmq.Poller()
    for name in ("first", "second"):
        poller.register(sockets[name], zmq.POLLIN)
    ((who, _),) = poller.poll(5000)
    who.recv()
    return next(name for name, each in sockets.items() if each is who)


sockets["tcp"].bind("tcp://127.0.0.1:*")
try:
    sockets["tcp again"].bind(sockets["tcp"].LAST_ENDPOINT)
    tcp = "bound twice"
except zmq.ZMQError as error:
    tcp = errno.errorcode[error.errno]
sockets["first"].bind(address)
old = connected()
assert reached(old) == "first"
monitor = sockets["first"].get_monitor_socket()
sockets["second"].bind(address)
new = reached(connected())
again, events = reached(old), monitor.poll(200)
print("tcp:", tcp)
print("ipc: bound twice")
print("a newcomer reaches:", new)
print("an old peer reaches:", again)
print("events at the first:", events)
assert (tcp, new, again, events) == ("EADDRINUSE", "second", "first", 0)
context.destroy(0)
PYTHON

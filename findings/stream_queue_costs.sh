#!/usr/bin/env bash
# What a ZMQ_STREAM socket keeps for a peer that does not read costs a multiple of its bytes, and each peer some 20 KiB.
#
# Guess:   a server that counts the bytes it has sent and its peer has not read knows what they cost it, but for some
#          per cent; a connection on which nothing happens costs some hundred bytes.
# Seen:    pyzmq 27.3.0 (libzmq 4.3.5), over ipc. 200,000 answers of 24 bytes, sent to a peer that reads nothing, are
#          4.8 MB, and the sender grows by 13 MB; with 40 bytes, it is about four times their number, for from 34 on
#          each has a block of the heap beside its queue entry of 64 bytes. Answers of 1,000 bytes cost little more
#          than that. An idle connection costs some 20 KiB, and 30 to 35 when its peer has sent more than is read,
#          although ZMQ_RCVHWM is 1. Output (the figures vary a little):
#              answers of 24 bytes: 2.7 times their bytes; of 40: 4.0 times; of 1000: 1.1 times
#              a connection: 21 KiB idle, 33 KiB when its peer sends more than is read
# Matters: who bounds by bytes what a peer may make him hold is wrong by a factor where it matters, for short answers
#          are what floods consist of; and a bound for each peer is none without one for how many there are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install pyzmq==27.3.0
cat > "$folder/measure.py" <<'PYTHON'
import socket
import sys
import time

import zmq

what, folder, size, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


def settled():
    before = -1
    while (now := resident()) != before:
        before = now
        time.sleep(0.3)
    return now


context = zmq.Context()
end = context.socket(zmq.STREAM)
end.setsockopt(zmq.RCVHWM, 1)
end.setsockopt(zmq.SNDHWM, 0)
end.bind(f"ipc://{folder}/{what}{size}")


def connected():
    client = socket.socket(socket.AF_UNIX)
    client.connect(f"{folder}/{what}{size}")
    return client, end.recv_multipart()[0]


first = connected()
if what == "answers":
    peer, answer = first[1], bytes(size)
    for _ in range(1000):
        end.send_multipart((peer, answer))
    before = settled()
    for _ in range(number):
        end.send_multipart((peer, answer))
    print((settled() - before) / (number * size))
else:
    before = settled()
    clients = [connected()[0] for _ in range(number)]
    idle = settled()
    for client in clients:
        client.setblocking(False)
        try:
            while True:
                client.send(bytes(8192))
        except BlockingIOError:
            pass
    print((idle - before) / number / 1024, (settled() - before) / number / 1024)
context.destroy(linger=0)
PYTHON
python="$folder/venv/bin/python"
short=$("$python" "$folder/measure.py" answers "$folder" 24 200000)
longer=$("$python" "$folder/measure.py" answers "$folder" 40 200000)
long=$("$python" "$folder/measure.py" answers "$folder" 1000 20000)
read -r idle full < <("$python" "$folder/measure.py" peers "$folder" 0 200)
"$python" - "$short" "$longer" "$long" "$idle" "$full" <<'PYTHON'
import sys

short, longer, long, idle, full = map(float, sys.argv[1:])
print(f"answers of 24 bytes: {short:.1f} times their bytes; of 40: {longer:.1f} times; of 1000: {long:.1f} times")
print(f"a connection: {idle:.0f} KiB idle, {full:.0f} KiB when its peer sends more than is read")
assert short > 2 > long and longer > short and 10 < idle < full
PYTHON

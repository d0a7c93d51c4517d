#!/usr/bin/env bash
# Stopping and continuing a process that has no signal handler makes some of its waits end early with EINTR, and which
# ones cannot be told from how they wait.
#
# Guess:   without a handler nothing is interrupted: SIGSTOP and SIGCONT freeze a wait, which goes on after. Or, having
#          read signal(7), that all on its list are: it names read(2) of an inotify descriptor.
# Seen:    Linux 6.18, glibc 2.36. Output:
#              epoll_wait: EINTR
#              semtimedop: EINTR
#              sigtimedwait: EINTR
#              recv with SO_RCVTIMEO: EINTR
#              poll: goes on
#              nanosleep: goes on
#              futex: goes on
#              recv: goes on
#              read of inotify: goes on
#          The same recv goes on or not by whether the socket has a time-out.
# Matters: a supervisor that takes the processor from a program by SIGSTOP is seen by it: C code that takes EINTR for an
#          error fails under a debugger, a job control shell or a scheduler, and only there. Python's own calls repeat
#          themselves (PEP 475); those made by a library inside it do not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/wait.py" <<'PYTHON'
import ctypes
import errno
import platform
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
seconds = struct.pack("ll", 30, 0)
room = ctypes.create_string_buffer(256)
kind = sys.argv[1]
ours, theirs = socket.socketpair()
if kind == "recv with SO_RCVTIMEO":
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
futex = {"x86_64": 202, "aarch64": 98}[platform.machine()]
queue = libc.semget(0, 1, 0o600) if kind == "semtimedop" else -1
waits = {
    "epoll_wait": lambda: libc.epoll_wait(libc.epoll_create1(0), room, 1, 30_000),
    "semtimedop": lambda: libc.semtimedop(queue, struct.pack("HhH", 0, -1, 0), 1, seconds),
    "sigtimedwait": lambda: libc.sigtimedwait(bytes(128), None, seconds),
    "recv with SO_RCVTIMEO": lambda: libc.recv(ours.fileno(), room, 8, 0),
    "poll": lambda: libc.poll(None, 0, 30_000),
    "nanosleep": lambda: libc.nanosleep(seconds, None),
    "futex": lambda: libc.syscall(futex, room, 0, 0, seconds, None, 0),
    "recv": lambda: libc.recv(ours.fileno(), room, 8, 0),
    "read of inotify": lambda: libc.read(libc.inotify_init(), room, 8),
}
print("ready", flush=True)
result = waits[kind]()
print(errno.errorcode[ctypes.get_errno()] if result < 0 else result, flush=True)
if queue >= 0:
    libc.semctl(queue, 0, 0, 0)
PYTHON
python3 - "$folder/wait.py" <<'PYTHON'
import select
import signal
import subprocess
import sys
import time

EXPECTED = {
    "epoll_wait": "EINTR", "semtimedop": "EINTR", "sigtimedwait": "EINTR", "recv with SO_RCVTIMEO": "EINTR",
    "poll": "goes on", "nanosleep": "goes on", "futex": "goes on", "recv": "goes on", "read of inotify": "goes on",
}


def until(pid, state):
    while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != state:
        time.sleep(0.001)


def seen(kind):
    with subprocess.Popen([sys.executable, sys.argv[1], kind], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        until(child.pid, "S")
        child.send_signal(signal.SIGSTOP)
        until(child.pid, "T")
        child.send_signal(signal.SIGCONT)
        said = select.select([child.stdout], [], [], 1)[0]
        result = child.stdout.readline().decode().strip() if said else "goes on"
        child.kill()
    return result


found = {kind: seen(kind) for kind in EXPECTED}
for kind, result in found.items():
    print(f"{kind}: {result}")
assert found == EXPECTED
PYTHON

#!/usr/bin/env bash
# Descriptors that were sent and not yet received count against the *user* who sent them, in all his processes together,
# up to the number one process may have open.
#
# Guess:   what is in flight costs the sender nothing, or counts in the process that sent it: one with 8 descriptors open
#          and a limit of 64 can send, and so can its siblings.
# Seen:    Linux 6.18, as an ordinary user with RLIMIT_NOFILE 64; who has CAP_SYS_RESOURCE or CAP_SYS_ADMIN is not
#          counted. Output:
#              sent by one process, over one socket: 65, then ETOOMANYREFS
#              sent by another, over another socket: 0, then ETOOMANYREFS
#              after the receiver took one: 1, then ETOOMANYREFS
# Matters: a service that hands out descriptors, under one uid with others, can be refused by the host because somebody
#          else's receiver does not read. The error names neither. One uid a service; count what is under way; never
#          blame the receiver at hand.
set -euo pipefail
as_user=()
if [ "$(id -u)" = 0 ]; then
    as_user=(setpriv --reuid=65531 --regid=65531 --clear-groups)
    python=/usr/bin/python3                      # one that this user can reach
fi
"${as_user[@]}" "${python:-python3}" - <<'PYTHON'
import errno
import os
import resource
import socket

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def fill(sender):
    """Send descriptors until the host refuses; return how many went, and how it refused."""
    sent = 0
    try:
        while sent < 128:
            socket.send_fds(sender, [b"."], [0], socket.MSG_DONTWAIT)
            sent += 1
    except OSError as error:
        return f"{sent}, then {errno.errorcode[error.errno]}"
    return f"{sent}, and no error"


ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
elsewhere, _receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
reading, writing = os.pipe()
seen = [fill(ours)]
if os.fork() == 0:
    os.write(writing, fill(elsewhere).encode())
    os._exit(0)
os.wait()
seen.append(os.read(reading, 99).decode())
_, (taken,), _, _ = socket.recv_fds(theirs, 1, 1)
os.close(taken)
seen.append(fill(elsewhere))
for what, text in zip(("sent by one process, over one socket", "sent by another, over another socket",
                       "after the receiver took one"), seen):
    print(f"{what}: {text}")
assert seen == ["65, then ETOOMANYREFS", "0, then ETOOMANYREFS", "1, then ETOOMANYREFS"]
PYTHON

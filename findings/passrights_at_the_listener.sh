#!/usr/bin/env bash
# With SO_PASSRIGHTS off, it is the *sender* of a descriptor who gets an error; and set on a listening socket it holds
# for connections that nobody has accepted yet.
#
# Guess:   as with its sibling SO_PASSCRED, the receiver decides what it is shown: the bytes arrive and the descriptors are
#          dropped. And a listening socket's option says nothing of who has connected and waits in the backlog.
# Seen:    Linux 6.18 (the option is of 6.16). send fails with EPERM and the bytes do not arrive; the accepted socket has
#          inherited the option, and can be given it back. Output:
#              to the backlog: EPERM
#              to the accepted socket: EPERM
#              bytes without a descriptor: sent
#              once switched on: sent
# Matters: a service that takes descriptors from those it has let in, and from nobody before, can say so once, at the
#          listener: nothing is parked in its backlog at the expense of others. Who sends must expect EPERM from a socket
#          that is otherwise open to him.
set -euo pipefail
python3 - <<'PYTHON'
import errno
import socket
import sys
import tempfile

SO_PASSRIGHTS = 83


def sent(client, descriptors):
    try:
        socket.send_fds(client, [b"."], descriptors)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "sent"


with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
    listener.bind(f"{folder}/socket")
    listener.listen()
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        sys.exit("this host is older than Linux 6.16")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(f"{folder}/socket")
    seen = {"to the backlog": sent(client, [0])}
    accepted, _ = listener.accept()
    seen["to the accepted socket"] = sent(client, [0])
    seen["bytes without a descriptor"] = sent(client, [])
    accepted.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 1)
    seen["once switched on"] = sent(client, [0])
for what, text in seen.items():
    print(f"{what}: {text}")
assert list(seen.values()) == ["EPERM", "EPERM", "sent", "sent"]
PYTHON

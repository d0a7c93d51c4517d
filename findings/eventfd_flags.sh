#!/usr/bin/env bash
# Of a shared eventfd, a read can be told not to wait, for that one call; a write cannot. Nor can its holder get flags
# of his own by opening it again, as he can with a pipe.
#
# Guess:   RWF_NOWAIT works on an eventfd in both directions or in none; failing that, /proc/self/fd/N opens it anew with
#          a file description, and so an O_NONBLOCK, that the other holder cannot change.
# Seen:    Linux 6.18, Python 3.11 (preadv2 and pwritev2 of glibc 2.36). Output:
#              read empty, RWF_NOWAIT: EAGAIN
#              read, RWF_NOWAIT: 8 bytes
#              write, RWF_NOWAIT: EOPNOTSUPP
#              O_NONBLOCK set by the other holder: in force for both
#              eventfd opened again: ENXIO
#              pipe opened again: flags of its own
# Matters: whoever shares an eventfd with a peer that need not be friendly can take from it without the risk of being
#          made to wait, but never add to it: the peer fills the counter and clears O_NONBLOCK. A doorbell between such
#          two has to be a pipe.
set -euo pipefail
python3 - <<'PYTHON'
import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)


class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def transfer(name, number, flags, value=0):
    """Call preadv2 or pwritev2 at the current position, with eight bytes."""
    buffer = ctypes.create_string_buffer(value.to_bytes(8, "little"), 8)
    piece = Piece(ctypes.addressof(buffer), 8)
    result = libc[name](number, ctypes.byref(piece), 1, ctypes.c_long(-1), flags)
    return f"{result} bytes" if result >= 0 else errno.errorcode[ctypes.get_errno()].replace("ENOTSUP", "EOPNOTSUPP")


def again(number):
    try:
        return os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return errno.errorcode[error.errno]


counter = os.eventfd(0)
other = os.dup(counter)  # as if a peer had been sent it
seen = [transfer("preadv2", counter, os.RWF_NOWAIT)]
os.eventfd_write(counter, 5)
seen.append(transfer("preadv2", counter, os.RWF_NOWAIT))
seen.append(transfer("pwritev2", counter, os.RWF_NOWAIT, 1))
os.set_blocking(other, False)
seen.append("in force for both" if not os.get_blocking(counter) else "its own")
seen.append(again(counter))
reading, _ = os.pipe()
opened = again(reading)
seen.append("flags of its own" if os.get_blocking(reading) and not os.get_blocking(opened) else "shared")
what = ("read empty, RWF_NOWAIT", "read, RWF_NOWAIT", "write, RWF_NOWAIT", "O_NONBLOCK set by the other holder",
        "eventfd opened again", "pipe opened again")
for line, text in zip(what, seen):
    print(f"{line}: {text}")
assert seen == ["EAGAIN", "8 bytes", "EOPNOTSUPP", "in force for both", "ENXIO", "flags of its own"]
PYTHON

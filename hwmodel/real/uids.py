"""Uids of environments: a block of them that no other system on this host uses.

A block is claimed by a lock on a file in a directory of root's. The host releases the lock when we die, and no
environment can lock what it cannot open. Where that directory cannot be made, as in a container whose /run is not
writable, the claim is an abstract socket name, which any program in the same network namespace could take first.
"""

import fcntl
import os
import socket
import stat
from collections import deque
from collections.abc import Callable

FIRST_UID = 200_000
"""Above the uids that hosts give to people and services, below those they give to containers."""
BLOCK = 2048
"""Twice as many as environments, so that a uid rests before it is used again."""
BLOCKS = 256
CLAIMS = "/run/exo-uids"
FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

Release = Callable[[], object]


class Uids:
    """Gives uids out. If we are not root there is only one, our own."""

    def __init__(self) -> None:
        self._release: Release | None = None
        self._free: deque[int] = deque()
        if os.geteuid() == 0:
            block, self._release = _claim_block()
            self._free.extend(range(FIRST_UID + block * BLOCK, FIRST_UID + (block + 1) * BLOCK))

    def take(self) -> int:
        """Return a uid that no living environment of this host has."""
        return self._free.popleft() if self._release is not None else os.getuid()

    def put_back(self, uid: int) -> None:
        """Let *uid* be used again, after all the others."""
        if self._release is not None:
            self._free.append(uid)

    def close(self) -> None:
        """Release the block."""
        if self._release is not None:
            self._release()


def _claim_block() -> tuple[int, Release]:
    """Claim the first free block; the host releases it when we die."""
    claim = _claim_file if _has_directory() else _claim_name
    for block in range(BLOCKS):
        release = claim(block)
        if release is not None:
            return block, release
    raise RuntimeError(f"all {BLOCKS} blocks of uids from {FIRST_UID} on are claimed by other systems")


def _has_directory() -> bool:
    """Make the directory for claims, which only root may write to; say whether it is there."""
    try:
        os.mkdir(CLAIMS, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    status = os.lstat(CLAIMS)
    is_ours = status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_ours and stat.S_ISDIR(status.st_mode) and os.access(CLAIMS, os.W_OK)


def _claim_file(block: int) -> Release | None:
    """Lock the file of *block*; None: another system has."""
    number = os.open(os.path.join(CLAIMS, str(FIRST_UID + block * BLOCK)), FILE_FLAGS, 0o600)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    return lambda: os.close(number)


def _claim_name(block: int) -> Release | None:
    """Bind the name of *block*; None: it is taken."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0exokernel-uids-{FIRST_UID + block * BLOCK}")
    except OSError:
        claim.close()
        return None
    return claim.close

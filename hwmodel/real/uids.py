"""The uids of environments: a block of them, which no other system on this host uses."""

import os
import socket
from collections import deque

FIRST_UID = 200_000
"""Above what hosts give to people and services, below what they give to containers of their own."""
BLOCK = 2048
"""Twice as many as environments, so that a uid rests before it is used again."""
BLOCKS = 256


class Uids:
    """Hands out uids. Where we are not root there is only one, our own."""

    def __init__(self) -> None:
        self._claim: socket.socket | None = None
        self._free: deque[int] = deque()
        if os.geteuid() == 0:
            block, self._claim = _claim_block()
            self._free.extend(range(FIRST_UID + block * BLOCK, FIRST_UID + (block + 1) * BLOCK))

    def take(self) -> int:
        """Return a uid that no living environment of this host has."""
        return self._free.popleft() if self._claim is not None else os.getuid()

    def put_back(self, uid: int) -> None:
        """Let *uid* be used again, after all the others."""
        if self._claim is not None:
            self._free.append(uid)

    def close(self) -> None:
        """Let another system have the block."""
        if self._claim is not None:
            self._claim.close()


def _claim_block() -> tuple[int, socket.socket]:
    """Claim the first free block by binding its name, which the host takes back when we die."""
    for block in range(BLOCKS):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0exokernel-uids-{FIRST_UID + block * BLOCK}")
        except OSError:
            claim.close()
        else:
            return block, claim
    raise RuntimeError(f"all {BLOCKS} blocks of uids from {FIRST_UID} on are claimed by other systems")

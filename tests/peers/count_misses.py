"""Count misses by libcachesim: `.peers/bin/python count_misses.py`, cases as JSON on standard input, counts out.

A case is a trace of page numbers and a number of frames. It imports nothing of ours: its environment is its own.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import libcachesim

NEVER = 1 << 62


def count(kind: str, trace: Sequence[int], frames: int) -> int:
    """How many references miss a cache of *kind*; Belady's is told when each page comes next."""
    cache: Any = getattr(libcachesim, kind)(frames)
    following: list[int] = []
    seen: dict[int, int] = {}
    for at, page in reversed(list(enumerate(trace))):
        following.append(seen.get(page, NEVER))
        seen[page] = at
    found = 0
    for page, following_at in zip(trace, reversed(following), strict=True):
        request: Any = libcachesim.Request()
        request.obj_id, request.obj_size, request.next_access_vtime = page, 1, following_at
        found += not cache.get(request)
    return found


if __name__ == "__main__":
    kinds = sys.argv[1:]
    sys.stdout.write(
        json.dumps([{kind: count(kind, *case) for kind in kinds} for case in json.load(sys.stdin)])
    )

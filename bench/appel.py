"""The measures of Appel and Li (1991) of what user programs need of virtual memory, three ways in one run.

Ours is a pager in a process of its own, over a window of who touches the pages. Beside it is plain Linux,
`mprotect` and SIGSEGV in one process, in C that is built for the run where there is a compiler; and the memory
server's pager, where the system has one, by what a program asks of it.

- `dirty`: 100 pages are written that were clean, then it is asked which were; a page's part.
- `prot1`, `prot100`, `unprot100`: one page, or 100 at once, are protected, or let go; as their pager measures it.
  The memory server's is asked by a call, which is measured, too.
- `trap`: a write to a page that is protected, which is let go.
- `appel1`: the same, and the page that was let go last is protected again (prot1 + trap + unprot).
- `appel2`: 100 pages are protected at once, then each is written (protN + trap + unprot); a page's part.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping

from bench.harness import Measure, Sampled, Subject, Worker, reference
from bench.references.protection import COMPILERS, compiler

TITLES: Mapping[str, str] = {
    "dirty": "dirty: a page of 100 written, and asked for",
    "prot1": "prot1: protect a page",
    "prot100": "prot100: protect 100 pages at once",
    "unprot100": "unprot100: let 100 pages go at once",
    "trap": "trap: a write to a protected page, which is let go",
    "appel1": "appel1: the same, and the last one is protected again",
    "appel2": "appel2: a page of 100 that are protected at once, and written",
}
BLOCKS: Mapping[str, int] = {"trap": 100, "appel1": 100, "appel2": 5, "dirty": 5}
"""Samples of a round; of those not named, `BLOCK`."""
BLOCK = 50
KEYS = tuple(TITLES)


@contextlib.contextmanager
def linux(core: int) -> Iterator[Worker | None]:
    """Give plain Linux's part on *core*; without a compiler there is none, which is said once."""
    if compiler() is None:
        print(f"plain Linux is left out: no C compiler ({', '.join(COMPILERS)}) is here", file=sys.stderr)
        yield None
    else:
        with reference("bench.references.protection", cores=(core,)) as plain:
            yield plain


def measure(key: str, toucher: Worker, plain: Worker | None, server: Worker | None) -> Measure:
    """Return the measure *key* of *toucher*, beside what there is."""
    beside: list[Subject] = [] if plain is None else [Sampled("mprotect and SIGSEGV in C", plain, key)]
    if server is not None:
        beside.append(Sampled("the memory server's pager, asked", server, key))
    return Measure(key, TITLES[key], Sampled("a pager in a process of its own", toucher, key), beside,
                   BLOCKS.get(key, BLOCK))  # fmt: skip

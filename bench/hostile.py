"""Programs that may take from others: how each is started, and what others had beside it."""

from collections.abc import Mapping, Sequence

from bench.system import PROGRAMS

_WORK = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done"
"""Some milliseconds of it."""
_SHELL = {
    "forks": f"while :; do ({_WORK}) & wait; done",
    "orphans": f"while :; do ( ({_WORK}) & ); done",
    "brood": "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do (while :; do :; done) & done; wait",
}
_OWN = ("critical", "threads", "naps", "timers", "signals", "stops", "yields", "shares")
ORDINARY = (str(PROGRAMS / "hostile.py"), "loop")
KINDS: Mapping[str, Sequence[str]] = {
    **{name: (str(PROGRAMS / "hostile.py"), name) for name in _OWN},
    **{name: ("sh", "-c", text) for name, text in _SHELL.items()},
}
"""The command of each; by a shell, those that make children: one at a time, ones it does not wait for, many."""
TELLS = {
    "critical": "says for ever that it must not be interrupted",
    "threads": "computes in 16 threads",
    "naps": "sleeps and wakes ten thousand times a second",
    "timers": "computes a little whenever a timer rings, 4,000 times a second",
    "signals": "sends itself signals",
    "stops": "stops itself",
    "yields": "gives up each slice at once",
    "shares": "gives up each slice at once, and asks for another part",
    "forks": "computes in children of some ms each",
    "orphans": "computes in children of children that it does not wait for",
    "brood": "computes in 16 children",
}
"""What each does."""


def lost(had: float, before: float, after: float) -> float:
    """Return how much of what they had beside an ordinary loop, *before* and *after*, others lost, in percent."""
    return 100 * (1 - 2 * had / (before + after))

"""Try policies: `python -m servers.scheduler.trial`, a Request as JSON on standard input, outcomes out.

It is what `exo sched compare` starts. A policy or program that is none ends it with status 2 and a line about that.
"""

import sys

import msgspec

from libexo.workload import USUAL, Described
from servers.scheduler.api import Choice
from servers.scheduler.choice import make
from servers.scheduler.settings import ShareRefused
from servers.scheduler.trial.outcome import tried


class Request(msgspec.Struct):
    """What to try."""

    policies: list[Choice]
    programs: list[Described] = []
    """None: the usual ones."""
    seconds: float = 10
    seed: int = 0


def main() -> int:
    """Answer one request."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    try:
        outcomes = [
            tried(str(each), make(each), request.programs or USUAL, int(request.seconds * 1e9), request.seed)
            for each in request.policies
        ]
    except (ShareRefused, ValueError) as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(outcomes))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

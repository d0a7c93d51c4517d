"""Shrinking: the smallest script that still fails, found by leaving things out."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from libexo.transport.faulty import Odds
from tests.model.script import ANY, NEVER, NIL, Ipc, Operation, Script

Fails = Callable[[Script], bool]
SEEDS = 3
"""How many orders a smaller script is tried in: leaving an operation out changes the order of the others."""


def shrink(script: Script, fails: Fails, budget: int = 2_000) -> Script:
    """Return the smallest script found that *fails*, in at most *budget* runs; *script* itself fails.

    Greedy: whole runs of operations are left out first (delta debugging), then single ones are made simpler.
    """
    runs = 0
    progress = True
    while progress and runs < budget:
        progress = False
        for smaller in candidates(script):
            found = _failing(smaller, fails)
            runs += SEEDS if found is None else found.seed - script.seed + 1
            if found is not None:
                script, progress = found, True
                break
            if runs >= budget:
                break
    return script


def _failing(script: Script, fails: Fails) -> Script | None:
    """Return *script*, with one of a few seeds, as it fails; None if it does with none."""
    for seed in range(script.seed, script.seed + SEEDS):
        attempt = replace(script, seed=seed)
        if fails(attempt):
            return attempt
    return None


def candidates(script: Script) -> Iterator[Script]:
    """Yield simpler scripts, those that leave out most first."""
    if script.odds != Odds():
        yield replace(script, odds=Odds())
    longest = max((len(operations) for operations in script.threads), default=0)
    for thread, operations in enumerate(script.threads):
        if operations:
            yield _with(script, thread, ())
    size = longest // 2
    while size:
        for thread, operations in enumerate(script.threads):
            for start in range(len(operations) - size, -1, -size):
                yield _with(script, thread, (*operations[:start], *operations[start + size :]))
        size //= 2
    for thread, operations in enumerate(script.threads):
        for at, operation in enumerate(operations):
            for simpler in simplify(operation):
                yield _with(script, thread, (*operations[:at], simpler, *operations[at + 1 :]))


def simplify(operation: Operation) -> Iterator[Operation]:
    """Yield simpler operations than *operation*; no chain of them comes back to it."""
    if not isinstance(operation, Ipc):
        return
    if operation.virtual != NIL:
        yield replace(operation, virtual=NIL)
    if NIL not in (operation.to, operation.sender):
        yield replace(operation, sender=NIL, receive=NEVER)
        yield replace(operation, to=NIL, send=NEVER, virtual=NIL, payload=0)
    if operation.sender >= 0 and operation.sender != operation.to:
        yield replace(operation, sender=ANY)
    if operation.send != NEVER:
        yield replace(operation, send=NEVER)
    if operation.receive != NEVER:
        yield replace(operation, receive=NEVER)


def _with(script: Script, thread: int, operations: tuple[Operation, ...]) -> Script:
    threads = (*script.threads[:thread], operations, *script.threads[thread + 1 :])
    return replace(script, threads=threads)

"""Who may send for whom (X.2 propagation)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from libexo.kip import Kip


def speaks_for(kip: "Kip", environment: int, thread: int, virtual: int, to: int) -> bool:
    """Say whether *thread* of *environment* may send for thread *virtual* to environment *to*.

    It may for threads of its own environment, to threads of its own environment, and where it is in the chain of
    redirectors of *virtual*'s environment.
    """
    row = kip.thread(virtual)
    if row is None:
        return False
    if environment in (row.environment, to):
        return True
    seen: set[int] = set()
    while row is not None and row.redirector and row.redirector not in seen:
        if row.redirector == thread:
            return True
        seen.add(row.redirector)
        row = kip.thread(row.redirector)
    return False

"""Systems in which something is planted that keeps a program from running, and what the trace says of it."""

from collections import Counter

from libexo.kip import Kip
from libexo.trace import Cause, History, Present, Ring, Why, explain
from tests.kernel.puppets import MS, Puppet, Theatre


def history(stage: Theatre, now: int = 0) -> History:
    """Return what the ring says."""
    published = stage.machine.published
    records = Ring(memoryview(published["trace"].buffer)).read()
    present = Present.of(Kip(memoryview(published["kip"].buffer)))
    return History(records, present, now or stage.machine.clock.now())


def why(stage: Theatre, name: str, milliseconds: float) -> Why:
    """Return why *name* did not run in the last *milliseconds*."""
    now = stage.machine.clock.now()
    return explain(history(stage), name, now - round(milliseconds * MS), now)


def spent(found: Why) -> dict[Cause, float]:
    """Return the time of each cause, in milliseconds, without splinters."""
    return {cause: ns / MS for cause, ns in found.spent.items() if ns > MS / 2}


def whom(found: Why, cause: Cause) -> list[str]:
    """Return of whom it is said, the longest first."""
    return [name for name, _ in found.whom.get(cause, Counter()).most_common()]


def hog(puppet: Puppet) -> None:
    """Let something outside the system have half of the core whenever *puppet* runs."""
    body = puppet.body
    compute = body.compute
    body.compute = lambda nanoseconds: compute(nanoseconds // 2)  # type: ignore[method-assign]

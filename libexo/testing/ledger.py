"""A ledger: what a system holds, counted before and after, with each difference named.

A snapshot is a mapping of the kind of thing to the things of that kind, each with a name people can act on.
`Ledger.of(machine, kernel)` fills in the kinds of every machine and kernel; a test adds its own.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self


class LeakError(AssertionError):
    """Something was not given back, or too much was."""


@dataclass(frozen=True)
class Ledger:
    """What is held, by kind: each thing by a name, as often as it is held."""

    held: Mapping[str, Counter[str]]

    @classmethod
    def take(cls, **kinds: Iterable[object]) -> Self:
        """Write down *kinds*: ``Ledger.take(frames=range(3), descriptors=machine.open_descriptors())``."""
        return cls({kind: Counter(str(thing) for thing in things) for kind, things in kinds.items()})

    def differences(self, after: Self) -> list[str]:
        """Return a line for each thing of which *after* has more or less."""
        lines = []
        for kind in sorted(self.held.keys() | after.held.keys()):
            was, now = self.held.get(kind, Counter()), after.held.get(kind, Counter())
            lines += [f"{kind}: {_times(n)}left over: {name}" for name, n in sorted((now - was).items())]
            lines += [f"{kind}: {_times(n)}missing: {name}" for name, n in sorted((was - now).items())]
        return lines

    def check(self, after: Self) -> None:
        """Raise LeakError that names every difference, if there is one."""
        if lines := self.differences(after):
            raise LeakError("not the same before and after:\n  " + "\n  ".join(lines))


def _times(number: int) -> str:
    return "" if number == 1 else f"{number} "

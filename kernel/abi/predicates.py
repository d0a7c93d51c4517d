"""Predicates, as a trap carries them: clauses, of which one is to be true, of terms, which are all to be true."""

from enum import IntEnum
from typing import Annotated

import msgspec

from kernel.abi.gate import Record, Small, Word
from kernel.abi.limits import MAX_CLAUSES, MAX_TERMS


class Source(IntEnum):
    """Where a value comes from if not from an extent: names of the slot that no handle names."""

    CONSTANT = 0
    """It is what is in place of the word's number."""
    CLOCK = 1 << 16
    """The machine's clock, in ns."""
    INTERFACE = 2 << 16
    """A word of the kernel interface page."""
    PAGE = 3 << 16
    """A word of the caller's environment page."""


class Operator(IntEnum):
    """How two values compare, as unsigned numbers."""

    EQUAL = 0
    DIFFERENT = 1
    LESS = 2
    AT_MOST = 3
    MORE = 4
    AT_LEAST = 5


class Outcome(IntEnum):
    """What there is to say of a predicate when it is not the number of a clause that is true."""

    IMPOSSIBLE = MAX_CLAUSES
    """Each clause reads something that was taken from the thread's environment."""
    WAITS = MAX_CLAUSES + 1
    """None is true so far."""
    NONE = MAX_CLAUSES + 2
    """The thread waits for no predicate of that number."""


class Term(Record):
    """A comparison of two values: the 64-bit word number `at` of `source`, and number `than` of `other`."""

    source: Small
    """A handle to an extent that is not paged, to be read; or a `Source`."""
    at: Word
    operator: Operator
    than: Word
    other: Small = 0
    """As `source`."""

    @property
    def since(self) -> int:
        """When it comes true, if it is a time, and then stays true; else 0."""
        rises = self.source == Source.CLOCK and self.other == Source.CONSTANT
        if rises and self.operator in (Operator.MORE, Operator.AT_LEAST):
            return self.than + (self.operator == Operator.MORE)
        return 0


Clause = Annotated[tuple[Term, ...], msgspec.Meta(min_length=1, max_length=MAX_TERMS)]
Clauses = Annotated[tuple[Clause, ...], msgspec.Meta(max_length=MAX_CLAUSES)]

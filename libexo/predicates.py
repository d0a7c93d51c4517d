"""Sleep until words of memory have values, or until a time: the kernel looks, and who writes makes no trap for it.

    from libexo.predicates import after, wait, word

    match wait(env, (word(view, 3) > 5) & (word(view, 4) == 7) | after(0.010)):
        case 0: ...  # both are true
        case 1: ...  # ten milliseconds are over

A comparison is a predicate; `&`, `|` and `~` make others of it. The kernel has it as a sum of products, *clauses*,
and says which clause is true: the first alternative is 0. `(a | b) & c` has two, `a & c` and `b & c`.

Words have 64 bits and are unsigned; *view* is a mapping of an extent, whole. Words are looked at every 2 ms: what
counts is what stands there, so what was true before the wait ends it at once, and what was true for less than that
may be missed. Messages wait meanwhile.

`wait` is `arm`, and then a receive from `Armed.sender`. A program that waits for messages, too, arms a predicate,
and then receives from anybody; one of asyncio awaits `libexo.aio.Thread.receive`.
"""

import itertools
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernel.abi.ids import KERNEL_PREDICATES, ThreadId, thread_id
from kernel.abi.kip import Head, Page
from kernel.abi.limits import MAX_CLAUSES, MAX_TERMS
from kernel.abi.predicates import Operator, Outcome, Source, Term
from libexo import timeouts
from libexo.errors import Impossible, IpcTimeout
from libexo.extent import Extent

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.ipc.message import Message
    from libexo.ipc.thread import Thread

_WORD = 1 << 64
_OPPOSITE = {
    Operator.EQUAL: Operator.DIFFERENT,
    Operator.LESS: Operator.AT_LEAST,
    Operator.MORE: Operator.AT_MOST,
}
_OPPOSITE |= {other: one for one, other in _OPPOSITE.items()}
_numbers = itertools.count(1, 2)
"""Odd, as versions of threads are."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One side of a comparison: a word of memory, of a page of the kernel's, or the clock."""

    source: "int | Extent | memoryview"
    at: int

    __hash__ = None  # type: ignore[assignment]

    def _compare(self, operator: Operator, other: object) -> "Predicate":
        if isinstance(other, int) and not 0 <= other < _WORD:
            raise ValueError(f"{other}: a word is a number from 0 to 2**64 - 1")
        if not isinstance(other, int | Value):
            raise TypeError(f"{other!r}: a word is compared with a number, or with another word")
        than = Value(Source.CONSTANT, int(other)) if isinstance(other, int) else other
        return Predicate(((Comparison(self, operator, than),),))

    def __eq__(self, other: object) -> "Predicate":  # type: ignore[override]
        """Say that they are equal."""
        return self._compare(Operator.EQUAL, other)

    def __ne__(self, other: object) -> "Predicate":  # type: ignore[override]
        """Say that they differ."""
        return self._compare(Operator.DIFFERENT, other)

    def __lt__(self, other: "Value | int") -> "Predicate":
        """Say that it is less."""
        return self._compare(Operator.LESS, other)

    def __le__(self, other: "Value | int") -> "Predicate":
        """Say that it is no more."""
        return self._compare(Operator.AT_MOST, other)

    def __gt__(self, other: "Value | int") -> "Predicate":
        """Say that it is more."""
        return self._compare(Operator.MORE, other)

    def __ge__(self, other: "Value | int") -> "Predicate":
        """Say that it is no less."""
        return self._compare(Operator.AT_LEAST, other)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """One term; with *after*, of a time that many ns after the wait begins."""

    one: Value
    operator: Operator
    other: Value
    after: bool = False

    def opposite(self) -> "Comparison":
        """Return what is true when this is not."""
        return Comparison(self.one, _OPPOSITE[self.operator], self.other, self.after)


@dataclass(frozen=True, slots=True, eq=False)
class Predicate:
    """A sum of products: one of the clauses is to be true, of which all terms are."""

    clauses: tuple[tuple[Comparison, ...], ...]

    def __post_init__(self) -> None:
        """Raise ValueError where there is more than the kernel takes."""
        if len(self.clauses) > MAX_CLAUSES or any(len(clause) > MAX_TERMS for clause in self.clauses):
            raise ValueError(
                f"{len(self.clauses)} clauses of up to {max(map(len, self.clauses))} terms: a predicate has "
                f"{MAX_CLAUSES} clauses of {MAX_TERMS} terms at most. Wait for part of it, then look at the rest"
            )

    def __and__(self, other: "Predicate") -> "Predicate":
        """Return what is true when both are."""
        return Predicate(tuple((*one, *two) for one in self.clauses for two in other.clauses))

    def __or__(self, other: "Predicate") -> "Predicate":
        """Return what is true when one is: the clauses of *other* follow."""
        return Predicate((*self.clauses, *other.clauses))

    def __invert__(self) -> "Predicate":
        """Return what is true when this is not."""
        first, *rest = (Predicate(tuple((term.opposite(),) for term in clause)) for clause in self.clauses)
        for each in rest:
            first &= each
        return first

    def __bool__(self) -> bool:
        """Refuse: `and`, `or` and `1 < word < 3` would ask for that."""
        raise TypeError(
            "a predicate is true when the kernel says so: join them by &, | and ~, in parentheses"
        )


def word(memory: "memoryview | Extent", number: int) -> Value:
    """Return the 64-bit word *number* of an extent, or of a mapping of one as `vm.map` returned it, or a cast."""
    size = memory.nbytes if isinstance(memory, memoryview) else memory.size
    if not 0 <= number < size // 8:
        raise ValueError(f"word {number} of {size // 8}: they are counted from 0")
    return Value(memory, number)


def interface(number: Head | int) -> Value:
    """Return word *number* of the kernel interface page, as `Head.FREE_FRAMES`."""
    return Value(Source.INTERFACE, number)


def own(number: Page | int) -> Value:
    """Return word *number* of the program's own environment page, as `Page.PREEMPTIONS`."""
    return Value(Source.PAGE, number)


clock = Value(Source.CLOCK, 0)
"""The clock in ns, as `env.host.now()` has it."""


def after(seconds: float) -> Predicate:
    """Return what is true *seconds* after the wait begins. Raises ValueError, TypeError."""
    later = Value(Source.CONSTANT, timeouts.nanoseconds(seconds))
    return Predicate(((Comparison(clock, Operator.AT_LEAST, later, after=True),),))


@dataclass(slots=True)
class Armed:
    """A predicate that a thread waits for; or, with a *clause*, one that was true at once."""

    environment: "Environment"
    predicate: Predicate
    thread: "Thread"
    number: int
    clause: int | None = None

    @property
    def sender(self) -> ThreadId:
        """Who sends the message that says which clause is true: nobody else, and nothing else."""
        return thread_id(KERNEL_PREDICATES, self.number)

    def read(self, message: "Message") -> int:
        """Return the clause that the message of `sender` names. Raises Impossible."""
        (found,) = message.words
        if found == Outcome.IMPOSSIBLE:
            raise Impossible(
                "all words of the predicate were taken from this program: none can come true any more"
            )
        return found

    def again(self) -> None:
        """Wait for the same anew, by one trap; times begin anew. Raises TrapRefused."""
        known, now = self.environment.views, self.environment.host.now()
        clauses = tuple(
            tuple(_term(known, each, now) for each in clause) for clause in self.predicate.clauses
        )
        found = self.environment.sys.wake_when(self.number, clauses, self.thread.id)
        self.clause = found if found < MAX_CLAUSES else None

    def cancel(self) -> bool:
        """Wait no longer; False: its message is there, or was received. Raises TrapRefused."""
        return self.environment.sys.wake_when(self.number, (), self.thread.id) == Outcome.WAITS


def arm(environment: "Environment", predicate: Predicate) -> Armed:
    """Have the calling thread told when *predicate* is true, by a message of `Armed.sender`.

    If it is true already, nothing is sent, and `clause` says so. Raises TrapRefused for memory that may not be
    read, or is paged, and over the budget; ValueError for a view that is no whole mapping.
    """
    armed = Armed(environment, predicate, environment.current, next(_numbers) % (1 << 32))
    armed.again()
    return armed


def wait(environment: "Environment", predicate: Predicate, timeout: float | None = None) -> int:
    """Sleep until *predicate* is true, and return the number of a clause that is.

    Raises IpcTimeout; Impossible when no clause can come true; else as `arm`.
    """
    armed = arm(environment, predicate)
    if armed.clause is not None:
        return armed.clause
    thread = armed.thread
    try:
        _, message = thread.receive(armed.sender, timeout)
    except BaseException as stopped:
        if armed.cancel():
            raise
        with suppress(IpcTimeout):  # its message is on its way, and must not come to a later receive
            _, message = thread.receive(armed.sender, 1)
            if isinstance(stopped, IpcTimeout):
                return armed.read(message)
        raise
    return armed.read(message)


def _term(views: Any, term: Comparison, now: int) -> Term:  # noqa: ANN401 - Views, as the environment has them
    """Return *term* as the kernel has it."""
    one, other, operator = term.one, term.other, term.operator
    than = min(other.at + (now if term.after else 0), _WORD - 1)
    return Term(_source(views, one), one.at, operator, than, _source(views, other))


def _source(views: Any, value: Value) -> int:  # noqa: ANN401
    source = value.source
    if isinstance(source, memoryview):
        handle: int = views.handle(source)
        return handle
    return source.handle if isinstance(source, Extent) else source

"""Scripts: what each of a few threads does, as data that can be made from a seed, shrunk, and printed as code.

Threads are counted from 0; the first of each environment is the one its program starts with. Payloads are the
names of messages: no two operations of a script have the same. Times are in microseconds.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from libexo.transport.faulty import Odds

NIL = -1
"""Nobody: no send phase, or no receive phase."""
ANY = -2
"""From-specifier: anybody."""
LOCAL = -3
"""From-specifier: anybody in the same environment."""
LAST = -4
"""Whoever the last message came from, as known when the operation begins; nobody if there was none."""
INTENDED = -5
"""For whom the last message was meant; nobody if it was meant for the thread itself."""
NEVER = 1 << 50
"""A time-out that never expires."""
_NAMES = {NIL: "NIL", ANY: "ANY", LOCAL: "LOCAL", LAST: "LAST", INTENDED: "INTENDED", NEVER: "NEVER"}


@dataclass(frozen=True, slots=True)
class Ipc:
    """One X.2 Ipc: send to *to*, then receive from *sender*; the time-outs of both phases in microseconds.

    With *virtual*, the message is propagated in that thread's name. *native*: by `libexo.ipc`, which has one phase,
    or both of a call in one time; what has no time-out there is not withdrawn.
    """

    to: int = NIL
    sender: int = NIL
    send: int = NEVER
    receive: int = NEVER
    payload: int = 0
    virtual: int = NIL
    native: bool = False

    @property
    def is_call(self) -> bool:
        """Whether it waits for the answer to what it sends."""
        return self.to == self.sender != NIL

    @property
    def is_kept(self) -> bool:
        """Whether what it sends is never withdrawn."""
        return self.native and self.to != NIL and self.send == NEVER


@dataclass(frozen=True, slots=True)
class Abort:
    """ExchangeRegisters on *thread* of the same environment: abort its *send* phase, its *receive* phase."""

    thread: int
    send: bool = True
    receive: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """Return: this thread is over, and with the first thread of an environment the environment is."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End the environment of *thread*, as the host would, whatever it is doing."""

    thread: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """SpaceControl: what *environment* sends to others goes to *thread*; NIL: no longer."""

    environment: int
    thread: int


Operation = Ipc | Abort | End | Kill | Redirect


@dataclass(frozen=True)
class Script:
    """The work of every thread, the seed of its order, and the fate of the messages."""

    environments: tuple[int, ...]
    """The environment of each thread, counted from 0."""
    threads: tuple[tuple[Operation, ...], ...]
    seed: int = 0
    odds: Odds = field(default_factory=Odds)
    native: tuple[int, ...] = ()
    """The environments whose threads use `libexo.ipc`; those of the others use X.2."""

    @property
    def steps(self) -> int:
        """How many operations it has."""
        return sum(len(operations) for operations in self.threads)

    def first(self, environment: int) -> int:
        """Return the first thread of *environment*."""
        return self.environments.index(environment)

    def code(self) -> str:
        """Return it as Python, ready to be pasted into a regression test."""
        lines = ["Script(", f"    environments={self.environments!r},", "    threads=("]
        for number, operations in enumerate(self.threads):
            lines.append(f"        (  # thread {number}")
            lines += [f"            {show(operation)}," for operation in operations]
            lines.append("        ),")
        lines += ["    ),", f"    seed={self.seed},", f"    odds={self.odds!r},"]
        lines += [f"    native={self.native!r},", ")"] if self.native else [")"]
        return "\n".join(lines)


def show(operation: Operation) -> str:
    """Return *operation* as Python, without the arguments that have their default."""
    arguments = []
    for name, default in _defaults(operation).items():
        value = getattr(operation, name)
        if value != default or isinstance(operation, Abort):
            arguments.append(f"{name}={_NAMES.get(value, repr(value))}")
    return f"{type(operation).__name__}({', '.join(arguments)})"


def _defaults(operation: Operation) -> dict[str, object]:
    return {name: f.default for name, f in type(operation).__dataclass_fields__.items()}


# ------------------------------------------------------------------------------------------------- generation

CAST = (
    (0, 1),
    (0, 0),
    (0, 1, 2),
    (0, 0, 1, 2),
    (0, 0, 1, 1, 2),
    (0, 0, 0, 1, 1, 2, 3),
    (0, 0, 0, 1, 1, 2, 3, 4),
    (0, 1, 2, 3, 4, 5, 6, 7),
    (0, 0, 1, 1, 2, 2, 3, 3),
)
"""Who shares an environment with whom; the larger casts are drawn as often as the small ones."""
_LONG = (5_000, 12_000, 32_000)
_SLEEPS = (3_500, 8_000, 20_000)
"""Each of these is a time that X.2 can write exactly."""


@dataclass(frozen=True)
class Taste:
    """Weights of the kinds of operations that a generator draws; none of an unsupported kind."""

    cancels: float = 1.0
    deaths: float = 0.15
    propagation: float = 1.0
    redirection: float = 0.0
    native: float = 0.0
    """How many of the environments are native."""
    odds: Odds = field(default_factory=Odds)


class Author:
    """Draws the operations of one script."""

    def __init__(self, seed: int, length: int, taste: Taste, environments: tuple[int, ...] = ()) -> None:
        self._random = random.Random(f"{seed}/script")
        self._taste = taste
        self._length = length
        self._environments = environments or self._random.choice(CAST)
        self._seed = seed
        self._payloads = 0
        self._kinds: list[tuple[Callable[[int], Operation], float]] = [
            (self._call, 3.0),
            (self._send, 2.5),
            (self._wait, 3.0),
            (self._reply_wait, 4.0),
            (self._receive, 1.5),
            (self._exchange, 1.0),
            (self._sleep, 1.0),
            (self._abort, 0.9 * taste.cancels),
            (self._propagate, 0.8 * taste.propagation),
            (self._die, 0.2 * taste.deaths),
            (self._redirect, 0.3 * taste.redirection),
            (self._forward, 1.2 * taste.redirection),
        ]

    def script(self) -> Script:
        """Draw it."""
        kinds, weights = zip(*self._kinds, strict=True)
        threads = []
        for me in range(len(self._environments)):
            bias = [weight * self._random.choice((0.3, 1, 1, 2)) for weight in weights]
            drawn = self._random.choices(kinds, bias, k=self._length)
            threads.append(tuple(kind(me) for kind in drawn))
        spaces = range(max(self._environments) + 1) if self._taste.native else ()
        native = tuple(space for space in spaces if self._random.random() < self._taste.native)
        return Script(self._environments, tuple(threads), self._seed, self._taste.odds, native)

    def _other(self, me: int) -> int:
        """Return a partner: mostly a neighbour, so that they meet; now and then the thread itself."""
        count = len(self._environments)
        step = self._random.choice((1, 1, 1, 2, count - 1, self._random.randrange(count)))
        return (me + step) % count

    def _timeout(self, *, zero: float = 0.15, never: float = 0.08) -> int:
        draw = self._random.random()
        if draw < zero:
            return 0
        return NEVER if draw > 1 - never else self._random.choice(_LONG)

    def _payload(self) -> int:
        self._payloads += 1
        return self._payloads

    def _call(self, me: int) -> Operation:
        to = self._other(me)
        return Ipc(to, to, self._timeout(), self._timeout(zero=0.05), self._payload())

    def _send(self, me: int) -> Operation:
        return Ipc(self._other(me), NIL, self._timeout(), payload=self._payload())

    def _wait(self, me: int) -> Operation:
        return Ipc(NIL, self._source(), receive=self._timeout())

    def _source(self) -> int:
        return LOCAL if self._random.random() < 0.15 else ANY

    def _receive(self, me: int) -> Operation:
        return Ipc(NIL, self._other(me), receive=self._timeout())

    def _reply_wait(self, me: int) -> Operation:
        send = 0 if self._random.random() < 0.6 else self._timeout()
        return Ipc(LAST, self._source(), send, self._timeout(), self._payload())

    def _exchange(self, me: int) -> Operation:
        """Send to one, receive from another: what only the combined call can do atomically."""
        return Ipc(self._other(me), self._other(me), self._timeout(), self._timeout(), self._payload())

    def _sleep(self, me: int) -> Operation:
        return Ipc(NIL, me, receive=self._random.choice(_SLEEPS))

    def _neighbours(self, me: int) -> list[int]:
        mine = self._environments[me]
        return [t for t, e in enumerate(self._environments) if e == mine and t != me]

    def _abort(self, me: int) -> Operation:
        others = self._neighbours(me) if self._random.random() < 0.95 else [self._other(me)]
        if not others or others == [me]:
            return self._wait(me)
        send, receive = self._random.choice(((True, True), (True, False), (False, True), (False, False)))
        return Abort(self._random.choice(others), send, receive)

    def _propagate(self, me: int) -> Operation:
        """Pass a message on in the name of the last one's sender, or of a neighbour."""
        virtual = self._random.choice([LAST, *self._neighbours(me), self._other(me)])
        return replace(self._ipc(me), virtual=virtual)

    def _ipc(self, me: int) -> Ipc:
        drawn = self._random.choice((self._send, self._call))(me)
        assert isinstance(drawn, Ipc)
        return drawn

    def _die(self, me: int) -> Operation:
        return End() if self._random.random() < 0.3 else Kill(self._random.randrange(len(self._environments)))

    def _redirect(self, me: int) -> Operation:
        """Set or clear the redirector of any environment but the last, which is where redirectors live."""
        last = max(self._environments)
        if not last:
            return self._wait(me)
        thread = NIL if self._random.random() < 0.4 else self._environments.index(last)
        return Redirect(self._random.randrange(last), thread)

    def _forward(self, me: int) -> Operation:
        """A redirector's work: deliver a message to its intended receiver in its sender's name."""
        return Ipc(INTENDED, ANY, self._timeout(), self._timeout(), self._payload(), LAST)


def generate(
    seed: int, length: int = 25, taste: Taste | None = None, environments: tuple[int, ...] = ()
) -> Script:
    """Draw a script of *length* operations a thread, of *environments* or a drawn cast."""
    return Author(seed, length, taste or Taste(), environments).script()
